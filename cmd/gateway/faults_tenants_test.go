package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/consumer"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

func (w *world) unscopedReads(t *testing.T) {
	w.record(t, "acme", "research_70", `{"type":"status_update","status":"running","message":"secret of acme"}`)
	w.record(t, "acme", "metatags_task_t70", `{"type":"status_update","status":"running","message":"secret of acme"}`)
	w.record(t, "acme", "audit_70", `{"type":"audit.update","data":{"status":"secret of acme"}}`)
	for path, frame := range map[string]string{"/ws/research/70/": "get_state", "/ws/meta-tags/task/t70/": "check_status", "/ws/seo_audit/70/": "get_status"} {
		c, first := w.open(t, "grace", "globex", path)
		again := say(t, c, `{"type":"`+frame+`","organization_id":"acme"}`)
		for _, got := range []string{first, again} {
			if !strings.Contains(got, `"pending"`) || strings.Contains(got, "acme") {
				t.Errorf("%s: got %s, want what an unknown job looks like", path, got)
			}
		}
	}
	ada, _ := w.open(t, "ada", "acme", "/ws/research/70/")
	grace, _ := w.open(t, "grace", "globex", "/ws/research/70/")
	if got := say(t, grace, `{"type":"cancel_research","research_id":70,"organization_id":"acme"}`); !strings.Contains(got, `"message":"cancelled in globex"`) {
		t.Errorf("cancel: got %s, want an answer from globex", got)
	}
	ada.Expect(t, w.record(t, "acme", "research_70", views()["research"].event)) // and nothing before it
}

// startCrew starts a crew in a conversation of one's own, and returns the execution once it asks.
func (w *world) startCrew(t *testing.T, user, org, session string) (board, chat *testkit.Client, execution string) {
	t.Helper()
	chat, _ = w.open(t, user, org, "/ws/chat/?session="+session)
	board, _ = w.open(t, user, org, "/ws/crew/writers/kanban/")
	var started struct {
		ExecutionID string `json:"execution_id"`
	}
	answer := say(t, chat, `{"type":"start_crew","crew_id":"writers"}`)
	joined := next(t, chat) // an event, which may come before the answer
	if strings.Contains(answer, `"system_message"`) {
		answer, joined = joined, answer
	}
	if !strings.Contains(joined, `"participant_type":"crew"`) {
		t.Fatalf("start_crew: got %s, want a system_message", joined)
	}
	if err := json.Unmarshal([]byte(answer), &started); err != nil || started.ExecutionID == "" {
		t.Fatalf("start_crew: got %s", answer)
	}
	if got := next(t, board); !strings.Contains(got, `"input_key":"`+started.ExecutionID+`:0"`) {
		t.Fatalf("board: got %s, want the request", got)
	}
	return board, chat, started.ExecutionID
}

func (w *world) foreignInput(t *testing.T) {
	board, chat, execution := w.startCrew(t, "ada", "acme", "aaaaaaaa-0000-4000-8000-000000000001")
	watch, _ := w.open(t, "ada", "acme", "/ws/crew_execution/"+execution+"/")
	input := func(key string) string {
		return `{"type":"human_input","input_key":"` + key + `","input":"yes","organization_id":"acme"}`
	}
	closed := `{"code":"input_closed","message":"This question is no longer open.","type":"error"}`
	for _, path := range []string{"/ws/crew/writers/kanban/", "/ws/crew_execution/" + execution + "/", "/ws/chat/?session=aaaaaaaa-0000-4000-8000-000000000001"} {
		c, _ := w.open(t, "grace", "globex", path)
		for _, key := range []string{execution + ":0", "never:0", "orgcast:{acme}:ask:" + execution + ":0", "{acme}:ask:" + execution, "../acme:0", execution + ":0:"} {
			frame := input(key)
			if strings.Contains(path, "chat") {
				frame = `{"type":"user_message","message":"yes","context":{"is_human_input":true,"input_key":"` + key + `"}}`
			}
			if err := c.SendText(frame); err != nil {
				t.Fatal(err)
			}
			c.Expect(t, closed) // foreign, unknown and made up look alike
		}
	}
	before := w.redis.DBSize(t.Context()).Val()
	if got := code(say(t, board, input("orgcast:session:x"))); got != "input_closed" {
		t.Errorf("a key of one's own: got %s, want input_closed", got)
	}
	if after := w.redis.DBSize(t.Context()).Val(); after > before {
		t.Errorf("keys: got %d, want %d: the browser made one", after, before)
	}
	if got := say(t, board, input(execution+":0")); !strings.Contains(got, "human_input_accepted") {
		t.Errorf("a member: got %s, want human_input_accepted", got)
	}
	if got := next(t, watch); !strings.Contains(got, `"messages":["yes"]`) {
		t.Errorf("the run: got %s, want the answer", got)
	}
	twice := `{"type":"user_message","message":"no","context":{"is_human_input":true,"execution_id":"` + execution + `","task_index":0}}`
	if got := code(say(t, chat, twice)); got != "input_taken" {
		t.Errorf("twice: got %s, want input_taken", got)
	}
}

