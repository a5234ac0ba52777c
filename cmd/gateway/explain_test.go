package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/explain"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
	"orgcast/internal/trail"
)

// asked is a gateway whose operator asks why events did not arrive.
type asked struct {
	*serving

	redis *redis.Client
}

func startAsked(t *testing.T, more environment) *asked {
	t.Helper()
	addr := redistest.Start(t)
	a := &asked{serving: startServe(t, addr, more), redis: redis.NewClient(&redis.Options{Addr: addr})}
	t.Cleanup(func() { _ = a.redis.Close() })
	a.expectReady()
	return a
}

// connect subscribes a user to groups.
func (a *asked) connect(t *testing.T, user, org string, groups ...string) *testkit.Client {
	t.Helper()
	h := a.mint(user, org)
	h.Header.Set("Sec-WebSocket-Protocol", "orgcast.v1")
	c := testkit.Connect(t, testkit.DialTCP(a.public), h)
	if welcome, err := c.Next(); err != nil || !strings.Contains(welcome, `"welcome"`) {
		t.Fatalf("got %q, %v, want the welcome", welcome, err)
	}
	for _, group := range groups {
		if got := say(t, c, fmt.Sprintf(`{"type":"subscribe","group":%q}`, group)); !strings.Contains(got, `"subscribed"`) {
			t.Fatalf("subscribe to %s: got %s", group, got)
		}
	}
	return c
}

// record publishes a recorded event and returns its position.
func (a *asked) record(t *testing.T, org, group, text string) (position string) {
	t.Helper()
	out, errOut, err := execute(t, a.env, "", "publish", "--record", org, group, fmt.Sprintf(`{"type":"note","text":%q}`, text))
	if err != nil {
		t.Fatalf("publish: %v\n%s", err, errOut)
	}
	return strings.TrimSpace(out)
}

// ask asks for the sentences, and for everything as JSON.
func (a *asked) explain(t *testing.T, args ...string) (sentences string, all explain.Explanation) {
	t.Helper()
	env := environment{"ORGCAST_ADMIN": "http://" + a.private, "ORGCAST_ADMIN_KEY": a.env["ORGCAST_ADMIN_KEY"]}
	args = append([]string{"explain"}, args...)
	sentences, errOut, err := execute(t, env, "", args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, errOut)
	}
	text, errOut, err := execute(t, env, "", append(args, "--json")...)
	if err != nil {
		t.Fatalf("%v --json: %v\n%s", args, err, errOut)
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"text of", testKey, "cookie"} {
		if strings.Contains(text, secret) {
			t.Errorf("an answer contains %q:\n%s", secret, text)
		}
	}
	return sentences, all
}

// expect asks until the answer has the sentence and the cause.
func (a *asked) expect(t *testing.T, cause, sentence string, args ...string) explain.Explanation {
	t.Helper()
	var sentences string
	var all explain.Explanation
	defer func() {
		if t.Failed() {
			t.Logf("%v: want %s: %q; got %v:\n%s", args, cause, sentence, all.Causes, sentences)
		}
	}()
	testkit.Eventually(t, "the true cause", func() bool {
		sentences, all = a.explain(t, args...)
		return strings.Contains(sentences, sentence) && (cause == "" || all.Causes[cause] > 0)
	})
	return all
}

// awaits reads until a frame contains the text.
func awaits(t *testing.T, c *testkit.Client, text string) {
	t.Helper()
	for {
		frame, err := c.Next()
		if err != nil {
			t.Fatalf("waiting for %q: %v", text, err)
		}
		if strings.Contains(frame, text) {
			return
		}
	}
}

