package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/consumer"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// world is a gateway with a real Redis, a worker, and two organisations that use the same ids for
// everything: ada and alan of acme, grace and ada of globex. initech is suspended.
type world struct {
	*serving

	redis *redis.Client
	bus   *pubsub.Redis
	dial  testkit.DialFunc
}

const conversationID = "0b5cd2c5-3f0e-4a7e-9d53-8f1f6a3b1f00"

func newWorld(t *testing.T) *world {
	t.Helper()
	addr := redistest.Start(t)
	w := &world{redis: redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})}
	t.Cleanup(func() { _ = w.redis.Close() })
	keys, err := keyspace.New(keyspace.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	for key, status := range map[string]string{
		"{acme}:org": "active", "{acme}:member:ada": "active", "{acme}:member:alan": "active", "{acme}:member:eve": "removed",
		"{globex}:org": "active", "{globex}:member:ada": "active", "{globex}:member:grace": "active",
		"{initech}:org": "suspended", "{initech}:member:ian": "active",
	} {
		if err := w.redis.HSet(t.Context(), "orgcast:"+key, "status", status).Err(); err != nil {
			t.Fatal(err)
		}
	}
	w.bus = pubsub.NewRedis(w.redis, keys, pubsub.Options{})
	w.serving = startServe(t, addr, environment{"ORGCAST_DIRECTORY": "redis", "ORGCAST_MAX_FRAME": "4096"})
	w.expectReady()
	w.dial = testkit.DialTCP(w.public)
	w.work(t, keys)
	return w
}

