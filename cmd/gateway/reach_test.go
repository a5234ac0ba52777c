package main

import (
	"strings"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestPublishSaysHowManyNodesListened: a publisher to a group that nobody has joined is told, and
// standard output stays what scripts read.
func TestPublishSaysHowManyNodesListened(t *testing.T) {
	s := startServe(t, redistest.Start(t), nil)
	s.expectReady()
	publish := func(stdin string, args ...string) (stdout, stderr string) {
		t.Helper()
		stdout, stderr, err := execute(t, s.env, stdin, append([]string{"publish"}, args...)...)
		if err != nil {
			t.Fatalf("publish: %v\n%s", err, stderr)
		}
		return stdout, stderr
	}
	const note, lines = `{"type":"note"}`, "{\"type\":\"note\"}\n{\"type\":\"note\"}\n"
	expect := func(want, stdin string, args ...string) {
		t.Helper()
		stdout, stderr := publish(stdin, args...)
		if stderr != want+"\n" {
			t.Errorf("%q: got %q on standard error, want %q", args, stderr, want)
		}
		recorded := strings.Count(strings.Join(args, " "), "--record") * max(1, strings.Count(stdin, "\n"))
		if got := strings.Count(stdout, "\n"); got != recorded {
			t.Errorf("%q: got %q on standard output, want %d positions and nothing else", args, stdout, recorded)
		}
	}
	const nobody = "reached 0 nodes: nobody has joined acme/all"
	expect(nobody, "", "acme", "all", note)
	expect(nobody, "", "--record", "acme", "all", note)
	expect("published 2 events, "+nobody, lines, "acme", "all", "-")
	expect("published nothing", "", "acme", "all", "-")

	s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	expect("reached 1 node", "", "acme", "all", note)
	expect("reached 1 node", "", "--record", "--idempotency-key", "k", "acme", "all", note)
	expect("published nothing: the idempotency key has been used before", "", "--record", "--idempotency-key", "k", "acme", "all", note)
	expect("published 2 events, reached 1 node", lines, "--record", "acme", "all", "-")
	expect("reached 0 nodes: nobody has joined globex/all", "", "globex", "all", note)

	for body, want := range map[string]string{
		`{"organization_id":"acme","group":"all","event":{"type":"note"}}`:                                       `"nodes":1`,
		`{"organization_id":"acme","group":"all","event":{"type":"note"},"record":true}`:                         `"nodes":1`,
		`{"organization_id":"globex","group":"all","event":{"type":"note"}}`:                                     `"nodes":0`,
		`{"organization_id":"acme","group":"all","event":{"type":"note"},"record":true,"idempotency_key":"k"}`:   `"repeated":true`,
		`[{"organization_id":"acme","group":"all","event":{"type":"note"}},{"organization_id":"a","group":"a"}]`: `[{"status":"published","nodes":1},{"status":"refused","code":"not_an_object","message":"`,
	} {
		if _, answer := s.ask("POST", "/v1/publish", body); !strings.Contains(answer, want) {
			t.Errorf("%s: got %s, want %s in it", body, answer, want)
		}
	}
}