// TestExplain: for each way in which an event can fail to reach a browser, the answer names it.
func TestExplain(t *testing.T) {
	a := startAsked(t, environment{"ORGCAST_EVENTS_POLICY": "room.*=member,secret=role:admin"})
	nobody := a.record(t, "acme", "room.1", "text of the first")
	a.expect(t, "", "No connection had joined room.1", "acme", nobody, "--group", "room.1")
	a.expect(t, "", "User ada had no connection", "acme", nobody, "--group", "room.1", "--user", "ada")
	a.expect(t, "", "does not have event 1-1", "acme", "1-1", "--group", "room.1")

	ada, alan := a.connect(t, "ada", "acme", "room.1"), a.connect(t, "alan", "acme", "room.2")
	a.connect(t, "ada", "globex", "room.1")
	position := a.record(t, "acme", "room.1", "text of the second")
	awaits(t, ada, position)
	all := a.expect(t, trail.CauseWritten, "The connection of user ada got it within", "acme", position, "--group", "room.1")
	a.expect(t, trail.CauseWritten, "The connection of user ada got it within", "acme", position)
	if all.History != explain.Recorded || !all.Complete || len(all.Nodes) != 1 || len(all.Nodes[0].Answer.Outcomes) != 1 {
		t.Errorf("got %+v", all)
	}
	a.expect(t, trail.CauseNotJoined, "had not joined room.1; it was in room.2", "acme", position, "--group", "room.1", "--user", "alan")
	a.expect(t, trail.CauseLater, "connected only at", "acme", nobody, "--group", "room.1", "--user", "ada")
	if got := say(t, alan, `{"type":"subscribe","group":"secret"}`); !strings.Contains(got, "unknown_group") {
		t.Fatalf("got %s", got)
	}
	hidden := a.record(t, "acme", "secret", "text of the third")
	a.expect(t, trail.CauseDenied, "was not allowed to join secret", "acme", hidden, "--group", "secret", "--user", "alan")

	// Another organization is not told of any of this, whatever it asks for.
	for _, args := range [][]string{{position}, {position, "--group", "room.1"}, {position, "--user", "ada"}, {"--since", "1h"}, {"--group", "secret", "--since", "1h"}} {
		sentences, found := a.explain(t, append([]string{"globex"}, args...)...)
		text, err := json.Marshal(found)
		if err != nil {
			t.Fatal(err)
		}
		if found.Causes[trail.CauseWritten] > 0 || strings.Contains(sentences+string(text), "acme") || strings.Contains(string(text), "alan") {
			t.Errorf("globex %v: got %s\n%s", args, sentences, text)
		}
	}

	// Payloads that are refused.
	for payload, reason := range map[string]string{
		`{"type":"note","organization_id":"globex","text":"text of globex"}`: "its organization_id is not acme",
		`{"type":"note"}`: "its organization_id is missing or invalid",
		`not JSON`:        "it is malformed (not_an_object)",
	} {
		if err := a.redis.Publish(t.Context(), "orgcast:{acme}:group:room.1", payload).Err(); err != nil {
			t.Fatal(err)
		}
		a.expect(t, "", reason, "acme", "--group", "room.1", "--since", "5m")
	}
	if sentences, _ := a.explain(t, "globex", "--since", "1h"); strings.Contains(sentences, "organization_id") {
		t.Errorf("globex is told of an event of acme's channel: %s", sentences)
	}
}

// TestExplainRevoked: a user whose session was ended is told apart from one who never came.
func TestExplainRevoked(t *testing.T) {
	a := startAsked(t, nil)
	h := a.mint("ada", "acme")
	c := testkit.Connect(t, testkit.DialTCP(a.public), h)
	say(t, c, `{"type":"subscribe","group":"room.1"}`)
	if _, errOut, err := execute(t, a.env, "", "revoke", "session", "--", a.sessionID(h)); err != nil {
		t.Fatalf("%v\n%s", err, errOut)
	}
	c.ExpectClose(t, 4401)
	position := a.record(t, "acme", "room.1", "text of an event")
	a.expect(t, trail.CauseEnded, ": session ended (code 4401)", "acme", position, "--group", "room.1")
	a.expect(t, trail.CauseEnded, "The connection of user ada did not get it.", "acme", position, "--group", "room.1", "--user", "ada")
	a.expect(t, trail.CauseEnded, ": session ended (code 4401)", "acme", "--since", "5m", "--user", "ada")
}

// TestExplainRefused: refused handshakes of known users are told.
func TestExplainRefused(t *testing.T) {
	a := startAsked(t, environment{"ORGCAST_DIRECTORY": "redis"})
	h := a.mint("eve", "acme")
	if c, answer := testkit.Try(t, testkit.DialTCP(a.public), h); c != nil || answer.Status != 403 {
		t.Fatalf("got %+v", answer)
	}
	position := a.record(t, "acme", "room.1", "text of an event")
	a.expect(t, trail.CauseRefused, "refused a handshake of user eve", "acme", position, "--group", "room.1", "--user", "eve")
	a.expect(t, trail.CauseRefused, "forbidden", "acme", "--since", "5m")
}

