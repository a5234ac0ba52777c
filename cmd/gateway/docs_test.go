package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// repository is the root of the tree, seen from this package.
const repository = "../.."

// readDoc returns a file of the repository.
func readDoc(tb testing.TB, path string) string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(repository, path))
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// sources returns the paths, from the root, of all files with the suffix that are ours.
func sources(tb testing.TB, suffix string) []string {
	tb.Helper()
	var found []string
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git" || d.Name() == "bin" || d.Name() == "coverage"):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, suffix):
			rel, err := filepath.Rel(repository, path)
			found = append(found, rel)
			return err
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	if len(found) == 0 {
		tb.Fatalf("no file ends with %s", suffix)
	}
	return found
}

// TestSettingsTable: the table in docs/configuration.md is what `gateway config docs` prints.
func TestSettingsTable(t *testing.T) {
	const begin, end = "<!-- begin: gateway config docs -->\n", "<!-- end -->"
	_, rest, ok := strings.Cut(readDoc(t, "docs/configuration.md"), begin)
	got, _, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("docs/configuration.md has no table between %q and %q", begin, end)
	}
	want, _, err := execute(t, nil, "", "config", "docs")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(got)); diff != "" {
		t.Errorf("docs/configuration.md is out of date: put in what `go run ./cmd/gateway config docs` prints. Want (-), got (+):\n%s", diff)
	}
}

// TestSettingsNamed: every flag that our pages name exists, in serve or in another subcommand.
func TestSettingsNamed(t *testing.T) {
	var help strings.Builder
	calls := [][]string{{"bench", "compare"}, {"bench", "lease"}}
	for _, name := range program().Names() {
		if name != "version" { // it has no help
			calls = append(calls, []string{name})
		}
	}
	for _, call := range calls {
		stdout, stderr, err := execute(t, nil, "", append(call, "--help")...)
		if err != nil {
			t.Fatalf("%s --help: %v", call, err)
		}
		help.WriteString(stdout + stderr)
	}
	known := regexp.MustCompile(`--[a-z][a-z-]*`).FindAllString(help.String(), -1)
	named := regexp.MustCompile("`(--[a-z-]+)")
	for _, page := range sources(t, ".md") {
		for _, m := range named.FindAllStringSubmatch(readDoc(t, page), -1) {
			if !slices.Contains(known, m[1]) {
				t.Errorf("%s: there is no flag %s", page, m[1])
			}
		}
	}
}

var (
	codeBlock = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	codeSpan  = regexp.MustCompile("`[^`\n]*`")
	link      = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading   = regexp.MustCompile(`(?m)^#+ +(.+)$`)
)

// anchors returns what headings of a page can be linked to, as GitHub makes it.
func anchors(markdown string) map[string]bool {
	found := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(markdown, ""), -1) {
		var b strings.Builder
		for _, c := range strings.ToLower(m[1]) {
			switch {
			case unicode.IsLetter(c), unicode.IsDigit(c), c == '-', c == '_':
				b.WriteRune(c)
			case c == ' ':
				b.WriteByte('-')
			}
		}
		found[b.String()] = true
	}
	return found
}

// TestLinks: what our pages link to inside the repository exists, headings included.
func TestLinks(t *testing.T) {
	t.Parallel()
	headings := make(map[string]map[string]bool) // page → anchors, because many links lead to few pages
	for _, page := range sources(t, ".md") {
		text := readDoc(t, page)
		text = codeSpan.ReplaceAllString(codeBlock.ReplaceAllString(text, ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			u, err := url.Parse(m[1])
			if err != nil {
				t.Errorf("%s: link %q: %v", page, m[1], err)
				continue
			}
			if u.IsAbs() {
				continue
			}
			target := page
			if u.Path != "" {
				target = filepath.Join(filepath.Dir(page), u.Path)
			}
			if _, err := os.Stat(filepath.Join(repository, target)); err != nil {
				t.Errorf("%s: link to %s, which does not exist", page, m[1])
				continue
			}
			if u.Fragment == "" || !strings.HasSuffix(target, ".md") {
				continue
			}
			if headings[target] == nil {
				headings[target] = anchors(readDoc(t, target))
			}
			if !headings[target][u.Fragment] {
				t.Errorf("%s: link to %s, which has no such heading", page, m[1])
			}
		}
	}
}

// TestMetricsReference: docs/observe.md names every metric of ours and no other.
func TestMetricsReference(t *testing.T) {
	inCode := make(map[string]bool)
	quoted := regexp.MustCompile(`"(orgcast_[a-z_]+)"`)
	for _, path := range sources(t, "metrics.go") {
		for _, m := range quoted.FindAllStringSubmatch(readDoc(t, path), -1) {
			inCode[m[1]] = true
		}
	}
	inDoc := make(map[string]bool)
	row := regexp.MustCompile("(?m)^\\| `(orgcast_[a-z_]+)`")
	for _, m := range row.FindAllStringSubmatch(readDoc(t, "docs/observe.md"), -1) {
		inDoc[m[1]] = true
	}
	want, got := slices.Sorted(maps.Keys(inCode)), slices.Sorted(maps.Keys(inDoc))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics in metrics.go (-), in the tables of docs/observe.md (+):\n%s", diff)
	}
}

