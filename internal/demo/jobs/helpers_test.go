package jobs_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/clients/lua"
	"orgcast/internal/demo/jobs"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type object = map[string]any

// fixture is the demo's kinds, a small site for them to crawl, and a real Redis.
type fixture struct {
	client     *redis.Client
	keys       keyspace.Keyspace
	dispatcher *task.Dispatcher
	asks       *task.Asks
	site       *url.URL
	kinds      map[string]task.Kind
	foreign    atomic.Int32 // requests that another origin saw
}

// newFixture returns a fixture with a worker that tries once.
func newFixture(t *testing.T, pace time.Duration) *fixture {
	t.Helper()
	f := newIdleFixture(t, pace)
	f.work(t, task.Options{Attempts: 1})
	return f
}

// newIdleFixture returns a fixture without a worker.
func newIdleFixture(t *testing.T, pace time.Duration) *fixture {
	t.Helper()
	f := new(fixture)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { f.foreign.Add(1) }))
	t.Cleanup(elsewhere.Close)
	site := httptest.NewServer(pages(elsewhere.URL))
	t.Cleanup(site.Close)
	var err error
	if f.site, err = url.Parse(site.URL); err != nil {
		t.Fatal(err)
	}
	f.client = redis.NewClient(&redis.Options{
		Addr: redistest.Start(t), ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, PoolSize: 60,
	})
	t.Cleanup(func() { _ = f.client.Close() })
	f.keys = testkit.Keys(t)
	if f.dispatcher, err = task.NewDispatcher(f.client, f.keys, task.DispatcherOptions{}); err != nil {
		t.Fatal(err)
	}
	if f.asks, err = task.NewAsks(f.client, f.keys); err != nil {
		t.Fatal(err)
	}
	if f.kinds, err = jobs.Kinds(jobs.Options{Site: f.site, Asks: f.asks, Pace: pace}); err != nil {
		t.Fatal(err)
	}
	return f
}

// work runs a worker until the test ends.
func (f *fixture) work(t *testing.T, o task.Options) {
	t.Helper()
	o.Concurrency, o.Poll, o.Tools = 4, 50*time.Millisecond, task.NewTools(f.client, f.keys, directory.TrustSession{}, jobs.Tools())
	w, err := task.NewWorker(f.client, f.keys, directory.TrustSession{}, f.kinds, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
}

// pages is a small site with faults of each sort, and with ways out of it.
func pages(elsewhere string) http.Handler {
	mux := http.NewServeMux()
	write := func(path, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte(text))
		})
	}
	write("/{$}", `<!doctype html><html lang="en"><title>The first page</title><meta name="description" content="Where it begins">
		<meta name="viewport" content="width=device-width"><link rel="canonical" href="/"><h1>First</h1><p>Some text.</p>
		<a href="/bare">bare</a><a href="gone">gone</a><a href="/#top">self</a><a href="`+elsewhere+`/x">away</a>
		<a href="/away">redirect away</a><a href="/demo/sign-in">endpoint</a><a href="javascript:alert(1)">script</a><a href="/note.txt">text</a>`)
	write("/bare", `<title></title><img src=a.png><img src=b.png alt=""><h1>One &amp; <b>two</b></h1><h1>Three</h1><p>What it is about.</p>`)
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere+"/y", http.StatusFound) })
	mux.HandleFunc("/note.txt", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/plain") })
	return mux
}

func as(tb testing.TB, org string) context.Context {
	tb.Helper()
	return orgctx.With(tb.Context(), testkit.Org(tb, org))
}

// start dispatches a job as the demo does.
func (f *fixture) start(t *testing.T, org, kind string, r jobs.Request) jobs.Started {
	t.Helper()
	job, started, err := jobs.New(f.site, kind, testkit.Org(t, org), "ada", r)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := f.dispatcher.Dispatch(as(t, org), job); err != nil || id != started.ID {
		t.Fatalf("Dispatch: got %q, %v, want %q", id, err, started.ID)
	}
	return started
}

// dispatch adds a task that begins on a socket.
func (f *fixture) dispatch(t *testing.T, org, kind, group string, payload any) {
	t.Helper()
	text, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.dispatcher.Dispatch(as(t, org), task.Task{Kind: kind, Group: testkit.Group(t, org, group), UserID: "ada", Payload: text}); err != nil {
		t.Fatal(err)
	}
}

// history returns what a group's history holds, and fails if something there is not fit for it.
func (f *fixture) history(t *testing.T, org, name string) (events []object) {
	t.Helper()
	g := testkit.Group(t, org, name)
	entries, err := f.client.XRange(t.Context(), f.keys.History(g), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, _ := entry.Values["event"].(string)
		e, err := event.Decode(g, text, event.DefaultMaxSize, time.Now())
		if err != nil {
			t.Fatalf("%s: %v: %s", g, err, text)
		}
		var o object
		if err := json.Unmarshal(e.Payload(), &o); err != nil {
			t.Fatal(err)
		}
		expectFields(t, name, o)
		events = append(events, o)
	}
	return events
}