// TestExplainTooSlow: whatever gives way when a browser does not read, the answer about each event is
// what the browser saw in the end.
func TestExplainTooSlow(t *testing.T) {
	for policy, want := range map[string]struct{ cause, sentence string }{
		"drop_oldest": {trail.LostOldest, "its queue was full, so the oldest events in it were dropped, and it was told of a gap"},
		"latest":      {trail.LostLatest, "its queue was full, so events were dropped for newer ones of the same type"},
		"disconnect":  {trail.LostClosing, "too slow (code 4413)"},
	} {
		t.Run(policy, func(t *testing.T) {
			a := startAsked(t, environment{"ORGCAST_EVENTS_WHEN_FULL": policy, "ORGCAST_QUEUE_BYTES": "400000", "ORGCAST_WRITE_TIMEOUT": "10m"})
			slow, quick := a.connect(t, "ada", "acme", "room.1"), a.connect(t, "ada", "acme", "room.1")
			pad := strings.Repeat("x", 150000)
			var positions []string
			for lost := false; !lost && len(positions) < 200; {
				for range 10 {
					position := a.record(t, "acme", "room.1", pad)
					awaits(t, quick, position)
					positions = append(positions, position)
				}
				_, all := a.explain(t, "acme", "--group", "room.1", "--since", "5m")
				lost = all.Causes[want.cause] > 0
			}
			saw := make(map[string]bool)
			for last := positions[len(positions)-1]; !saw[last]; {
				frame, err := slow.Next()
				if err != nil {
					break
				}
				var f struct{ ID string }
				if json.Unmarshal([]byte(frame), &f) == nil && f.ID != "" {
					saw[f.ID] = true
				}
			}
			missed := 0
			for _, position := range positions {
				sentences, all := a.explain(t, "acme", position)
				got := all.Causes[trail.CauseWritten] == 2
				if got != saw[position] && all.Causes[trail.LostWrite] == 0 {
					t.Fatalf("%s: the browser saw it: %t; got %v:\n%s", position, saw[position], all.Causes, sentences)
				}
				if got {
					continue
				}
				missed++
				if all.Causes[want.cause] == 1 && (!strings.Contains(sentences, "1 of 2 connections of user ada got it within") || !strings.Contains(sentences, want.sentence)) {
					t.Fatalf("%s: got\n%s\nwant %q", position, sentences, want.sentence)
				}
			}
			if missed == 0 || missed == len(positions) {
				t.Errorf("%d of %d events missed", missed, len(positions))
			}
		})
	}
}

// TestExplainGap: events that were published while the link was down are missing on the node, and
// the answer says why and that members were told.
func TestExplainGap(t *testing.T) {
	a := startAsked(t, nil)
	c := a.connect(t, "ada", "acme", "room.1")
	awaits(t, c, a.record(t, "acme", "room.1", "text of an event"))
	// In one go, so that the node cannot be back before: the links break, an event is recorded, and
	// the history is lost with it.
	position := fmt.Sprintf("%d-0", time.Now().UnixMilli()+1)
	if _, err := a.redis.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
		pipe.Do(t.Context(), "client", "kill", "type", "pubsub")
		pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: "orgcast:{acme}:history:room.1", ID: position, Values: []string{"event", `{"type":"note","organization_id":"acme"}`}})
		pipe.Publish(t.Context(), "orgcast:{acme}:group:room.1", position+` {"type":"note","organization_id":"acme"}`)
		pipe.Del(t.Context(), "orgcast:{acme}:history:room.1")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	awaits(t, c, `"gap"`)
	all := a.expect(t, trail.CauseNotReceived, "told the members of room.1 of a gap: the history no longer had all missed events", "acme", position, "--group", "room.1")
	sentences := strings.Join(all.Sentences, "\n")
	if !strings.Contains(sentences, "had lost its connection to Redis") || !strings.Contains(sentences, "on a node that did not receive it; it was told of a gap") {
		t.Errorf("got:\n%s", sentences)
	}
	a.expect(t, "", "had lost its connection to Redis", "acme", "--group", "room.1", "--since", "5m")
}

// TestExplainPaused: events beyond the organization's rate are dropped, and the answer says so.
func TestExplainPaused(t *testing.T) {
	a := startAsked(t, environment{"ORGCAST_EVENTS_PER_SECOND": "8"})
	c := a.connect(t, "ada", "acme", "room.1")
	var lines strings.Builder
	for i := range 50 {
		fmt.Fprintf(&lines, "{\"type\":\"note\",\"n\":%d}\n", i)
	}
	out, errOut, err := execute(t, a.env, lines.String(), "publish", "--record", "acme", "room.1", "-")
	if err != nil {
		t.Fatalf("%v\n%s", err, errOut)
	}
	positions := strings.Fields(out)
	awaits(t, c, positions[0])
	a.expect(t, "", "acme published more than --events-per-second or --event-bytes-per-second allows, and room.1 was paused", "acme", "--group", "room.1", "--since", "5m")
	last := positions[len(positions)-1]
	awaits(t, c, last) // the history had it when the group came back
	a.expect(t, trail.CauseWritten, "The connection of user ada got it within", "acme", last, "--group", "room.1")

	a.connect(t, "ada", "acme", "room.3") // transient events are gone for good
	for range 50 {
		if err := a.redis.Publish(t.Context(), "orgcast:{acme}:group:room.3", `{"type":"note","organization_id":"acme"}`).Err(); err != nil {
			t.Fatal(err)
		}
	}
	a.expect(t, "", "and room.3 was paused", "acme", "--group", "room.3", "--since", "5m")
}

