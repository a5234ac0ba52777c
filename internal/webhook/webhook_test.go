package webhook_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/webhook"
)

// TestParse: which types and patterns are accepted.
func TestParse(t *testing.T) {
	if _, err := webhook.ParseTypes(webhook.Types()); err != nil {
		t.Errorf("all types: %v", err)
	}
	if _, err := webhook.ParseTypes([]string{"connection.closed"}); err == nil {
		t.Error("an unknown type: no error")
	}
	for pattern, want := range map[string]string{"room.*": "room.1 room.", "room.1": "room.1", "*": "room.1 room. rooms", "roo*": "room.1 room. rooms"} {
		p, err := webhook.ParsePatterns([]string{pattern})
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
		}
		var got []string
		for _, name := range []string{"room.1", "room.", "rooms"} {
			if p.Match(testkit.Group(t, "acme", name)) {
				got = append(got, name)
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: got %q, want %q", pattern, text, want)
		}
	}
	for _, pattern := range []string{"", "a b", "room.**", "*a", strings.Repeat("a", 101)} {
		if _, err := webhook.ParsePatterns([]string{pattern}); err == nil {
			t.Errorf("%q: no error", pattern)
		}
	}
}

// TestQueueIsBounded: an organization that is told much of fills its own room alone, and
// organizations take turns.
func TestQueueIsBounded(t *testing.T) {
	q := webhook.NewQueue()
	loud, quiet := webhook.Connection{Organization: testkit.Org(t, "loud"), UserID: "u", ID: "c"}, webhook.Connection{Organization: testkit.Org(t, "quiet")}
	n := 0
	for q.Put(loud, fmt.Sprint(n)) {
		n++
	}
	if q.Bytes() > webhook.QueueBytesPerOrganization || q.Bytes() < webhook.QueueBytesPerOrganization*9/10 {
		t.Errorf("got %d bytes, want nearly %d", q.Bytes(), webhook.QueueBytesPerOrganization)
	}
	if !q.Put(quiet, "first") || !q.Put(quiet, "second") {
		t.Fatal("no room for another organization")
	}
	if got, want := q.Take(4), []string{"loud 0", "quiet first", "loud 1", "quiet second"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !q.Put(loud, "again") {
		t.Error("no room after something was taken")
	}
	if got := len(q.Take(n + 1)); got != n-1 || q.Bytes() != 0 {
		t.Errorf("got %d and %d bytes left, want %d and none", got, q.Bytes(), n-1)
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add("msg_1\n1700000000000\n{}")
	f.Add("msg_1\n\n{}")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := webhook.ParseEntry(text)
		if err != nil {
			return
		}
		again, err := webhook.ParseEntry(e.Text())
		if err != nil || again.ID != e.ID || string(again.Body) != string(e.Body) || !again.At.Equal(e.At) {
			t.Errorf("%q: got %+v, %v", text, again, err)
		}
	})
}
