package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
)

func (w *world) forgedEvents(t *testing.T) {
	undisturbed := w.neighbor(t, views()["board"])
	board, _ := w.open(t, "ada", "acme", views()["board"].path)
	for _, path := range everywhere("aaaaaaaa-0000-4000-8000-000000000003") {
		c, _ := w.open(t, "ada", "acme", path)
		for _, typ := range []string{"execution_update", "agent_step", "human_input_request", "task_complete", "crew_execution_update", "status_update", "agent_message"} {
			if got := code(say(t, c, `{"type":"`+typ+`","execution_id":"e7","status":"COMPLETED","message":"x","group":"crew_c7_kanban"}`)); got != "unknown_type" {
				t.Errorf("%s at %s: got %s, want unknown_type", typ, path, got)
			}
		}
	}
	board.Expect(t, w.record(t, "acme", "crew_c7_kanban", views()["board"].event)) // and nothing before it
	undisturbed()
}

func (w *world) badEvent(t *testing.T) {
	for _, v := range views() {
		undisturbed := w.neighbor(t, v)
		one, _ := w.open(t, "ada", "acme", v.path)
		two, _ := w.open(t, "ada", "acme", v.path)
		for _, payload := range []string{"", "no json", "[]", `{"type":7,"organization_id":"acme"}`, "\xff", `{"type":"x","organization_id":"acme"`, strings.Repeat("[", 20000)} {
			w.raw(t, "orgcast:{acme}:group:"+v.group, payload)
		}
		// Well formed, but with fields that nobody expects; these are delivered, and folded into
		// nothing.
		odd := `{"type":"` + typeOf(v.event) + `","status":["x"],"data":7,"messages":{},"execution_id":{},"job_id":{},"progress":"much"}`
		want := w.record(t, "acme", v.group, odd)
		one.Expect(t, want)
		two.Expect(t, want)
		if err := w.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: "orgcast:{acme}:history:" + v.group, Values: []any{"event", "no json"}}).Err(); err != nil {
			t.Fatal(err)
		}
		three, _ := w.open(t, "ada", "acme", v.path)
		want = w.record(t, "acme", v.group, v.event)
		for _, c := range []*testkit.Client{one, two, three} {
			c.Expect(t, want)
		}
		undisturbed()
	}
}

func typeOf(fields string) string {
	var e struct{ Type string }
	_ = json.Unmarshal([]byte(fields), &e)
	return e.Type
}

func (w *world) exceptionText(t *testing.T) {
	// A task goes to one or the other.
	broken := []string{"orgcast:tasks:cancel_research", "orgcast:lines:{orgcast:tasks:cancel_research}"}
	for _, key := range broken {
		if err := w.redis.Set(t.Context(), key, "of another type", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		w.redis.Del(context.Background(), broken...)
		// The worker makes a new queue when it reads next. Later tests watch what changes in Redis.
		testkit.Eventually(t, "the worker has its queue again", func() bool {
			n, err := w.redis.Exists(context.Background(), broken[0]).Result()
			return err == nil && n == 1
		})
	}()
	for _, org := range []string{"acme", "globex"} {
		c, _ := w.open(t, "ada", org, "/ws/research/73/")
		if err := c.SendText(`{"type":"cancel_research"}`); err != nil {
			t.Fatal(err)
		}
		c.Expect(t, `{"type":"error","code":"unavailable","message":"Temporarily unavailable. Try again later."}`)
		expectPong(t, c)
	}
}

func (w *world) html(t *testing.T) {
	const text = `<img src=x onerror=alert(1)>`
	v := chat("aaaaaaaa-0000-4000-8000-000000000004")
	undisturbed := w.neighbor(t, v)
	c, _ := w.open(t, "ada", "acme", v.path)
	for _, got := range []string{say(t, c, `{"type":"user_message","message":"`+text+`","html":"<b>","message_html":"<b>"}`), next(t, c)} {
		var m map[string]any
		if err := json.Unmarshal([]byte(got), &m); err != nil {
			t.Fatal(err)
		}
		// JSON alone: the text is what was typed, for the page to show as text, and no field holds
		// markup.
		message, _ := m["message"].(string)
		if !strings.HasPrefix(message, text) || strings.Count(got, "<") != 1 || m["html"] != nil || m["message_html"] != nil {
			t.Errorf("got %s, want the text as it was typed, and no field of markup", got)
		}
	}
	undisturbed()
}

func (w *world) subscriptionDies(t *testing.T) {
	v := view{"/ws/crawl/s7/", "crawl_s7", `{"type":"heartbeat","count":7}`}
	undisturbed := w.neighbor(t, v)
	c, _ := w.open(t, "ada", "acme", v.path)
	if err := w.redis.Do(t.Context(), "client", "kill", "type", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	// Nobody hears what is published before the gateway is back; what it hears then reaches the
	// page.
	arrived := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		text, _ := c.Next()
		arrived <- text
	})
	defer reading.Wait()
	var got string
	testkit.Eventually(t, "an event after the subscription died", func() bool {
		w.record(t, "acme", "crawl_s7", `{"type":"heartbeat","count":1}`)
		select {
		case got = <-arrived:
			return true
		default:
			return false
		}
	})
	if !strings.Contains(got, "heartbeat") {
		t.Errorf("got %q, want the heartbeat", got)
	}
	w.expectReady()
	undisturbed()
}

