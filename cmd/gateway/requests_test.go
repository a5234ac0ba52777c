package main

import (
	"strings"
	"testing"

	"orgcast/internal/testkit"
)

// until returns the next frame of a type, and what came before it.
func until(t *testing.T, c *testkit.Client, typ string) (frame string, before []string) {
	t.Helper()
	for {
		frame = next(t, c)
		if strings.Contains(frame, `"type":"`+typ+`"`) {
			return frame, before
		}
		before = append(before, frame)
	}
}

// TestRequests: what users ask for under request ids, with a real Redis and two users of one
// organization.
func TestRequests(t *testing.T) {
	w := newWorld(t)
	t.Run("two messages about one customer", func(t *testing.T) {
		c, _ := w.open(t, "ada", "acme", "/ws/chat/?session=bbbbbbbb-0000-4000-8000-000000000001")
		for _, text := range []string{"one", "two"} {
			if got := say(t, c, `{"type":"user_message","message":"`+text+`","client_id":41}`); !strings.Contains(got, `"message":"`+text+`"`) || !strings.Contains(got, `"client_id":41`) {
				t.Errorf("got %s, want the message %s about 41", got, text)
			}
			until(t, c, "agent_message")
		}
	})
	t.Run("the same message again, and another one", func(t *testing.T) {
		const path = "/ws/chat/?session=bbbbbbbb-0000-4000-8000-000000000002"
		c, _ := w.open(t, "ada", "acme", path)
		const first = `{"type":"user_message","message":"once","request_id":"r2"}`
		say(t, c, first)
		until(t, c, "agent_message")
		if got := say(t, c, first); !strings.Contains(got, `"message_id":"r2"`) || strings.Contains(got, "organization_id") {
			t.Errorf("again: got %s, want the message as an answer", got)
		}
		if got := say(t, c, strings.Replace(first, "once", "twice", 1)); code(got) != "conflict" || !strings.Contains(got, `"request_id":"r2"`) {
			t.Errorf("another one: got %s, want conflict", got)
		}
		// A viewer who opens the conversation later sees one message and one answer.
		later, shown := w.open(t, "ada", "acme", path)
		_, rest := until(t, later, "system_message")
		if all := append([]string{shown}, rest...); len(all) != 2 {
			t.Errorf("later: got %q, want the message and its answer", all)
		}
	})
	t.Run("two users, one request id", func(t *testing.T) {
		for user, session := range map[string]string{"ada": "bbbbbbbb-0000-4000-8000-000000000003", "alan": "bbbbbbbb-0000-4000-8000-000000000004"} {
			c, _ := w.open(t, user, "acme", "/ws/chat/?session="+session)
			if got := say(t, c, `{"type":"user_message","message":"hello from `+user+`","request_id":"r3"}`); !strings.Contains(got, "hello from "+user) {
				t.Errorf("%s: got %s, want the message", user, got)
			}
			if got, _ := until(t, c, "agent_message"); !strings.Contains(got, user) {
				t.Errorf("%s: got %s, want an answer", user, got)
			}
		}
	})
	t.Run("a conversation is cut", w.cutConversation)
	t.Run("a cancellation answers one connection", w.cancelOnce)
}

func (w *world) cutConversation(t *testing.T) {
	const path = "/ws/chat/?session=bbbbbbbb-0000-4000-8000-000000000005"
	c, _ := w.open(t, "ada", "acme", path)
	other, _ := w.open(t, "ada", "acme", path)
	for _, id := range []string{"c1", "c2"} {
		say(t, c, `{"type":"user_message","message":"text of `+id+`","request_id":"`+id+`"}`)
		until(t, c, "agent_message")
	}
	if got := code(say(t, c, `{"type":"edit","message_id":"c9"}`)); got != "unknown_message" {
		t.Errorf("no such message: got %s, want unknown_message", got)
	}
	if got := say(t, c, `{"type":"edit","message_id":"c2","request_id":"c3"}`); !strings.Contains(got, `"conversation_cut"`) || !strings.Contains(got, `"message_id":"c2"`) {
		t.Errorf("edit: got %s, want the cut", got)
	}
	until(t, other, "conversation_cut")
	until(t, c, "agent_finish")
	later, first := w.open(t, "ada", "acme", path)
	_, rest := until(t, later, "system_message")
	all := append([]string{first}, rest...)
	if len(all) != 3 || !strings.Contains(all[0], "text of c1") || strings.Contains(strings.Join(all, ""), "c2") {
		t.Errorf("later: got %q, want the first message, its answer and the end of the edit", all)
	}
}

func (w *world) cancelOnce(t *testing.T) {
	c, _ := w.open(t, "ada", "acme", "/ws/research/14/")
	viewer, _ := w.open(t, "alan", "acme", "/ws/research/14/")
	const frame = `{"type":"cancel_research","request_id":"n1"}`
	first := say(t, c, frame)
	if !strings.Contains(first, `"success":true`) || !strings.Contains(first, "stopped by ada") || !strings.Contains(first, `"request_id":"n1"`) {
		t.Errorf("got %s, want success", first)
	}
	if again := say(t, c, frame); again != first {
		t.Errorf("again: got %s, want %s", again, first)
	}
	second, _ := w.open(t, "ada", "acme", "/ws/research/14/") // after a reconnect
	if again := say(t, second, frame); again != first {
		t.Errorf("again, elsewhere: got %s, want %s", again, first)
	}
	// The viewer's next frame is what the viewer asks for.
	if got := say(t, viewer, `{"type":"get_state"}`); !strings.Contains(got, "initial_state") {
		t.Errorf("viewer: got %s, want nothing of the cancellation", got)
	}
	// A cancellation that fails ends no research.
	w.record(t, "acme", "research_13", `{"type":"status_update","status":"completed","progress":100}`)
	c, _ = w.open(t, "ada", "acme", "/ws/research/13/")
	if got := say(t, c, `{"type":"cancel_research"}`); !strings.Contains(got, `"success":false`) || !strings.Contains(got, `"code":"unlucky"`) {
		t.Errorf("failed: got %s, want no success", got)
	}
	if got := say(t, c, `{"type":"get_state"}`); !strings.Contains(got, `"completed"`) {
		t.Errorf("after a failed cancellation: got %s, want completed", got)
	}
}
