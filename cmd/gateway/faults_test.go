package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	// What a connection of acme has just done says nothing to one without acme, or without an organization.
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
		// The gateway and its worker run in this process: what they leave behind would be seen here.
		if org, ok := orgctx.From(t.Context()); ok {
			t.Errorf("a context without an organization has %s", org)
		}
	}
}

// refusedWith returns how a handshake ends: a status, or the close code that explains it.
func (w *world) refusedWith(t *testing.T, h testkit.Handshake, path string) int {
	t.Helper()
	h.Path = path
	c, answer := testkit.Try(t, w.dial, h)
	if c == nil {
		return answer.Status
	}
	_, err := c.Next()
	if closed, ok := errors.AsType[*testkit.ClosedError](err); ok {
		return closed.Code
	}
	return answer.Status
}

func (w *world) membership(t *testing.T) {
	for _, v := range views() {
		for who, h := range map[string]testkit.Handshake{
			"stranger": w.mint("grace", "acme"), "removed": w.mint("eve", "acme"), "suspended": w.mint("ian", "initech"), "unknown": w.mint("ada", "nowhere"),
		} {
			if got := w.refusedWith(t, h, v.path); got != 4403 {
				t.Errorf("%s at %s: got %d, want 4403", who, v.path, got)
			}
		}
	}
}

// membershipEnds ends sessions and memberships of open connections.
func (w *world) membershipEnds(t *testing.T) {
	v := views()["research"].at("71")
	member := func(t *testing.T, org, status string) {
		t.Helper()
		for _, key := range []string{"orgcast:{" + org + "}:org", "orgcast:{" + org + "}:member:ada"} {
			if err := w.redis.HSet(t.Context(), key, "status", status).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	revoke := func(what ...string) func(t *testing.T, session testkit.Handshake) {
		return func(t *testing.T, session testkit.Handshake) {
			t.Helper()
			args := []string{"revoke"}
			for _, word := range what {
				if word == "SESSION" {
					word = w.sessionID(session)
				}
				args = append(args, word)
			}
			if _, errOut, err := execute(t, w.env, "", args...); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, errOut)
			}
		}
	}
	for what, test := range map[string]struct {
		happens func(t *testing.T, session testkit.Handshake)
		code    int
		back    int // what who comes back with the same session gets; 0 is the door open
	}{
		"logout":     {revoke("session", "SESSION"), 4401, 4401},
		"removal":    {revoke("member", "hooli", "ada"), 4403, 4403},
		"suspension": {revoke("organization", "hooli"), 4403, 4403},
		"unannounced suspension": {func(t *testing.T, _ testkit.Handshake) {
			t.Helper()
			member(t, "hooli", "suspended")
		}, 4403, 4403},
		// The web application gives the browser another session with it.
		"switch": {func(t *testing.T, session testkit.Handshake) {
			t.Helper()
			w.raw(t, "orgcast:control", `{"type":"organization.switched","session_id":"`+w.sessionID(session)+`","organization_id":"globex"}`)
		}, 4409, 0},
	} {
		t.Run(what, func(t *testing.T) {
			member(t, "hooli", "active")
			undisturbed := w.neighbor(t, v)
			session := w.mint("ada", "hooli")
			c, _ := w.enter(t, session, v.path)
			test.happens(t, session)
			c.ExpectClose(t, test.code)
			if test.back != 0 {
				if got := w.refusedWith(t, session, v.path); got != test.back {
					t.Errorf("afterwards: got %d, want %d", got, test.back)
				}
			}
			undisturbed()
		})
	}
}

// ownerless asks for work, events, answers and owners in the name of no organization, or of one that is none.
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
		// Well formed, but with fields that nobody expects; these are delivered, and folded into nothing.
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

func (w *world) origin(t *testing.T) {
	for _, v := range views() {
		for _, origin := range []string{"https://evil.example", "null", "https://app.example.com.evil.example", ""} {
			h := w.mint("ada", "acme")
			h.Header["Origin"] = []string{origin}
			if origin == "" {
				h.Header["Origin"] = nil
			}
			if got := w.refusedWith(t, h, v.path); got != http.StatusForbidden {
				t.Errorf("%q at %s: got %d, want 403 and no upgrade", origin, v.path, got)
			}
		}
	}
}

