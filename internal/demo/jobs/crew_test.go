package jobs_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/demo/jobs"
	"orgcast/internal/task"
)

// A crew that was started from a chat tells execution, board and chat, and asks a person.
func TestCrew(t *testing.T) {
	f := newFixture(t, 0)
	const session = "0b0e3a52-9d0e-4a0e-8f5e-1f2d3c4b5a69"
	started := jobs.Started{ID: "e-1"}
	group := "crew_execution_" + started.ID
	f.dispatch(t, "acme", jobs.KindCrew, group, object{"crew_id": "5", "execution_id": started.ID, "session_id": session}) // as the chat does
	f.await(t, "acme", group, "crew_execution_update", object{"status": "WAITING_FOR_HUMAN_INPUT"})
	request := newest(t, f.history(t, "acme", "crew_5_kanban"), "human_input_request")
	if request["execution_id"] != started.ID || request["task_index"] != 1.0 || request["input_key"] != started.ID+":1" {
		t.Errorf("request: got %v, want execution, index and key", request)
	}
	if err := f.asks.Answer(as(t, "globex"), started.ID, 1, "no"); err == nil {
		t.Error("another organization answered")
	}
	if err := f.asks.Answer(as(t, "acme"), started.ID, 1, "sessions"); err != nil {
		t.Fatal(err)
	}
	events := f.await(t, "acme", group, "crew_execution_update", object{"status": "COMPLETED"})
	seen := make(map[string]bool)
	for _, e := range events {
		for _, m := range e["messages"].([]any) {
			id := m.(object)["id"].(string)
			if seen[id] {
				t.Errorf("message %s occurs twice", id)
			}
			seen[id] = true
			if !strings.Contains(m.(object)["content"].(string), "scripted") {
				t.Errorf("message %v does not say that it is scripted", m)
			}
		}
	}
	board := f.history(t, "acme", "crew_5_kanban")
	count := make(map[string]int)
	for _, typ := range types(board) {
		count[typ]++
	}
	if diff := cmp.Diff([]string{"agent_step", "execution_update", "human_input_request", "task_complete"}, slices.Sorted(maps.Keys(count))); diff != "" || count["agent_step"] != 3 || count["task_complete"] != 1 {
		t.Errorf("board: got %v", count)
	}
	results := newest(t, board, "task_complete")["results"].([]any)
	if text := results[2].(object)["output"].(string); len(results) != 3 || !strings.Contains(text, "sessions") {
		t.Errorf("results: got %v, want three, the last about sessions", results)
	}
	chat := f.history(t, "acme", "chat_"+session)
	if newest(t, chat, "execution_update")["status"] != "COMPLETED" || newest(t, chat, "crew_message")["message"] == nil {
		t.Errorf("chat: got %v, want the end and a message", types(chat))
	}
	if got := f.client.Keys(t.Context(), "orgcast:{globex}:*").Val(); len(got) != 0 {
		t.Errorf("globex has %v, want nothing", got)
	}
}

// A crew whose worker gives up, whatever of, ends on its board and in its chat, once.
func TestCrewThatFailsLeavesItsBoard(t *testing.T) {
	const session = "0b0e3a52-9d0e-4a0e-8f5e-1f2d3c4b5a69"
	play := func(f *fixture) task.Handler { return f.kinds[jobs.KindCrew].Run }
	tests := map[string]struct {
		run     func(f *fixture) task.Handler
		options task.Options
		killed  bool // a first worker, each time
		code    string
	}{
		"panic":   {run: func(*fixture) task.Handler { return func(context.Context, *task.Job) (any, error) { panic("always") } }, code: "panic"},
		"timeout": {run: play, options: task.Options{Timeout: time.Second}, code: "timeout"}, // nobody answers it
		"killed":  {run: play, options: task.Options{Takeover: 2 * time.Second}, killed: true, code: "crashed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newIdleFixture(t, 0)
			f.kinds[jobs.KindCrew] = task.Kind{Run: test.run(f), Failed: f.kinds[jobs.KindCrew].Failed}
			test.options.Attempts, test.options.Backoff = 2, 10*time.Millisecond
			f.dispatch(t, "acme", jobs.KindCrew, "crew_execution_e-1", object{"crew_id": "5", "execution_id": "e-1", "session_id": session})
			if test.killed {
				f.holdAndDie(t, jobs.KindCrew, test.options.Attempts)
			}
			f.work(t, test.options)
			f.await(t, "acme", "crew_execution_e-1", "crew_execution_update", object{"status": "FAILED", "code": test.code})
			for _, group := range []string{"crew_5_kanban", "chat_" + session} {
				ended := 0
				events := f.history(t, "acme", group)
				for _, e := range events {
					if e["type"] == "execution_update" && e["status"] == "FAILED" {
						ended++
					}
				}
				if last := events[len(events)-1]; ended != 1 || last["status"] != "FAILED" || last["execution_id"] != "e-1" {
					t.Errorf("%s: got %d ends, the last event being %v, want one, last", group, ended, last)
				}
			}
		})
	}
}

func TestChat(t *testing.T) {
	f := newFixture(t, 0)
	const group = "chat_0b0e3a52-9d0e-4a0e-8f5e-1f2d3c4b5a69"
	turn := object{"session_id": strings.TrimPrefix(group, "chat_"), "message": "What is a dead letter?", "agent_id": "a", "model": "m", "client_id": "c-1"}
	f.dispatch(t, "acme", jobs.KindChat, group, turn)
	events := f.await(t, "acme", group, "agent_finish", nil)
	if diff := cmp.Diff([]string{"agent_message", "tool_start", "tool_result", "agent_finish"}, types(events)); diff != "" {
		t.Errorf("types: want (-), got (+):\n%s", diff)
	}
	end := events[3]
	if text := end["message"].(string); !strings.HasPrefix(text, "(scripted) From tasks.md") || end["client_id"] != "c-1" {
		t.Errorf("end: got %v, want a scripted answer from tasks.md to c-1", end)
	}
	f.dispatch(t, "acme", jobs.KindChatEdit, group, object{"session_id": "x", "message_id": "m-7"})
	f.await(t, "acme", group, "agent_finish", object{"message_id": "m-7"})
}