func (w *world) contextLeftBehind(t *testing.T) {
	path := "/ws/chat/?session=" + conversationID
	acme, _ := w.open(t, "ada", "acme", path)
	globex, _ := w.open(t, "ada", "globex", path) // the same user and id elsewhere
	for i := range 10 {
		for org, c := range map[string]*testkit.Client{"acme": acme, "globex": globex} {
			text := fmt.Sprintf("%s %d", org, i)
			if got := say(t, c, `{"type":"user_message","message":"`+text+`","request_id":"m`+strconv.Itoa(i)+`"}`); !strings.Contains(got, `"message":"`+text+`"`) {
				t.Fatalf("got %s, want one's own message", got)
			}
			if got := next(t, c); !strings.Contains(got, text+" from "+org+`"`) {
				t.Fatalf("got %s, want an answer from %s", got, org)
			}
		}
	}
	// What a connection of acme has just done says nothing to one without acme, or without an
	// organization.
	w.record(t, "acme", "audit_71", `{"type":"audit.update","data":{"status":"secret of acme"}}`)
	audit, _ := w.open(t, "grace", "globex", "/ws/seo_audit/71/")
	alone := testkit.Connect(t, w.dial, w.mintAlone("ada"))
	next(t, alone)
	for range 3 {
		say(t, acme, `{"type":"user_message","message":"again"}`)
		next(t, acme)
		if got := say(t, audit, `{"type":"get_status"}`); !strings.Contains(got, `"pending"`) || strings.Contains(got, "acme") {
			t.Errorf("globex: got %s, want pending", got)
		}
		if got := code(say(t, alone, `{"type":"get_status"}`)); got != "unknown_type" {
			t.Errorf("without an organization: got %s, want unknown_type", got)
		}
		// The gateway and its worker run in this process: what they leave behind would be seen
		// here.
		if org, ok := orgctx.From(t.Context()); ok {
			t.Errorf("a context without an organization has %s", org)
		}
	}
}

// ownerless asks for work, events, answers and owners in the name of no organization, or of one
// that is none.
func (w *world) ownerless(t *testing.T) {
	before := w.redis.DBSize(t.Context()).Val()
	parts := w.services(t)
	_, dispatched := parts.Dispatch(t.Context(), consumer.Work{Kind: "chat", Group: "chat_x"})
	_, claimed := parts.Claim(t.Context(), "chat", "x", "ada")
	for what, err := range map[string]error{
		"work": dispatched, "owner": claimed, "event": parts.Record(t.Context(), "chat_x", "", map[string]string{"type": "x"}), "answer": parts.Answer(t.Context(), consumer.Answer{Execution: "e1", Input: "yes"}),
	} {
		if !errors.Is(err, orgctx.ErrNoOrganization) {
			t.Errorf("%s without an organization: got %v, want %v", what, err, orgctx.ErrNoOrganization)
		}
	}
	if after := w.redis.DBSize(t.Context()).Val(); after != before {
		t.Errorf("keys: got %d, want %d", after, before)
	}
	w.ownerlessTasks(t)
}

func (w *world) ownerlessTasks(t *testing.T) {
	t.Helper()
	const dead = "orgcast:tasks:chat:dead"
	before := w.redis.XLen(t.Context(), dead).Val()
	orgs := []string{"nowhere", "initech", "", "no one"}
	for _, org := range orgs {
		err := w.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: "orgcast:tasks:chat", Values: []any{
			"organization_id", org, "kind", "chat", "id", "u1", "group", "chat_x", "payload", `{"message":"hello"}`,
		}}).Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "all are refused", func() bool { return w.redis.XLen(t.Context(), dead).Val() == before+int64(len(orgs)) })
	for _, org := range orgs {
		said, err := w.redis.XRange(t.Context(), "orgcast:{"+org+"}:history:chat_x", "-", "+").Result()
		if err != nil || strings.Contains(fmt.Sprint(said), "agent_message") {
			t.Errorf("%q: got %v, %v: the handler ran", org, said, err)
		}
		if want := map[string]int{"initech": 1}[org]; len(said) != want { // a suspended one's viewers learn of the end
			t.Errorf("%q: got %v, want %d events", org, said, want)
		}
	}
}