// expectFields sees that an event has the fields that pages of the application before this one
// read.
func expectFields(t *testing.T, group string, e object) {
	t.Helper()
	read := map[string]map[string]string{ // by the beginning of the group, then by type
		"chat_": {
			"user_message": "message", "agent_message": "message", "crew_message": "message", "agent_finish": "message",
			"tool_start": "content.tool content.input", "tool_result": "content", "execution_update": "status task_index", "error": "code message",
		},
		"research_": {
			"status_update": "status message progress", "step_update": "step step_number", "report_update": "report",
			"cancel_response": "success message",
		},
		"metatags_task_": {
			"progress_update": "progress.percent progress.step progress.action progress.urls_found progress.urls_processed progress.total_urls",
			"status_update":   "status result message",
		},
		"crew_execution_": {"crew_execution_update": "status messages human_input_request"},
		"audit_": {
			"audit.update":   "data.percent_complete data.pages_analyzed data.issues_found data.status data.recent_issues",
			"audit.complete": "data.results.issues data.results.summary data.status", "audit.error": "message",
		},
		"crew_5_kanban": {
			"execution_update": "execution_id status task_index stage human_input_request", "agent_step": "execution_id",
			"human_input_request": "execution_id prompt context task_index", "task_complete": "execution_id message results",
		},
		"optimization_job_": {"job_update": "status job_id"}, // and, as long as it goes well, what follows
		"optimization_":     {"optimization_update": "status"},
		"crawl_":            {"heartbeat": "count", "crawl_update": "data.update_type", "event": "event_name"},
	}
	longest := ""
	for prefix := range read {
		if strings.HasPrefix(group, prefix) && len(prefix) > len(longest) {
			longest = prefix
		}
	}
	if longest == "" {
		return // a group of the test's own
	}
	fields, known := read[longest][e["type"].(string)]
	if !known {
		t.Errorf("%s: got an event of type %v, which no page knows", group, e["type"])
	}
	if e["type"] == "job_update" && e["status"] != "failed" {
		fields += " processed_files total_files completed_count progress_percentage"
	}
	for field := range strings.FieldsSeq(fields) {
		var value any = e
		for name := range strings.SplitSeq(field, ".") {
			inner, _ := value.(object)
			next, ok := inner[name]
			if !ok {
				t.Errorf("%s: got %v, want the field %s", group, e, field)
				break
			}
			value = next
		}
	}
}

// await waits for an event of the type in a group's history, with those fields, and returns all.
func (f *fixture) await(t *testing.T, org, group, typ string, fields object) (all []object) {
	t.Helper()
	testkit.Eventually(t, typ+" in "+group, func() bool {
		all = f.history(t, org, group)
		return slices.ContainsFunc(all, func(o object) bool {
			for name, value := range fields {
				if o[name] != value {
					return false
				}
			}
			return o["type"] == typ
		})
	})
	return all
}

func types(events []object) (list []string) {
	for _, e := range events {
		list = append(list, e["type"].(string))
	}
	return list
}

func newest(t *testing.T, events []object, typ string) object {
	t.Helper()
	for _, e := range slices.Backward(events) {
		if e["type"] == typ {
			return e
		}
	}
	t.Fatalf("no %s in %v", typ, types(events))
	return nil
}

// lastOfJob returns how the job of an optimization ended, which it does once.
func (f *fixture) lastOfJob(t *testing.T, org, job string) object {
	t.Helper()
	events := f.history(t, org, "optimization_job_"+job)
	if slices.ContainsFunc(events[:len(events)-1], func(e object) bool { return e["status"] != "running" }) {
		t.Errorf("job of %s: got %v, want one end", org, events)
	}
	return newest(t, events, "job_update")
}

// holdAndDie takes the one task of a kind as workers that die of it would, so many times.
func (f *fixture) holdAndDie(t *testing.T, kind string, times int) {
	t.Helper()
	stream := f.keys.Tasks(kind)
	if err := f.client.XGroupCreateMkStream(t.Context(), stream, "workers", "0").Err(); err != nil {
		t.Fatal(err)
	}
	keys := []string{stream, f.keys.TaskRing(kind), f.keys.TaskLines(kind), f.keys.TaskIdle(kind)}
	read, err := f.client.Eval(t.Context(), lua.Text("next.v1"), keys, "workers", "dead", 0, 0).Slice()
	if err != nil {
		t.Fatal(err)
	}
	err = f.client.Do(t.Context(), "XCLAIM", stream, "workers", "dead", 0, read[0], "RETRYCOUNT", times, "IDLE", 3_600_000, "JUSTID").Err()
	if err != nil {
		t.Fatal(err)
	}
}
