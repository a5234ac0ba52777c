package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// root is the root of the repository, seen from this package.
const root = ".."

// block is a fenced block of code.
type block struct {
	page     string // from the root of the repository
	line     int
	language string
	text     string // without the indentation of the fence
	shown    string // why nothing runs it, from a comment before it
}

func (b block) String() string { return fmt.Sprintf("%s:%d (%s)", b.page, b.line, b.language) }

var (
	fenced = regexp.MustCompile("(?ms)(?:^ *<!-- shown: ([^\n]*?) -->\n)?^( *)```(\\w*)\n(.*?)^ *```$")
	pages  = []string{
		"README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "docs/models/README.md", "deploy/README.md", "deploy/*/README.md", "deploy/*/*/README.md",
		"examples/*/README.md", "clients/README.md", "clients/*/README.md", "clients/*/*/README.md", "web/client/README.md",
	}
)

// blocks returns the blocks of all pages.
func blocks(tb testing.TB) (list []block) {
	tb.Helper()
	for _, pattern := range pages {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			tb.Fatal(err)
		}
		for _, path := range found {
			if strings.Contains(path, "node_modules") {
				continue
			}
			content, err := os.ReadFile(path)
			if err != nil {
				tb.Fatal(err)
			}
			page, _ := filepath.Rel(root, path)
			for _, m := range fenced.FindAllSubmatchIndex(content, -1) {
				part := func(i int) string {
					if m[2*i] < 0 {
						return ""
					}
					return string(content[m[2*i]:m[2*i+1]])
				}
				text := regexp.MustCompile("(?m)^"+part(2)).ReplaceAllString(part(4), "")
				list = append(list, block{filepath.ToSlash(page), 1 + strings.Count(string(content[:m[6]]), "\n"), part(3), text, part(1)})
			}
		}
	}
	return list
}

// ran are tests elsewhere that run blocks, or compare them with files that are run.
type ran struct {
	page, languages string // patterns
	has             string // text of the block, empty for any
	file, test      string // where, and a text of that file that names the test
}

var elsewhere = []ran{
	{`docs/backends.md|clients/(node|php|ruby|python|go/orgcast)/README.md`, `js|php|ruby|go|python`, "", "clients/docs_test.go", "func TestPrograms("},
	{`docs/webhooks.md`, `js|php|ruby|python`, "", "clients/webhooks_test.go", "func TestWebhooksInDocs("},
	{`clients/python/README.md`, `py`, "", "clients/python/tests/test_readme.py", "The fragments of README.md run"},
	{`clients/python/README.md`, `console`, "build --wheel", "scripts/python-test", "-m build"},
	{`README.md`, `console`, "gateway demo", "cmd/gateway/demo_test.go", "func TestDemoSaysThatItStarts("},
	{`docs/deploy.md`, `console`, "dpkg -i", "scripts/test-release", "dpkg -i /orgcast.deb"},
	{`docs/client.md`, `html|console|jsx?|ts`, "", "web/e2e/recipes.test.mjs", "every block of docs/client.md was run"},
	{`docs/console.md`, `python`, "", "cmd/gateway/console_test.go", "docs/console.md has no Python"},
	{`docs/consumers.md`, `go|console|json`, `report|"percent":60`, "cmd/gateway/newconsumer_test.go", "func TestEleventhConsumer("},
	{`docs/consumers.md`, `console`, "go build -o extend", "examples/extend/extend_test.go", `w.start(t, "serve"`},
	{`docs/(express|nextjs|rails|laravel).md`, `js|php|ruby|nginx`, "", "web/e2e/stacks/stacks.test.mjs", "shows the lines of the example"},
	{`docs/django.md`, `python|yaml|nginx`, "", "web/e2e/django.test.mjs", "docs/django.md shows the lines of the example"},
	{`docs/django.md`, `console`, "orgcast_check", "web/e2e/django.test.mjs", "orgcast_check"},
	{`docs/django.md`, `console`, "ACL SETUSER", "internal/channellayer/access_test.go", "docs/django.md"},
	{`docs/integrate.md`, `html|python|console`, "", "web/e2e/integrate.test.mjs", "docs/integrate.md, block by block"},
	{`docs/kubernetes.md`, `console|yaml`, "kubectl|helm|image:", "tools/kube/docs_test.go", "func TestPage("},
	{`docs/observe.md`, `yaml`, "scrape_configs", "deploy/monitoring_test.go", "func TestPrometheusConfig("},
	{`docs/protocol.md`, `python|js|php|ruby`, "signIn|sign_in", "clients/signin_test.go", "func TestSignInFromOtherLanguages("},
	{`docs/protocol.md`, `sh|python|js`, "user_group|userGroup", "cmd/gateway/userdocs_test.go", "func TestUserNamesInDocs("},
	{`docs/quickstart.md`, `console|js`, "", "cmd/gateway/quickstart_test.go", "func TestQuickstart("},
	{`docs/troubleshoot.md`, `console`, "gateway explain", "cmd/gateway/explain_test.go", "docs/troubleshoot.md"},
	{`examples/(kanban|streaming-chat)/README.md`, `console`, "examples/start", "web/e2e/examples.test.mjs", "with the command of its README"},
	{`deploy/README.md`, `console`, "COMPOSE_FILE|sentinel-1", "scripts/image-test", `heading="With Sentinel"`},
	{`deploy/README.md`, `console`, "", "deploy/first_test.go", "func TestFirstConnection("},
}

// covers reports whether a test elsewhere runs the block.
func (r ran) covers(b block) bool {
	whole := func(pattern, text string) bool { return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(text) }
	return whole(r.page, b.page) && whole(r.languages, b.language) && regexp.MustCompile(r.has).MatchString(b.text)
}

// TestEveryBlockIsTested: each block of code is run by a test elsewhere, run or parsed by a test of this
// package, or marked as shown only, with a reason. The log counts them.
func TestEveryBlockIsTested(t *testing.T) {
	used := make(map[int]bool)
	counts := make(map[string]int)
	l := newLab(t)
	for _, b := range blocks(t) {
		at := slices.IndexFunc(elsewhere, func(r ran) bool { return r.covers(b) })
		check := checks[b.language]
		switch {
		case b.shown != "":
			if len(strings.Fields(b.shown)) < 2 || at >= 0 {
				t.Errorf("%v: marked as shown (%q): give a reason, or take the mark away if a test runs it", b, b.shown)
			}
			counts["shown"]++
		case at >= 0:
			used[at] = true
			counts["run elsewhere"]++
		case check == nil:
			t.Errorf("%v: no test knows this language", b)
		default:
			t.Run(strings.NewReplacer("/", " ", ".", " ").Replace(b.page)+fmt.Sprint(b.line), func(t *testing.T) { counts[check(t, l, b)]++ })
		}
	}
	for i, r := range elsewhere {
		content, err := os.ReadFile(filepath.Join(root, r.file))
		if err != nil || !strings.Contains(string(content), r.test) {
			t.Errorf("%s does not have %q: %v", r.file, r.test, err)
		}
		if !used[i] {
			t.Errorf("%s has no block of %s with %q any more", r.page, r.languages, r.has)
		}
	}
	t.Logf("blocks: %v", counts)
}