// sideEffects sees that delivery writes nothing, and that consumers rest.
func (w *world) sideEffects(t *testing.T) {
	w.tabs(t)
	w.pollingLoops(t)
}

// pollingLoops sees that no consumer does anything while nothing happens: no goroutine is inside
// one, neither while pages are open nor when they have gone.
func (w *world) pollingLoops(t *testing.T) {
	t.Helper()
	idle := func() bool {
		stacks := make([]byte, 16<<20)
		return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("orgcast/internal/consumer."))
	}
	var open []*testkit.Client
	for _, org := range []string{"acme", "globex"} {
		for _, path := range everywhere("aaaaaaaa-0000-4000-8000-000000000007") {
			c, _ := w.open(t, "ada", org, path)
			open = append(open, c)
		}
	}
	testkit.Eventually(t, "consumers rest while pages are open", idle)
	for _, c := range open {
		expectPong(t, c)
		_ = c.Close()
	}
	testkit.Eventually(t, "consumers rest when pages are gone", idle)
}

func (w *world) firstState(t *testing.T) {
	for _, v := range views() {
		v = v.at("75")
		w.record(t, "acme", v.group, strings.ReplaceAll(v.event, "MARK", "before"))
		c, first := w.open(t, "ada", "acme", v.path)
		if !strings.Contains(first, "before") {
			t.Errorf("%s: got %s, want what came before", v.path, first)
		}
		c.Expect(t, w.record(t, "acme", v.group, v.event))
	}
	const last = 60
	var recording sync.WaitGroup
	recording.Go(func() {
		for i := range last {
			w.record(t, "globex", "research_75", `{"type":"step_update","step":"of globex","step_number":`+strconv.Itoa(last+i)+`}`)
			w.record(t, "acme", "research_75", `{"type":"step_update","step":"x","step_number":`+strconv.Itoa(i)+`}`)
		}
	})
	defer recording.Wait()
	for range 10 {
		c, first := w.open(t, "ada", "acme", "/ws/research/75/")
		var state struct {
			Steps []struct {
				StepNumber int `json:"step_number"`
			}
		}
		if err := json.Unmarshal([]byte(first), &state); err != nil {
			t.Fatal(err)
		}
		for i, s := range state.Steps {
			if s.StepNumber != i {
				t.Fatalf("step %d of the state: got %d", i, s.StepNumber)
			}
		}
		for i := len(state.Steps); i < last; i++ {
			if got := next(t, c); !strings.Contains(got, `"step_number":`+strconv.Itoa(i)+`}`) {
				t.Fatalf("behind a state of %d steps: got %s, want step %d", len(state.Steps), got, i)
			}
		}
	}
}

