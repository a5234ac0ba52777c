package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
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

// world is a gateway with a real Redis, a worker, and two organizations that use the same ids for
// everything: ada and alan of acme, grace and ada of globex. initech is suspended.
type world struct {
	*serving

	redis *redis.Client
	bus   *pubsub.Redis
	relay *relay // between the gateway and Redis
	dial  testkit.DialFunc
}

const conversationID = "0b5cd2c5-3f0e-4a7e-9d53-8f1f6a3b1f00"

func newWorld(t *testing.T) *world {
	t.Helper()
	addr := redistest.Start(t)
	w := &world{redis: redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true}), relay: startRelay(t, addr)}
	t.Cleanup(func() { _ = w.redis.Close() })
	keys := testkit.Keys(t)
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
	w.serving = startServe(t, w.relay.addr, environment{"ORGCAST_DIRECTORY": "redis", "ORGCAST_MAX_FRAME": "4096", "ORGCAST_LEASE_PERIOD": "1s"})
	w.expectReady()
	w.dial = testkit.DialTCP(w.public)
	w.work(t, keys)
	return w
}

// work runs a worker. Its chat answers with the organization of its context, its crew asks a
// person, and its research panics.
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
		"chat_edit": {Run: func(context.Context, *task.Job) (any, error) { return map[string]string{"type": "agent_finish"}, nil }},
		"research":  {Run: func(context.Context, *task.Job) (any, error) { panic("secret of the worker") }},
		"cancel_research": {Run: func(ctx context.Context, job *task.Job) (any, error) {
			org, _ := orgctx.From(ctx)
			message := "cancelled in " + org.String()
			switch {
			case strings.Contains(string(job.Payload), `"13"`):
				return nil, task.Fail("unlucky")
			case strings.Contains(string(job.Payload), `"14"`):
				message = "stopped by " + job.UserID + " as " + job.ID
			}
			return map[string]any{"type": "cancel_response", "success": true, "message": message}, nil
		}},
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
	return w.enter(t, w.mint(user, org), path)
}

// enter does that with a session that is there.
func (w *world) enter(t *testing.T, session testkit.Handshake, path string) (c *testkit.Client, first string) {
	t.Helper()
	session.Path = path
	c = testkit.Connect(t, w.dial, session)
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
	for {
		f, err := c.ReadFrame()
		if err == nil && f.Opcode == testkit.OpPing { // on a busy machine the gateway may ask, too
			err = c.Send(testkit.Frame{Opcode: testkit.OpPong, Payload: f.Payload})
		} else if err == nil && f.Opcode == testkit.OpPong {
			return
		}
		if err != nil || f.Opcode != testkit.OpPing {
			t.Fatalf("got %v, %v, want a pong", f, err)
		}
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
	g := testkit.Group(t, org, group)
	payload, err := event.WithOrganization(g.Organization(), []byte(fields))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.bus.Record(t.Context(), g, payload, event.Recording{}); err != nil {
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

// view is a consumer of a job, whose id both organizations use.
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

// at returns the view with other ids.
func (v view) at(id string) view {
	return view{strings.Replace(v.path, "7", id, 1), strings.Replace(v.group, "7", id, 1), v.event}
}

// chat is the view of a conversation.
func chat(session string) view {
	return view{"/ws/chat/?session=" + session, "chat_" + session, `{"type":"agent_message","message":"MARK"}`}
}

// everywhere are the paths of all consumers. The conversation is the given one.
func everywhere(session string) []string {
	paths := []string{chat(session).path, "/ws/connection_test/"}
	for _, v := range views() {
		paths = append(paths, v.path)
	}
	return paths
}

// neighbor opens a view as the user who is called ada in the other organization, too. The function
// that it returns sees that until then nothing has come of what went on in acme, and that all is
// well.
func (w *world) neighbor(t *testing.T, v view) (undisturbed func()) {
	t.Helper()
	c, _ := w.open(t, "ada", "globex", v.path)
	return func() {
		t.Helper()
		c.Expect(t, w.record(t, "globex", v.group, v.event)) // and nothing before it
		expectPong(t, c)
	}
}

// expectApart sees that a viewer of each organization gets its own state and events, and nothing
// else.
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

// relay passes bytes between a gateway and its Redis. While it is closed, subscriptions go on, and
// commands wait.
type relay struct {
	addr string

	mu      sync.Mutex
	open    chan struct{} // closed when commands may pass
	waiting bytes.Buffer
}

func startRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: l.Addr().String()}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			wg.Go(func() { r.pass(client, server) })
			wg.Go(func() {
				_, _ = io.Copy(client, server)
				_ = client.Close()
			})
		}
	})
	return r
}

// pass passes on what a client says until it leaves.
func (r *relay) pass(client, server net.Conn) {
	defer server.Close()
	defer client.Close()
	subscribe := regexp.MustCompile(`(?i)\*\d+\r\n\$\d+\r\n[ps]?subscribe\r\n`) // the command, not a script that has the word
	subscribed := false
	chunk := make([]byte, 64<<10)
	for {
		n, err := client.Read(chunk)
		if err != nil {
			return
		}
		subscribed = subscribed || subscribe.Match(chunk[:n])
		r.mu.Lock()
		open := r.open
		if open != nil && !subscribed {
			r.waiting.Write(chunk[:n])
		}
		r.mu.Unlock()
		if open != nil && !subscribed {
			<-open
		}
		if _, err := server.Write(chunk[:n]); err != nil {
			return
		}
	}
}

// close lets commands wait until the function that it returns is called.
func (r *relay) close() (open func()) {
	wait := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = wait
	r.waiting.Reset()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.open = nil
		close(wait)
	}
}

// holds reports whether a command with the text waits.
func (r *relay) holds(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Contains(r.waiting.Bytes(), []byte(text))
}