func (w *world) limits(t *testing.T) {
	v := views()["research"].at("72")
	undisturbed := w.neighbor(t, v)
	big, _ := w.open(t, "ada", "acme", v.path)
	_ = big.SendText(`{"type":"` + strings.Repeat("x", 5000) + `"}`)
	big.ExpectClose(t, 1009)
	fast, _ := w.open(t, "ada", "acme", v.path)
	flood := make([]testkit.Frame, 200)
	for i := range flood {
		flood[i] = testkit.Frame{Opcode: testkit.OpText, Payload: []byte(`{"type":"get_state"}`)}
	}
	_ = fast.Send(flood...)
	fast.ExpectClose(t, 4429)
	undisturbed()
	w.connectionLimits(t)
}

// connectionLimits meets the limits of its own gateway: connections of a user and of an organization, and
// time in which a browser says nothing.
func (w *world) connectionLimits(t *testing.T) {
	t.Helper()
	s := startServe(t, w.relay.addr, environment{
		"ORGCAST_DIRECTORY": "redis", "ORGCAST_MAX_PER_USER": "2", "ORGCAST_MAX_PER_ORGANIZATION": "3", "ORGCAST_IDLE_TIMEOUT": "1s", "ORGCAST_PING_INTERVAL": "1s", "ORGCAST_PONG_TIMEOUT": "1s", "ORGCAST_PREFIX": "limits",
	})
	for key := range map[string]bool{"{acme}:org": true, "{acme}:member:ada": true, "{acme}:member:alan": true} {
		if err := w.redis.HSet(t.Context(), "limits:"+key, "status", "active").Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.expectReady()
	var open []*testkit.Client
	for _, step := range []struct {
		user   string
		status int // 0 is the door open
	}{{"ada", 0}, {"ada", 0}, {"ada", http.StatusTooManyRequests}, {"alan", 0}, {"alan", http.StatusTooManyRequests}} {
		c, answer := testkit.Try(t, testkit.DialTCP(s.public), s.mint(step.user, "acme"))
		if (c != nil) != (step.status == 0) || c == nil && answer.Status != step.status {
			t.Errorf("%s: got %d, want %d", step.user, answer.Status, step.status)
		}
		if c != nil {
			open = append(open, c)
		}
	}
	for _, c := range open {
		c.ExpectClose(t, 4408)
	}
}

func (w *world) exceptionText(t *testing.T) {
	// A task goes to one or the other.
	broken := []string{"orgcast:tasks:cancel_research", "orgcast:lines:{orgcast:tasks:cancel_research}"}
	for _, key := range broken {
		if err := w.redis.Set(t.Context(), key, "of another type", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	defer w.redis.Del(context.Background(), broken...)
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
		// JSON alone: the text is what was typed, for the page to show as text, and no field holds markup.
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
	// Nobody hears what is published before the gateway is back; what it hears then reaches the page.
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

func (w *world) tabs(t *testing.T) {
	t.Helper()
	const tabs, events = 5, 10
	v := views()["research"].at("74")
	undisturbed := w.neighbor(t, v)
	reads, writes := w.calls(t, "xrevrange"), w.calls(t, "xadd")
	sets := w.calls(t, "set") + w.calls(t, "hset")
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
	if got := w.calls(t, "set") + w.calls(t, "hset") - sets; got != 0 {
		t.Errorf("other writes: got %d, want 0", got)
	}
	if got := w.calls(t, "xrevrange") - reads; got != tabs+1 {
		t.Errorf("reads of the history: got %d, want %d, one for each tab and one for the node", got, tabs+1)
	}
	undisturbed()
}

// pollingLoops sees that no consumer does anything while nothing happens: no goroutine is inside one,
// neither while pages are open nor when they have gone.
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
	// The ends that the original left out: without results, and without the ids of a job and an optimization.
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

// slowHandler lets Redis take no commands, so that the consumer waits for it. A hook of any kind that
// waits is the subject of gateway.TestHookOfTenSeconds.
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

// hooksAfterException lets a consumer meet an error that it does not expect: a history that cannot be
// read. That Disconnect runs, also after a panic, is the subject of gateway.TestPanicEndsOneConnection.
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

// TestHumanInput: a question can be answered from a conversation, a run and a board alike: once, while
// it is open, from its own organization. Anyone who comes second, late, or from elsewhere gets the same
// code at each.
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