// work runs a worker. Its chat answers with the organisation of its context, its crew asks a person,
// and its research panics.
func (w *world) work(t *testing.T, keys keyspace.Keyspace) {
	t.Helper()
	dir, err := directory.NewRedis(w.redis, keys)
	if err != nil {
		t.Fatal(err)
	}
	asks, err := task.NewAsks(w.redis, keys)
	if err != nil {
		t.Fatal(err)
	}
	worker, err := task.NewWorker(w.redis, keys, dir, map[string]task.Kind{
		"chat": {Run: func(ctx context.Context, job *task.Job) (any, error) {
			org, _ := orgctx.From(ctx)
			var turn struct{ Message string }
			err := json.Unmarshal(job.Payload, &turn)
			return map[string]string{"type": "agent_message", "message": turn.Message + " from " + org.String()}, err
		}},
		"crew": {Run: func(ctx context.Context, job *task.Job) (any, error) {
			if _, err := asks.Open(ctx, job.ID, 0, json.RawMessage(`"Go on?"`), 0); err != nil {
				return nil, err
			}
			request := map[string]any{"type": "human_input_request", "execution_id": job.ID, "prompt": "Go on?", "task_index": 0, "input_key": consumer.InputKey(job.ID, 0)}
			if err := job.Publish(ctx, "crew_writers_kanban", request); err != nil {
				return nil, err
			}
			answer, err := asks.Wait(ctx, job.ID, 0)
			return map[string]any{"type": "crew_execution_update", "status": "COMPLETED", "messages": []string{answer}}, err
		}},
		"research": {Run: func(context.Context, *task.Job) (any, error) { panic("secret of the worker") }},
	}, task.Options{Attempts: 1, Poll: 10 * time.Millisecond, Drain: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- worker.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
}

// open connects, and returns the first frame, too.
func (w *world) open(t *testing.T, user, org, path string) (c *testkit.Client, first string) {
	t.Helper()
	h := w.mint(user, org)
	h.Path = path
	c = testkit.Connect(t, w.dial, h)
	return c, next(t, c)
}

func next(t *testing.T, c *testkit.Client) string {
	t.Helper()
	text, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// say sends a frame and returns the answer.
func say(t *testing.T, c *testkit.Client, frame string) string {
	t.Helper()
	if err := c.SendText(frame); err != nil {
		t.Fatal(err)
	}
	return next(t, c)
}

// expectPong sees that the connection is alive, by the WebSocket's own ping.
func expectPong(t *testing.T, c *testkit.Client) {
	t.Helper()
	_ = c.Send(testkit.Frame{Opcode: testkit.OpPing, Payload: []byte("p")})
	if f, err := c.ReadFrame(); err != nil || f.Opcode != testkit.OpPong {
		t.Fatalf("got %v, %v, want a pong", f, err)
	}
}

// code returns the code of an error frame.
func code(frame string) string {
	var e struct{ Type, Code string }
	if json.Unmarshal([]byte(frame), &e) != nil || e.Type != "error" {
		return frame
	}
	return e.Code
}

// record records an event and returns it as browsers see it.
func (w *world) record(t *testing.T, org, group, fields string) string {
	t.Helper()
	id, err := parseOrganization(org)
	if err != nil {
		t.Fatal(err)
	}
	g, err := event.NewGroup(id, group)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := event.WithOrganization(id, []byte(fields))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.bus.Record(t.Context(), g, payload, pubsub.RecordOptions{}); err != nil {
		t.Fatal(err)
	}
	return string(payload)
}

// raw publishes whatever there is in a channel.
func (w *world) raw(t *testing.T, channel, payload string) {
	t.Helper()
	if err := w.redis.Publish(t.Context(), channel, payload).Err(); err != nil {
		t.Fatal(err)
	}
}

// calls returns how often Redis has run a command.
func (w *world) calls(t *testing.T, command string) int {
	t.Helper()
	info, err := w.redis.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`cmdstat_` + command + `:calls=(\d+)`).FindStringSubmatch(info)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// view is a consumer of a job, whose id both organisations use.
type view struct{ path, group, event string }

func views() map[string]view {
	return map[string]view{
		"research":       {"/ws/research/7/", "research_7", `{"type":"status_update","status":"running","message":"MARK"}`},
		"meta tags":      {"/ws/meta-tags/task/t7/", "metatags_task_t7", `{"type":"status_update","status":"running","message":"MARK"}`},
		"crew execution": {"/ws/crew_execution/e7/", "crew_execution_e7", `{"type":"crew_execution_update","status":"RUNNING","messages":["MARK"]}`},
		"audit":          {"/ws/seo_audit/7/", "audit_7", `{"type":"audit.update","data":{"status":"MARK"}}`},
		"board":          {"/ws/crew/c7/kanban/", "crew_c7_kanban", `{"type":"execution_update","execution_id":"e7","status":"MARK"}`},
		"optimization":   {"/ws/image-optimizer/7/", "optimization_7", `{"type":"optimization_update","status":"MARK"}`},
		"crawl":          {"/ws/crawl/c7/", "crawl_c7", `{"type":"crawl_update","data":{"update_type":"MARK"}}`},
	}
}

// expectApart sees that a viewer of each organisation gets its own state and events, and nothing else.
func (w *world) expectApart(t *testing.T, v view) {
	t.Helper()
	marked := func(mark string) string { return strings.ReplaceAll(v.event, "MARK", mark) }
	w.record(t, "acme", v.group, marked("secret of acme"))
	grace, first := w.open(t, "grace", "globex", v.path)
	if strings.Contains(first, "acme") {
		t.Errorf("%s: a stranger sees %s", v.path, first)
	}
	ada, first := w.open(t, "ada", "acme", v.path)
	if !strings.Contains(first, "secret of acme") {
		t.Errorf("%s: got %s, want the recorded state", v.path, first)
	}
	ada.Expect(t, w.record(t, "acme", v.group, marked("live of acme")))
	grace.Expect(t, w.record(t, "globex", v.group, marked("live of globex"))) // and nothing before it
	ada.Expect(t, w.record(t, "acme", v.group, marked("last of acme")))
}

// TestFaults shows of each fault of the application before this one that it cannot happen here.
func TestFaults(t *testing.T) {
	w := newWorld(t)
	t.Run("boards shared by tenants through a bare crew id", func(t *testing.T) { w.expectApart(t, views()["board"]) })
	t.Run("guessed integer ids", func(t *testing.T) {
		for _, name := range []string{"research", "audit", "optimization"} {
			w.expectApart(t, views()[name])
		}
	})
	t.Run("task ids as bearer secrets", func(t *testing.T) {
		for _, name := range []string{"meta tags", "crew execution", "crawl"} {
			w.expectApart(t, views()[name])
		}
	})
	t.Run("unscoped fallback reads", w.unscopedReads)
	t.Run("human input into another tenant's execution or a key of the client's choice", w.foreignInput)
	t.Run("context left behind by a previous task or connection", w.contextLeftBehind)
	t.Run("no membership check", w.membership)
	t.Run("no membership check after switch, logout, suspension", w.membershipLater)
	t.Run("work running although the organisation is unknown", w.unknownOrganization)
	t.Run("events without organization_id", w.withoutOrganization)
	t.Run("a conversation opened under another organisation or by another user", w.foreignConversation)
	t.Run("browsers forging events", w.forgedEvents)
	t.Run("one bad event closing every viewer", w.badEvent)
	t.Run("no origin check", w.origin)
	t.Run("no limits", w.limits)
	t.Run("exception text to clients", w.exceptionText)
	t.Run("HTML in frames", w.html)
	t.Run("subscription dying", w.subscriptionDies)
	t.Run("every open tab writing to the store, and polling loops that never end", w.tabs)
	t.Run("missed first state", w.firstState)
	t.Run("jobs without a terminal event", w.terminalEvent)
	t.Run("different keepalives", w.keepalives)
	t.Run("reconnect for ever or never", w.closeCodes)
	t.Run("a slow handler blocking the disconnect", w.slowHandler)
	t.Run("hooks not run after an exception", w.hooksAfterException)
	t.Run("binary, non-object or non-ASCII input dropping the connection", w.oddInput)
}

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
	closed := `{"code":"input_closed","message":"Nothing waits for this input, or not any more.","type":"error"}`
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
			if got := say(t, c, `{"type":"user_message","message":"`+text+`","client_id":"m`+strconv.Itoa(i)+`"}`); !strings.Contains(got, `"message":"`+text+`"`) {
				t.Fatalf("got %s, want one's own message", got)
			}
			if got := next(t, c); !strings.Contains(got, text+" from "+org+`"`) {
				t.Fatalf("got %s, want an answer from %s", got, org)
			}
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

func (w *world) membershipLater(t *testing.T) {
	c, _ := w.open(t, "alan", "acme", "/ws/research/71/")
	if _, errOut, err := execute(t, w.env, "", "revoke", "member", "acme", "alan"); err != nil {
		t.Fatalf("revoke: %v\n%s", err, errOut)
	}
	c.ExpectClose(t, 4403)
	if got := w.refusedWith(t, w.mint("alan", "acme"), "/ws/research/71/"); got != 4403 {
		t.Errorf("afterwards: got %d, want 4403", got)
	}
}

func (w *world) unknownOrganization(t *testing.T) {
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
		if n := w.redis.Exists(t.Context(), "orgcast:{"+org+"}:history:chat_x").Val(); n != 0 {
			t.Errorf("%q: the handler ran", org)
		}
	}
}

func (w *world) withoutOrganization(t *testing.T) {
	for _, v := range views() {
		c, _ := w.open(t, "ada", "acme", v.path)
		channel := "orgcast:{acme}:group:" + v.group
		w.raw(t, channel, v.event)
		w.raw(t, channel, strings.Replace(v.event, "{", `{"organization_id":null,`, 1))
		w.raw(t, channel, strings.Replace(v.event, "{", `{"organization_id":"globex",`, 1))
		c.Expect(t, w.record(t, "acme", v.group, v.event)) // and nothing before it
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
		t.Errorf("another organisation: got %s, want an empty conversation", first)
	}
	if _, first := w.open(t, "ada", "acme", path); !strings.Contains(first, "secret of acme") {
		t.Errorf("the owner: got %s, want the history", first)
	}
}

func (w *world) forgedEvents(t *testing.T) {
	paths := []string{"/ws/chat/?session=aaaaaaaa-0000-4000-8000-000000000003", "/ws/connection_test/"}
	for _, v := range views() {
		paths = append(paths, v.path)
	}
	board, _ := w.open(t, "ada", "acme", "/ws/crew/c7/kanban/")
	for _, path := range paths {
		c, _ := w.open(t, "ada", "acme", path)
		for _, typ := range []string{"execution_update", "agent_step", "human_input_request", "task_complete", "crew_execution_update", "status_update", "agent_message"} {
			if got := code(say(t, c, `{"type":"`+typ+`","execution_id":"e7","status":"COMPLETED","message":"x","group":"crew_c7_kanban"}`)); got != "unknown_type" {
				t.Errorf("%s at %s: got %s, want unknown_type", typ, path, got)
			}
		}
	}
	board.Expect(t, w.record(t, "acme", "crew_c7_kanban", views()["board"].event)) // and nothing before it
}

func (w *world) badEvent(t *testing.T) {
	for _, v := range views() {
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
	big, _ := w.open(t, "ada", "acme", "/ws/research/72/")
	_ = big.SendText(`{"type":"` + strings.Repeat("x", 5000) + `"}`)
	big.ExpectClose(t, 1009)
	fast, _ := w.open(t, "ada", "acme", "/ws/research/72/")
	flood := make([]testkit.Frame, 200)
	for i := range flood {
		flood[i] = testkit.Frame{Opcode: testkit.OpText, Payload: []byte(`{"type":"get_state"}`)}
	}
	_ = fast.Send(flood...)
	fast.ExpectClose(t, 4429)
}

func (w *world) exceptionText(t *testing.T) {
	const stream = "orgcast:tasks:cancel_research"
	if err := w.redis.Set(t.Context(), stream, "no stream", 0).Err(); err != nil {
		t.Fatal(err)
	}
	defer w.redis.Del(context.Background(), stream)
	c, _ := w.open(t, "ada", "acme", "/ws/research/73/")
	got := say(t, c, `{"type":"cancel_research"}`)
	if code(got) != "unavailable" || regexp.MustCompile(`(?i)wrongtype|redis|dispatch|err `).MatchString(got) {
		t.Errorf("got %s, want unavailable and nothing else", got)
	}
	expectPong(t, c)
}

func (w *world) html(t *testing.T) {
	c, _ := w.open(t, "ada", "acme", "/ws/chat/?session=aaaaaaaa-0000-4000-8000-000000000004")
	const text = `<img src=x onerror=alert(1)>`
	for _, got := range []string{say(t, c, `{"type":"user_message","message":"`+text+`","html":"<b>","message_html":"<b>"}`), next(t, c)} {
		var m map[string]any
		if err := json.Unmarshal([]byte(got), &m); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(got, "<>") || !strings.HasPrefix(m["message"].(string), text) || m["html"] != nil || m["message_html"] != nil {
			t.Errorf("got %s, want the text as it was typed, and no markup", got)
		}
	}
}

func (w *world) subscriptionDies(t *testing.T) {
	c, _ := w.open(t, "ada", "acme", "/ws/crawl/s7/")
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
}

func (w *world) tabs(t *testing.T) {
	const tabs, events = 5, 10
	reads, writes := w.calls(t, "xrevrange"), w.calls(t, "xadd")
	sets := w.calls(t, "set") + w.calls(t, "hset")
	var open []*testkit.Client
	for range tabs {
		c, _ := w.open(t, "ada", "acme", "/ws/research/74/")
		open = append(open, c)
	}
	for i := range events {
		want := w.record(t, "acme", "research_74", `{"type":"step_update","step":"x","step_number":`+strconv.Itoa(i)+`}`)
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
}

func (w *world) firstState(t *testing.T) {
	const last = 60
	var recording sync.WaitGroup
	recording.Go(func() {
		for i := range last {
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
	c, _ := w.open(t, "ada", "acme", "/ws/research/76/")
	err := w.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: "orgcast:tasks:research", Values: []any{
		"organization_id", "acme", "kind", "research", "id", "76", "group", "research_76", "payload", `{}`,
	}}).Err()
	if err != nil {
		t.Fatal(err)
	}
	c.Expect(t, `{"organization_id":"acme","type":"task_failed","task_id":"76","code":"panic"}`)
	if _, first := w.open(t, "ada", "acme", "/ws/research/76/"); !strings.Contains(first, `"status":"failed"`) {
		t.Errorf("later: got %s, want failed", first)
	}
}

func (w *world) keepalives(t *testing.T) {
	paths := []string{"/ws/chat/?session=aaaaaaaa-0000-4000-8000-000000000005", "/ws/connection_test/"}
	for _, v := range views() {
		paths = append(paths, v.path)
	}
	for _, path := range paths {
		c, _ := w.open(t, "ada", "acme", path)
		for _, typ := range []string{"ping", "keep_alive"} {
			_ = c.SendText(`{"type":"` + typ + `"}`)
			c.Expect(t, `{"type":"pong"}`)
		}
		expectPong(t, c)
	}
}

func (w *world) closeCodes(t *testing.T) {
	for _, v := range views() {
		nobody := testkit.Handshake{Header: http.Header{"Origin": {testOrigin}}}
		if got := w.refusedWith(t, nobody, v.path); got != 4401 {
			t.Errorf("%s without a session: got %d, want 4401: sign in", v.path, got)
		}
	}
	if got := w.refusedWith(t, w.mint("ada", "acme"), "/ws/chat/"); got != 4404 {
		t.Errorf("no conversation: got %d, want 4404: stop", got)
	}
	if got := w.refusedWith(t, w.mint("ada", "acme"), "/ws/image-optimizer/7/?job=a/b"); got != 4404 {
		t.Errorf("no job: got %d, want 4404: stop", got)
	}
}

// Events of a connection whose handler is slow are the subject of gateway.TestSlowReceiveDelaysNothing.
func (w *world) slowHandler(t *testing.T) {
	c, _ := w.open(t, "ada", "acme", "/ws/chat/?session=aaaaaaaa-0000-4000-8000-000000000006")
	if err := w.redis.Do(t.Context(), "client", "pause", "30000", "write").Err(); err != nil {
		t.Fatal(err)
	}
	defer w.redis.Do(context.Background(), "client", "unpause")
	_ = c.SendText(`{"type":"user_message","message":"hello"}`) // which Redis does not take
	expectPong(t, c)
	_ = c.Send(testkit.CloseFrame(1000, ""))
	c.ExpectClose(t, 1000)
}

func (w *world) hooksAfterException(t *testing.T) {
	for _, v := range views() {
		path, group := strings.Replace(v.path, "7", "77", 1), strings.Replace(v.group, "7", "77", 1)
		c, _ := w.open(t, "ada", "acme", path)
		channel := "orgcast:{acme}:group:" + group
		listening := func() bool { return len(w.redis.PubSubChannels(t.Context(), channel).Val()) > 0 }
		testkit.Eventually(t, "listening to "+channel, listening)
		_ = c.Send(testkit.Frame{Opcode: testkit.OpBinary, Payload: []byte("x")})
		c.ExpectClose(t, 1003)
		testkit.Eventually(t, "left "+channel, func() bool { return !listening() })
	}
}

func (w *world) oddInput(t *testing.T) {
	for _, v := range views() {
		c, _ := w.open(t, "ada", "acme", v.path)
		for _, text := range []string{"", "no json", "[]", "7", "null", `"ping"`, `{"type":["ping"]}`, `{}`, `{"type":"größe"}`, `{"type":"human_input","input_key":"é:1","input":"ü"}`, `{"type":"ping"`} {
			if got := code(say(t, c, text)); got != "bad_message" && got != "unknown_type" && got != "input_closed" {
				t.Errorf("%q at %s: got %s, want an error frame", text, v.path, got)
			}
		}
		expectPong(t, c)
		// Binary is the one thing that ends a connection, with a code that says so.
		_ = c.Send(testkit.Frame{Opcode: testkit.OpBinary, Payload: []byte(`{"type":"ping"}`)})
		c.ExpectClose(t, 1003)
	}
}