// TestAlertsSeeTheFirst: every metric that the rules and the dashboard of deploy/monitoring name
// exists, and what an alert watches for a label is there before anything has happened. A counter that
// appears with 1 has not risen, as Prometheus sees it.
func TestAlertsSeeTheFirst(t *testing.T) {
	redisAddr := redistest.Start(t)
	s := startServe(t, redisAddr, environment{
		"ORGCAST_CHANNEL_LAYER": "core", "ORGCAST_CHANNEL_LAYER_REDIS": "redis://" + redisAddr + "/1",
		"ORGCAST_WEBHOOK_URL": "http://127.0.0.1:9/", "ORGCAST_WEBHOOK_KEY": testWebhookKey,
	})
	_, metrics := s.ask(http.MethodGet, "/metrics", "")

	w := newServing(t, redisAddr, nil) // a worker's private listener, asked in the same way
	ctx, cancel := context.WithCancel(t.Context())
	go func() { w.done <- run(ctx, []string{"worker"}, w.env.get, strings.NewReader(""), io.Discard, w.log) }()
	defer w.wait()
	defer cancel()
	testkit.Eventually(t, "working", func() bool {
		_, rest, ok := strings.Cut(w.log.String(), `"private":"`)
		w.private, _, _ = strings.Cut(rest, `"`)
		return ok
	})
	_, ofWorker := w.ask(http.MethodGet, "/metrics", "")
	metrics += ofWorker
	if builds := regexp.MustCompile(`(?m)^orgcast_build_info\{go_version="go1[^"]+",revision="[^"]*",version="dev"\} 1$`).FindAllString(metrics, -1); len(builds) != 2 {
		t.Errorf("builds of gateway and worker: got %q", builds)
	}
	rules := readDoc(t, "deploy/monitoring/rules.yaml")
	watched := regexp.MustCompile(`(orgcast_[a-z_]+)\{([a-z]+=~?"[^}]*)\}`).FindAllStringSubmatch(rules, -1)
	if len(watched) == 0 {
		t.Fatal("no rule watches a label")
	}
	matcher := regexp.MustCompile(`([a-z]+)=~?"([a-z0-9_.|]+)"`)
	for _, m := range watched {
		if m[1] == "orgcast_outgoing_calls_total" {
			continue // its alert is about a share, and nothing fails before the first call
		}
		for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
			for value := range strings.SplitSeq(label[2], "|") {
				series := regexp.MustCompile(`(?m)^` + m[1] + `\{([a-z_]+="[^"]*",)*` + label[1] + `="` + regexp.QuoteMeta(value) + `"`)
				if !series.MatchString(metrics) {
					t.Errorf("a fresh gateway has no %s{%s=%q}", m[1], label[1], value)
				}
			}
		}
	}
	// What appears with the first call, the first run, the first handshake or TLS only.
	later := []string{
		"orgcast_outgoing_calls_total", "orgcast_certificate_expiry_timestamp_seconds", "orgcast_connections_closed_total",
		"orgcast_task_attempts_total", "orgcast_task_seconds", "orgcast_task_wait_seconds",
	}
	named := regexp.MustCompile(`job:[a-z0-9_:]+`).ReplaceAllString(rules+readDoc(t, "deploy/monitoring/dashboard.json"), "")
	for _, name := range regexp.MustCompile(`\b(?:orgcast|process|go)_[a-z0-9_]+`).FindAllString(named, -1) {
		family := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
		there := regexp.MustCompile(`(?m)^` + name + `(_bucket)?[ {]`).MatchString(metrics)
		if !there && (!slices.Contains(later, family) || !strings.Contains(readDoc(t, "docs/observe.md"), "| `"+family+"`")) {
			t.Errorf("rules.yaml or dashboard.json names %s, which no process exports", name)
		}
	}
	for _, reason := range []string{"too_large", "not_utf8", "not_an_object", "duplicate_field", "invalid_type", "no_organization", "panic"} { // of OrgcastBadEvents
		if want := `orgcast_events_dropped_total{reason="` + reason + `"} 0`; !strings.Contains(metrics, want) {
			t.Errorf("a fresh gateway has no %s", want)
		}
	}
}