func (w *world) terminalEvent(t *testing.T) {
	clients := make(map[string]*testkit.Client)
	for _, org := range []string{"acme", "globex"} {
		clients[org], _ = w.open(t, "ada", org, "/ws/research/76/")
	}
	for org, c := range clients {
		err := w.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: "orgcast:tasks:research", Values: []any{
			"organization_id", org, "kind", "research", "id", "76", "group", "research_76", "payload", `{}`,
		}}).Err()
		if err != nil {
			t.Fatal(err)
		}
		c.Expect(t, `{"organization_id":"`+org+`","type":"task_failed","task_id":"76","code":"panic"}`)
		if _, first := w.open(t, "ada", org, "/ws/research/76/"); !strings.Contains(first, `"status":"failed"`) {
			t.Errorf("later: got %s, want failed", first)
		}
	}
	for org, c := range clients { // and once
		c.Expect(t, w.record(t, org, "research_76", views()["research"].event))
	}
	// The ends that the original left out: without results, and without the ids of a job and an
	// optimization.
	w.record(t, "acme", "audit_76", `{"type":"audit.complete","data":{"results":{"issues":[],"summary":{}}}}`)
	w.record(t, "acme", "optimization_76", `{"type":"optimization_update","status":"running","job_id":"j76"}`)
	for _, group := range []string{"optimization_76", "optimization_job_j76"} {
		w.record(t, "acme", group, `{"type":"task_failed","task_id":"76","code":"crashed"}`)
	}
	if _, first := w.open(t, "ada", "acme", "/ws/seo_audit/76/"); !strings.Contains(first, `"status":"completed"`) {
		t.Errorf("an audit without results: got %s, want completed", first)
	}
	c, first := w.open(t, "ada", "acme", "/ws/image-optimizer/76/")
	for id, frame := range map[string]string{`"optimization_id":76`: first, `"job_id":"j76"`: next(t, c)} {
		if !strings.Contains(frame, id) || !strings.Contains(frame, `"status":"failed"`) {
			t.Errorf("got %s, want failed and %s", frame, id)
		}
	}
}

func (w *world) keepalives(t *testing.T) {
	for _, org := range []string{"acme", "globex"} {
		for _, path := range everywhere("aaaaaaaa-0000-4000-8000-000000000005") {
			c, _ := w.open(t, "ada", org, path)
			for _, typ := range []string{"ping", "keep_alive"} {
				_ = c.SendText(`{"type":"` + typ + `"}`)
				c.Expect(t, `{"type":"pong"}`)
			}
			expectPong(t, c)
		}
	}
}

// closeCodes sees that each end says whether to come back. What browsers make of the codes is the
// subject of the client's own tests.
func (w *world) closeCodes(t *testing.T) {
	for _, path := range everywhere(conversationID)[2:] {
		nobody := testkit.Handshake{Header: http.Header{"Origin": {testOrigin}}}
		if got := w.refusedWith(t, nobody, path); got != 4401 {
			t.Errorf("%s without a session: got %d, want 4401: sign in", path, got)
		}
	}
	for what, path := range map[string]string{"no conversation": "/ws/chat/", "no job": "/ws/image-optimizer/7/?job=a/b"} {
		if got := w.refusedWith(t, w.mint("ada", "acme"), path); got != 4404 {
			t.Errorf("%s: got %d, want 4404: stop", what, got)
		}
	}
	other := startServe(t, w.relay.addr, environment{"ORGCAST_DIRECTORY": "redis"})
	other.expectReady()
	clients := make(map[string]*testkit.Client)
	for _, org := range []string{"acme", "globex"} {
		h := other.mint("ada", org)
		h.Path = "/ws/research/7/"
		clients[org] = testkit.Connect(t, testkit.DialTCP(other.public), h)
	}
	other.cancel()
	for org, c := range clients {
		if _, reason := c.ExpectClose(t, 1012); !regexp.MustCompile(`^\{"retry_after_ms":\d+\}$`).MatchString(reason) {
			t.Errorf("%s: got the reason %q, want when to come back", org, reason)
		}
	}
}

