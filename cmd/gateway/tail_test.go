package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"orgcast/internal/cli"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// follower is an operator who tails.
type follower struct {
	tb       testing.TB
	out, err testkit.SyncBuffer
	stop     context.CancelFunc // Ctrl-C
	done     chan error
}

// tail begins gateway tail and waits until it follows so many groups.
func (s *serving) tail(groups int, args ...string) *follower {
	s.tb.Helper()
	f := &follower{tb: s.tb, done: make(chan error, 1)}
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	env := s.operatorEnv()
	go func() {
		p := cli.Process{Getenv: env.get, Environ: env.list(), Stdin: strings.NewReader(""), Stdout: &f.out, Stderr: &f.err}
		f.done <- program().Run(ctx, p, append([]string{"tail"}, args...))
	}()
	s.tb.Cleanup(func() { stop(); err := <-f.done; f.done <- err })
	testkit.Eventually(s.tb, "the tail follows", func() bool {
		return strings.Contains(f.err.String()+f.out.String(), fmt.Sprintf("following %d groups", groups)) || strings.Contains(f.out.String(), fmt.Sprintf(`"groups":%d`, groups))
	})
	return f
}

func (f *follower) expect(text string) {
	f.tb.Helper()
	defer func() {
		if f.tb.Failed() {
			f.tb.Logf("want %q, got\n%s%s", text, f.out.String(), f.err.String())
		}
	}()
	testkit.Eventually(f.tb, fmt.Sprintf("%q is shown", text), func() bool { return strings.Contains(f.out.String(), text) })
}

// TestTail: an operator at any node sees the events of an organization, whichever node its members
// are connected to and whether there are any, without their content and without those of others.
func TestTail(t *testing.T) {
	addr := redistest.Start(t)
	asked, other := startServe(t, addr, nil), startServe(t, addr, nil)
	asked.expectReady()
	other.expectReady()
	other.subscribe(testkit.DialTCP(other.public), "ada", "acme")
	other.subscribe(testkit.DialTCP(other.public), "ada", "globex")
	all, empty, raw := asked.tail(1, "acme"), asked.tail(1, "acme", "empty"), asked.tail(1, "acme", "all", "--json")
	publish := func(args ...string) string {
		t.Helper()
		out, errOut, err := execute(t, asked.env, "", append([]string{"publish"}, args...)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, errOut)
		}
		return strings.TrimSpace(out)
	}
	publish("globex", "all", `{"type":"theirs","text":"hidden"}`)
	publish("acme", "empty", `{"type":"unheard","text":"hidden"}`)
	publish("acme", "all", `{"type":"note","text":"hidden"}`)
	position := publish("acme", "all", `{"type":"kept","text":"hidden"}`, "--record")
	all.expect("  all  note  ")
	all.expect("  " + position)
	raw.expect(`"id":"` + position + `"`)
	empty.expect("  empty  unheard  ")
	for _, f := range []*follower{all, empty, raw} {
		f.stop()
		if err := <-f.done; err != nil {
			t.Errorf("after Ctrl-C: got %v, want no error", err)
		}
		f.done <- nil
		if text := f.out.String(); strings.Contains(text, "hidden") || strings.Contains(text, "theirs") {
			t.Errorf("got\n%s", text)
		}
	}
	for _, args := range [][]string{{"tail"}, {"tail", "a b"}, {"tail", "acme", "a b"}, {"tail", "acme", "all", "x"}} {
		if _, _, err := execute(t, asked.operatorEnv(), "", args...); err == nil {
			t.Errorf("%v: got no error", args)
		}
	}
}

// TestTailEndsWithTheNode: the operator is told, and the node does not wait.
func TestTailEndsWithTheNode(t *testing.T) {
	s := startServe(t, redistest.Start(t), nil)
	s.expectReady()
	f := s.tail(1, "acme", "all")
	s.cancel()
	if err := <-f.done; err == nil || !strings.Contains(f.err.String(), "the gateway ended the tail") {
		t.Errorf("got %v\n%s", err, f.err.String())
	}
	f.done <- nil
	if err := s.wait(); err != nil {
		t.Errorf("the node: %v", err)
	}
}