func (w *world) withoutOrganization(t *testing.T) {
	dropped := func(reason string) float64 { return w.metric("orgcast_events_dropped_total", `reason="`+reason+`"`) }
	missing, foreign, each := dropped("no_organization"), dropped("foreign_organization"), float64(len(views()))
	defer func() {
		if got := dropped("no_organization") - missing; got != 2*each {
			t.Errorf("dropped without an organization: got %v, want %v", got, 2*each)
		}
		if got := dropped("foreign_organization") - foreign; got != each {
			t.Errorf("dropped of another organization: got %v, want %v", got, each)
		}
	}()
	for _, v := range views() {
		undisturbed := w.neighbor(t, v)
		c, _ := w.open(t, "ada", "acme", v.path)
		channel := "orgcast:{acme}:group:" + v.group
		w.raw(t, channel, v.event)
		w.raw(t, channel, strings.Replace(v.event, "{", `{"organization_id":null,`, 1))
		w.raw(t, channel, strings.Replace(v.event, "{", `{"organization_id":"globex",`, 1))
		c.Expect(t, w.record(t, "acme", v.group, v.event)) // and nothing before it
		undisturbed()
	}
}

func (w *world) foreignConversation(t *testing.T) {
	const session = "aaaaaaaa-0000-4000-8000-000000000002"
	path := "/ws/chat/?session=" + session
	ada, _ := w.open(t, "ada", "acme", path)
	say(t, ada, `{"type":"user_message","message":"secret of acme"}`)
	next(t, ada)
	if err := w.redis.HSet(t.Context(), "orgcast:{acme}:member:bob", "status", "active").Err(); err != nil {
		t.Fatal(err)
	}
	if got := w.refusedWith(t, w.mint("bob", "acme"), path); got != 4404 {
		t.Errorf("another user: got %d, want 4404", got)
	}
	if got := w.refusedWith(t, w.mint("bob", "acme"), "/ws/chat/?session=none"); got != 4404 {
		t.Errorf("no conversation at all: got %d, want 4404 too", got)
	}
	if _, first := w.open(t, "grace", "globex", path); !strings.Contains(first, "system_message") {
		t.Errorf("another organization: got %s, want an empty conversation", first)
	}
	if _, first := w.open(t, "ada", "acme", path); !strings.Contains(first, "secret of acme") {
		t.Errorf("the owner: got %s, want the history", first)
	}
}

// isBookkeeping reports whether nodes and workers change a key from time to time, whatever is delivered:
// that they are there, how many connections organizations have, what they use, and since when they have
// histories.
func isBookkeeping(key string) bool {
	for _, of := range []string{"orgcast:node:", "orgcast:usage:", "orgcast:idle:"} {
		if strings.HasPrefix(key, of) {
			return true
		}
	}
	return key == "orgcast:nodes" || strings.HasSuffix(key, ":connections") || strings.HasSuffix(key, ":epoch")
}

// changes returns a function that lists the keys that were changed in between, in order.
func (w *world) changes(t *testing.T) func() []string {
	t.Helper()
	const last = "the-last-change"
	if err := w.redis.ConfigSet(t.Context(), "notify-keyspace-events", "KA").Err(); err != nil {
		t.Fatal(err)
	}
	heard := w.redis.PSubscribe(t.Context(), "__keyspace@*__:*")
	t.Cleanup(func() { _ = heard.Close() }) // the test is over
	if _, err := heard.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() (keys []string) {
		t.Helper()
		if err := w.redis.Set(t.Context(), last, 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := heard.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, key, _ := strings.Cut(m.Channel, ":")
			if key == last {
				return keys
			}
			keys = append(keys, key)
		}
	}
}

func (w *world) tabs(t *testing.T) {
	t.Helper()
	const tabs, events = 5, 10
	v := views()["research"].at("74")
	undisturbed := w.neighbor(t, v)
	reads, writes := w.calls(t, "xrevrange"), w.calls(t, "xadd")
	changed := w.changes(t)
	var open []*testkit.Client
	for range tabs {
		c, _ := w.open(t, "ada", "acme", v.path)
		open = append(open, c)
	}
	for i := range events {
		want := w.record(t, "acme", v.group, `{"type":"step_update","step":"x","step_number":`+strconv.Itoa(i)+`}`)
		for _, c := range open {
			c.Expect(t, want)
		}
	}
	if got := w.calls(t, "xadd") - writes; got != events {
		t.Errorf("XADD: got %d, want %d, one for each event", got, events)
	}
	for _, key := range changed() {
		if !strings.HasSuffix(key, ":history:"+v.group) && !isBookkeeping(key) {
			t.Errorf("delivery changed %s", key)
		}
	}
	if got := w.calls(t, "xrevrange") - reads; got != tabs+1 {
		t.Errorf("reads of the history: got %d, want %d, one for each tab and one for the node", got, tabs+1)
	}
	undisturbed()
}