// slowHandler lets Redis take no commands, so that the consumer waits for it. A hook of any kind
// that waits is the subject of gateway.TestHookOfTenSeconds.
func (w *world) slowHandler(t *testing.T) {
	v := chat("aaaaaaaa-0000-4000-8000-000000000006")
	c, _ := w.open(t, "ada", "acme", v.path)
	undisturbed := w.neighbor(t, v)
	open := w.relay.close()
	defer open()
	_ = c.SendText(`{"type":"user_message","message":"that gets stuck"}`)
	testkit.Eventually(t, "the handler waits", func() bool { // for its organization's allowance of bytes, or what that is
		return w.relay.holds("orgcast:{acme}:bytes") || w.relay.holds("max_member_bytes")
	})
	c.Expect(t, w.record(t, "acme", v.group, v.event))
	expectPong(t, c)
	undisturbed()
	_ = c.Send(testkit.CloseFrame(1000, ""))
	c.ExpectClose(t, 1000)
}

// hooksAfterException lets a consumer meet an error that it does not expect: a history that cannot
// be read. That Disconnect runs, also after a panic, is the subject of
// gateway.TestPanicEndsOneConnection.
func (w *world) hooksAfterException(t *testing.T) {
	spoil := func(t *testing.T, group string) (repair func()) {
		t.Helper()
		history := "orgcast:{acme}:history:" + group
		if err := w.redis.Set(t.Context(), history, "no stream", 0).Err(); err != nil {
			t.Fatal(err)
		}
		return func() { w.redis.Del(context.Background(), history) }
	}
	asks := func(typ string) func(*testing.T, *testkit.Client, view) {
		return func(t *testing.T, c *testkit.Client, v view) {
			t.Helper()
			defer spoil(t, v.group)()
			_ = c.SendText(`{"type":"` + typ + `"}`)
			c.ExpectClose(t, 1013) // come back: what it knew may be wrong by now
		}
	}
	for name, meets := range map[string]func(t *testing.T, c *testkit.Client, v view){
		"research": asks("get_state"), "meta tags": asks("check_status"), "audit": asks("get_status"),
		"optimization": func(t *testing.T, c *testkit.Client, v view) { // in its own goroutine
			t.Helper()
			defer spoil(t, "optimization_job_j77")()
			w.record(t, "acme", v.group, `{"type":"optimization_update","status":"running","job_id":"j77"}`)
			c.ExpectClose(t, 1013)
			w.redis.Del(t.Context(), "orgcast:{acme}:history:"+v.group)
		},
	} {
		v := views()[name].at("77")
		undisturbed := w.neighbor(t, v)
		c, _ := w.open(t, "ada", "acme", v.path)
		channel := "orgcast:{acme}:group:" + v.group
		listening := func() bool { return len(w.redis.PubSubChannels(t.Context(), channel).Val()) > 0 }
		testkit.Eventually(t, "listening to "+channel, listening)
		meets(t, c, v)
		testkit.Eventually(t, "left "+channel, func() bool { return !listening() })
		undisturbed()
		back, first := w.open(t, "ada", "acme", v.path)
		if !strings.Contains(first, "pending") {
			t.Errorf("back at %s: got %s, want the first state", v.path, first)
		}
		back.Expect(t, w.record(t, "acme", v.group, v.event))
	}
}

func (w *world) oddInput(t *testing.T) {
	for _, v := range views() {
		undisturbed := w.neighbor(t, v)
		c, _ := w.open(t, "ada", "acme", v.path)
		for _, text := range []string{"", "no json", "[]", "7", "null", `"ping"`, `{"type":["ping"]}`, `{}`, `{"type":"größe"}`, `{"type":"human_input","input_key":"é:1","input":"ü"}`, `{"type":"ping"`} {
			if got := code(say(t, c, text)); got != "bad_message" && got != "unknown_type" && got != "input_closed" {
				t.Errorf("%q at %s: got %s, want an error frame", text, v.path, got)
			}
		}
		expectPong(t, c)
		for _, id := range []string{"%C3%A9", "%D9%A7", strings.Repeat("7", 65), "7%00", "7%2F", "%2E%2E", "%20"} {
			if got := w.refusedWith(t, w.mint("ada", "acme"), v.at(id).path); got != http.StatusNotFound {
				t.Errorf("the id %s at %s: got %d, want 404", id, v.path, got)
			}
		}
		for _, query := range []string{"?", "?session", "?a&b", "?=", "?&&", "?%"} {
			if odd, first := w.open(t, "ada", "acme", v.path+query); first == "" {
				t.Errorf("the query %s at %s: got no first frame", query, v.path)
			} else {
				expectPong(t, odd)
			}
		}
		// Binary is the one thing that ends a connection, with a code that says so.
		_ = c.Send(testkit.Frame{Opcode: testkit.OpBinary, Payload: []byte(`{"type":"ping"}`)})
		c.ExpectClose(t, 1003)
		undisturbed()
	}
}