// TestNamedTestsExist: the tests that our pages call as witnesses are there.
func TestNamedTestsExist(t *testing.T) {
	tests := make(map[string]bool) // package and name
	clause := regexp.MustCompile(`(?m)^package (\w+?)(?:_test)?$`)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
	for _, path := range sources(t, "_test.go") {
		text := readDoc(t, path)
		for _, m := range function.FindAllStringSubmatch(text, -1) {
			tests[clause.FindStringSubmatch(text)[1]+"."+m[1]] = true
		}
	}
	for _, page := range []string{"docs/security.md", "docs/reliability.md", "docs/models/README.md"} {
		named := regexp.MustCompile("`([a-z]+\\.(?:Test|Fuzz|Example)\\w*)`").FindAllStringSubmatch(readDoc(t, page), -1)
		if len(named) == 0 {
			t.Errorf("%s names no test", page)
		}
		for _, m := range named {
			if !tests[m[1]] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
}

// TestModelGuards: each guard of the models stands in their page's table, and the other way round.
func TestModelGuards(t *testing.T) {
	guards := func(pattern string, texts ...string) (names []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(strings.Join(texts, "\n"), -1) {
			names = append(names, m[1])
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	models := guards(`\bNO_([A-Z_]+)`, readDoc(t, "docs/models/lease.pml"), readDoc(t, "docs/models/delivery.pml"))
	table := guards("(?m)^\\| `([A-Z_]+)`: .* \\| `", readDoc(t, "docs/models/README.md"))
	if len(models) == 0 || !slices.Equal(models, table) {
		t.Errorf("guards: the models have %v, their page has %v", models, table)
	}
}

// section returns the part of a document under a heading.
func section(tb testing.TB, doc, heading string) string {
	tb.Helper()
	_, after, ok := strings.Cut(doc, "\n## "+heading+"\n")
	if !ok {
		tb.Fatalf("no section %q", heading)
	}
	text, _, _ := strings.Cut(after, "\n## ")
	return text
}

// TestTokenInProtocol: the signed token that docs/protocol.md shows for its snippets to be held
// against is the one that the gateway takes.
func TestTokenInProtocol(t *testing.T) {
	const key, organization, name, expires = "0123456789abcdef0123456789abcdef", "acme", "invoice_7", 1_800_000_000
	org, err := orgctx.ParseID(organization)
	group, groupErr := event.NewGroup(org, name)
	if err := errors.Join(err, groupErr); err != nil {
		t.Fatal(err)
	}
	page, want := readDoc(t, "docs/protocol.md"), consumer.SignGroup([]byte(key), group, time.Unix(expires, 0))
	for _, part := range []string{key, organization, name, "1800000000", want} {
		if !strings.Contains(page, part) {
			t.Errorf("docs/protocol.md does not show %s", part)
		}
	}
}

// TestKubernetesProbe: the probe that docs/deploy.md has the kubelet run is a subcommand, and the
// image has it there.
func TestKubernetesProbe(t *testing.T) {
	probe := regexp.MustCompile(`exec: \{command: \["(/\w+)", "(\w+)"\]\}`).FindStringSubmatch(section(t, readDoc(t, "docs/deploy.md"), "Kubernetes"))
	if probe == nil {
		t.Fatal("docs/deploy.md has no exec probe")
	}
	if !slices.Contains(program().Names(), probe[2]) {
		t.Errorf("there is no subcommand %s", probe[2])
	}
	if want := `ENTRYPOINT ["` + probe[1] + `"]`; !strings.Contains(readDoc(t, "Dockerfile"), want) {
		t.Errorf("the Dockerfile has no %s", want)
	}
}