// TestExplainKilledNode: what a killed node knew is gone, and the answer says which node that was.
func TestExplainKilledNode(t *testing.T) {
	addr := redistest.Start(t)
	killed := newServing(t, addr, nil)
	p := spawn(t, killed.env, killed.log, killed.log, "serve")
	killed.findAddresses()
	killed.expectReady()
	a := &asked{serving: startServe(t, addr, nil)}
	a.expectReady()
	b := &asked{serving: killed}
	c, stays := b.connect(t, "ada", "acme", "room.1"), a.connect(t, "alan", "acme", "room.1")
	position := a.record(t, "acme", "room.1", "text of an event")
	awaits(t, c, position)
	awaits(t, stays, position)
	all := a.expect(t, "", "The connection of user ada got it within", "acme", position)
	if all.Causes[trail.CauseWritten] != 2 || len(all.Nodes) != 2 || !all.Complete {
		t.Errorf("with both nodes: got %+v", all)
	}
	p.signal(syscall.SIGKILL)
	<-p.done
	all = a.expect(t, "", "does not answer. If it was killed, what it remembered of acme is gone", "acme", position)
	if all.Causes[trail.CauseWritten] != 1 || all.Complete || strings.Contains(strings.Join(all.Sentences, "\n"), "user ada") {
		t.Errorf("after one was killed: got %+v", all)
	}
}

// TestExplainInDocs: what docs/troubleshoot.md shows is what the command prints.
func TestExplainInDocs(t *testing.T) {
	a := startAsked(t, nil)
	ada, alan := a.connect(t, "ada", "acme", "room.1"), a.connect(t, "alan", "acme", "room.1")
	say(t, alan, `{"type":"unsubscribe","group":"room.1"}`)
	position := a.record(t, "acme", "room.1", "text of an event")
	awaits(t, ada, position)
	a.expect(t, trail.CauseWritten, "The connection of user ada got it", "acme", position, "--group", "room.1")
	changing := []struct{ is, becomes string }{
		{`\b\d{13}-\d+\b`, "POSITION"},
		{`\d{4}-\d\d-\d\d`, "DAY"},
		{`\d\d:\d\d:\d\d\.\d{3}`, "TIME"},
		{`Node [a-zA-Z0-9_-]+`, "Node NAME"},
		{`Connection [A-Z2-7]{26}`, "Connection ID"},
		{`within \d+ ms`, "within SOME ms"},
	}
	same := func(text string) string {
		for _, c := range changing {
			text = regexp.MustCompile(c.is).ReplaceAllString(text, c.becomes)
		}
		// The node of the test has just started.
		return strings.TrimSpace(regexp.MustCompile(`(?m)^Node NAME remembers acme only since .*\n`).ReplaceAllString(text, ""))
	}
	blocks := regexp.MustCompile("(?ms)^```console\n\\$ gateway (explain [^\n]*)\n(.*?)^```$").FindAllStringSubmatch(section(t, readDoc(t, "docs/troubleshoot.md"), "Events do not arrive"), -1)
	if len(blocks) != 2 {
		t.Fatalf("got %d examples, want 2", len(blocks))
	}
	for i, block := range blocks {
		if i == 1 {
			if err := a.redis.Publish(t.Context(), "orgcast:{acme}:group:room.1", `{"type":"note","organization_id":"globex"}`).Err(); err != nil {
				t.Fatal(err)
			}
			a.expect(t, "", "its organization_id is not acme", "acme", "--group", "room.1", "--since", "5m")
		}
		args := strings.Fields(regexp.MustCompile(`\b\d{13}-\d+\b`).ReplaceAllString(block[1], position))
		got, _ := a.explain(t, args[1:]...)
		if diff := cmp.Diff(same(block[2]), same(got)); diff != "" {
			t.Errorf("%s: docs (-), the command (+):\n%s\n%s", block[1], diff, got)
		}
	}
}