// TestHumanInput: a question can be answered from a conversation, a run and a board alike: once,
// while it is open, from its own organization. Anyone who comes second, late, or from elsewhere
// gets the same code at each.
func TestHumanInput(t *testing.T) {
	w := newWorld(t)
	const session = "aaaaaaaa-0000-4000-8000-000000000008"
	// ways gives the answer from each consumer, and returns the frame that says what became of it.
	ways := func(t *testing.T, user, org, execution string) map[string]func(input string) (frame string) {
		t.Helper()
		from := func(path, fields string) func(string) string {
			c, first := w.open(t, user, org, path)
			until := func(frame string, types ...string) string {
				for !slices.Contains(types, typeOf(frame)) {
					frame = next(t, c)
				}
				return frame
			}
			until(first, "system_message", "initial_state")
			return func(input string) string {
				return until(say(t, c, strings.Replace(fields, "INPUT", input, 1)), "error", "human_input_accepted")
			}
		}
		key := `"input_key":"` + execution + `:0"`
		return map[string]func(string) string{
			"chat":  from(chat(session).path, `{"type":"user_message","message":"INPUT","context":{"is_human_input":true,"execution_id":"`+execution+`","task_index":0}}`),
			"run":   from("/ws/crew_execution/"+execution+"/", `{"type":"human_input",`+key+`,"input":"INPUT"}`),
			"board": from("/ws/crew/writers/kanban/", `{"type":"human_input",`+key+`,"input":"INPUT"}`),
		}
	}
	for _, way := range []string{"chat", "run", "board"} {
		t.Run(way, func(t *testing.T) {
			_, _, execution := w.startCrew(t, "ada", "acme", map[string]string{
				"chat": "aaaaaaaa-0000-4000-8000-00000000000a", "run": "aaaaaaaa-0000-4000-8000-00000000000b", "board": "aaaaaaaa-0000-4000-8000-00000000000c",
			}[way])
			watch, _ := w.open(t, "ada", "acme", "/ws/crew_execution/"+execution+"/")
			each := func(user, org, want string) {
				t.Helper()
				for name, answer := range ways(t, user, org, execution) {
					if got := code(answer("mine")); got != want {
						t.Errorf("%s of %s from the %s: got %s, want %s", user, org, name, got, want)
					}
				}
			}
			each("ada", "globex", "input_closed") // foreign
			accepted := ways(t, "ada", "acme", execution)[way]("yes from the " + way)
			if !strings.Contains(accepted, `"human_input_accepted"`) || !strings.Contains(accepted, execution) {
				t.Errorf("got %s, want human_input_accepted", accepted)
			}
			if got := next(t, watch); !strings.Contains(got, `"messages":["yes from the `+way+`"]`) {
				t.Errorf("the run: got %s, want the answer", got)
			}
			each("ada", "acme", "input_taken") // double
			each("ada", "globex", "input_closed")
			key := "orgcast:{acme}:ask:" + execution + ":0"
			if n, err := w.redis.Del(t.Context(), key).Result(); n != 1 || err != nil { // as when its life is over
				t.Fatalf("got %d keys, %v, want the question", n, err)
			}
			each("ada", "acme", "input_closed") // late
			if n := w.redis.Exists(t.Context(), key).Val(); n != 0 {
				t.Error("a late answer made the question anew")
			}
		})
	}
}