// TestTailPayloadsLeaveAnAuditLine: payloads need an admin key, and the log says whose were seen, from
// where, and how many. It does not have them.
func TestTailPayloadsLeaveAnAuditLine(t *testing.T) {
	s := startServe(t, redistest.Start(t), environment{"ORGCAST_ADMIN_KEY": strings.Repeat("k", 32)})
	s.expectReady()
	f := s.tail(1, "acme", "all", "--payloads")
	if _, errOut, err := execute(t, s.env, "", "publish", "acme", "all", "{\"type\":\"note\",\"text\":\"seen\u009b\"}"); err != nil {
		t.Fatalf("%v\n%s", err, errOut)
	}
	f.expect(`"text":"seen\u009b"`)
	f.stop()
	testkit.Eventually(t, "the log has both lines", func() bool {
		log := s.log.String()
		return strings.Contains(log, `"msg":"tail with payloads began","organization_id":"acme","group":"all","remote":"127.0.0.1:`) &&
			strings.Contains(log, `"msg":"tail with payloads ended"`) && strings.Contains(log, `"events":1`)
	})
	if strings.Contains(s.log.String(), "seen") {
		t.Error("the log has a payload")
	}
	without := startServe(t, redistest.Start(t), nil) // loopback, no admin key
	if _, errOut, err := execute(t, without.operatorEnv(), "", "tail", "acme", "--payloads"); err == nil || !strings.Contains(errOut, "payloads_need_key") {
		t.Errorf("without an admin key: got %v %s", err, errOut)
	}
	if strings.Contains(without.log.String(), "tail with payloads") {
		t.Error("what was refused is in the log as a tail")
	}
	if _, errOut, err := execute(t, environment{"ORGCAST_ADMIN": "http://" + s.private}, "", "tail", "acme"); err == nil || !strings.Contains(errOut, "unauthenticated") {
		t.Errorf("without the key: got %v %s", err, errOut)
	}
}

// TestOrganizationMetrics: /metrics/organizations is Prometheus text with as many organizations as
// the setting says, and the totals of all. /metrics has none of them.
func TestOrganizationMetrics(t *testing.T) {
	s := startServe(t, redistest.Start(t), environment{"ORGCAST_METRICS_ORGANIZATIONS": "3"})
	s.expectReady()
	for org := range 6 {
		for range org + 1 {
			s.subscribe(testkit.DialTCP(s.public), "ada", fmt.Sprint("org", org))
		}
	}
	for query, want := range map[string]int{"": 3, "?sort=queued_bytes": 3, "?limit=2": 2, "?limit=1000": 3} {
		status, text := s.ask("GET", "/metrics/organizations"+query, "")
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(text))
		if status != 200 || err != nil {
			t.Fatalf("%s: got %d, %v\n%s", query, status, err, text)
		}
		if len(families) != 10 {
			t.Errorf("%s: got %d metrics, want 10", query, len(families))
		}
		for name, family := range families {
			if rows := len(family.GetMetric()); strings.HasPrefix(name, "orgcast_organization_") && rows != want || strings.HasPrefix(name, "orgcast_organizations") && rows != 1 {
				t.Errorf("%s: %s: got %d series, want %d", query, name, rows, want)
			}
		}
		if got := families["orgcast_organizations_connections"].GetMetric()[0].GetGauge().GetValue(); got != 21 {
			t.Errorf("%s: got %v connections in all, want 21", query, got)
		}
		if query == "" && !strings.Contains(text, `orgcast_organization_connections{organization_id="org5"} 6`) {
			t.Errorf("the largest is missing:\n%s", text)
		}
	}
	if _, text := s.ask("GET", "/metrics", ""); strings.Contains(text, "orgcast_organization") {
		t.Error("/metrics names organizations")
	}
	for query, want := range map[string]int{"?limit=0": 400, "?limit=x": 400, "?sort=name": 400, "?group=a": 400} {
		if status, _ := s.ask("GET", "/metrics/organizations"+query, ""); status != want {
			t.Errorf("%s: got %d, want %d", query, status, want)
		}
	}
	closed := startServe(t, redistest.Start(t), environment{"ORGCAST_ADMIN_KEY": strings.Repeat("k", 32)})
	if status, _ := closed.ask("GET", "/metrics/organizations", ""); status != 401 {
		t.Errorf("without the admin key: got %d, want 401", status)
	}
	off := startServe(t, redistest.Start(t), environment{"ORGCAST_METRICS_ORGANIZATIONS": "0"})
	if status, _ := off.ask("GET", "/metrics/organizations", ""); status != 404 {
		t.Errorf("turned off: got %d, want 404", status)
	}
}
