package main

import (
	"strings"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestLongTexts: a text of markup takes no more than its own length. A text that is longer as JSON
// than events may be is refused for good: a page that is told to try again later would do so
// forever.
func TestLongTexts(t *testing.T) {
	node := startServe(t, redistest.Start(t), nil)
	node.expectReady()
	h := node.mint("ada", "acme")
	h.Path = "/ws/chat/?session=aaaaaaaa-0000-4000-8000-000000000001"
	c := testkit.Connect(t, testkit.DialTCP(node.public), h)
	if first := next(t, c); !strings.Contains(first, "system_message") {
		t.Fatalf("got %s, want the first state", first)
	}
	if got := say(t, c, `{"type":"user_message","message":"`+strings.Repeat("<", 60_000)+`","request_id":"l1"}`); !strings.Contains(got, `"user_message"`) {
		t.Errorf("markup: got %.200s, want the message", got)
	}
	if got := say(t, c, "no JSON "+strings.Repeat("\x01", 60_000)); code(got) != "bad_message" {
		t.Errorf("control characters: got %.200s, want bad_message", got)
	}
}
