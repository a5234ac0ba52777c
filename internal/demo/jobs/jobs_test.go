package jobs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/png"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

// expectFields sees that an event has the fields that pages of the application before this one read.
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

func TestAudit(t *testing.T) {
	f := newFixture(t, 0)
	started := f.start(t, "acme", jobs.KindAudit, jobs.Request{})
	if started.Path != "/ws/seo_audit/"+started.ID+"/" {
		t.Errorf("path: got %s", started.Path)
	}
	events := f.await(t, "acme", "audit_"+started.ID, "audit.complete", nil)
	last := 0.0
	for _, e := range events[:len(events)-1] {
		data := e["data"].(object)
		if e["type"] != "audit.update" || data["percent_complete"].(float64) < 0 || data["pages_analyzed"].(float64) < last {
			t.Errorf("got %v, want updates that grow", e)
		}
		last = data["pages_analyzed"].(float64)
	}
	results := events[len(events)-1]["data"].(object)["results"].(object)
	got := make(map[string][]string)
	for _, i := range results["issues"].([]any) {
		path := strings.TrimPrefix(i.(object)["url"].(string), f.site.String())
		got[path] = append(got[path], i.(object)["code"].(string))
	}
	want := map[string][]string{
		"/bare": {"title_missing", "description_missing", "heading_repeated", "language_missing", "viewport_missing", "canonical_missing", "image_text_missing"},
		"/gone": {"bad_status"},
		"/away": {"not_fetched"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("issues: want (-), got (+):\n%s", diff)
	}
	if summary := results["summary"].(object); summary["pages_analyzed"] != 5.0 || summary["issues_found"] != 9.0 {
		t.Errorf("summary: got %v, want 5 pages and 9 issues", summary)
	}
	if n := f.foreign.Load(); n != 0 {
		t.Errorf("another origin saw %d requests, want none", n)
	}
	if got := f.history(t, "globex", "audit_"+started.ID); len(got) != 0 {
		t.Errorf("globex has %v, want nothing", got)
	}
}

func TestCrawl(t *testing.T) {
	f := newFixture(t, 0)
	started := f.start(t, "acme", jobs.KindCrawl, jobs.Request{MaxPages: 3})
	events := f.await(t, "acme", "crawl_"+started.ID, "crawl_update", nil)
	testkit.Eventually(t, "the end", func() bool {
		events = f.history(t, "acme", "crawl_"+started.ID)
		return newest(t, events, "crawl_update")["data"].(object)["update_type"] == "complete"
	})
	var pages []string
	beats := 0.0
	for _, e := range events {
		if e["type"] == "heartbeat" {
			if beats++; e["count"] != beats {
				t.Errorf("heartbeat: got %v, want the count %v", e, beats)
			}
		}
		if data, ok := e["data"].(object); ok && data["update_type"] == "page" {
			pages = append(pages, strings.TrimPrefix(data["url"].(string), f.site.String()))
		}
	}
	if diff := cmp.Diff([]string{"/", "/bare", "/gone"}, pages); diff != "" {
		t.Errorf("pages: want (-), got (+):\n%s", diff)
	}
	if beats != 3 {
		t.Errorf("got %v heartbeats, want one for each page", beats)
	}
	if events[0]["event_name"] != "crawl_started" {
		t.Errorf("begins with %v", events[0])
	}
	end := newest(t, events, "crawl_update")["data"].(object)
	if end["pages_crawled"] != 3.0 || end["broken"] != 1.0 || end["bytes"].(float64) < 500 {
		t.Errorf("end: got %v, want 3 pages, one broken, and their bytes", end)
	}
	// The last update alone tells a late viewer all.
	if end["heartbeats"] != 3.0 {
		t.Errorf("end: got %v heartbeats, want 3", end["heartbeats"])
	}
	var listed []string
	for _, p := range end["visited"].([]any) {
		listed = append(listed, strings.TrimPrefix(p.(object)["url"].(string), f.site.String()))
	}
	if diff := cmp.Diff(pages, listed); diff != "" {
		t.Errorf("list at the end: want (-), got (+):\n%s", diff)
	}
	if first := end["visited"].([]any)[0].(object); first["title"] != "The first page" || first["status_code"] != 200.0 {
		t.Errorf("first of the list: got %v, want its title and status", first)
	}
}

func TestMetaTags(t *testing.T) {
	f := newFixture(t, 0)
	started := f.start(t, "acme", jobs.KindMetaTags, jobs.Request{URL: "/bare"})
	events := f.await(t, "acme", "metatags_task_"+started.ID, "status_update", object{"status": "completed"})
	progress := newest(t, events, "progress_update")["progress"].(object)
	if progress["percent"] != 100.0 || progress["urls_processed"] != 1.0 || progress["total_urls"] != 1.0 {
		t.Errorf("progress: got %v, want all of one address", progress)
	}
	tags := newest(t, events, "status_update")["result"].(object)["pages"].([]any)[0].(object)
	want := object{
		"title": "One & two", "description": "What it is about.", "og:title": "One & two", "og:description": "What it is about.",
		"og:url": f.site.String() + "/bare",
	}
	if diff := cmp.Diff(want, tags["suggested"].(object)); diff != "" {
		t.Errorf("suggested: want (-), got (+):\n%s", diff)
	}
}

func TestOptimization(t *testing.T) {
	f := newFixture(t, 0)
	store, err := task.NewStore(as(t, "acme"), f.client, f.keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Set(as(t, "acme"), jobs.StoredPicture("mine"), plainPNG(t), time.Hour); err != nil {
		t.Fatal(err)
	}
	started := f.start(t, "acme", jobs.KindOptimization, jobs.Request{Pictures: []string{"landscape", "chart", "mine"}})
	events := f.await(t, "acme", "optimization_"+started.ID, "optimization_update", object{"status": "completed"})
	end := newest(t, events, "optimization_update")
	before, after := 0.0, 0.0
	for _, r := range end["results"].([]any) {
		result := r.(object)
		if result["bytes_saved"].(float64) <= 0 || result["bytes_after"] != result["best"].(object)["bytes"] || len(result["variants"].([]any)) < 6 {
			t.Errorf("got %v, want something saved and all variants", result)
		}
		// Both are there to look at, here and in no other organization.
		for when, size := range map[string]any{"picture_before": result["bytes_before"], "picture_after": result["bytes_after"]} {
			name := result[when].(string)
			data, err := jobs.Picture(as(t, "acme"), store, name)
			config, _, broken := image.DecodeConfig(bytes.NewReader(data))
			if err != nil || broken != nil || float64(len(data)) != size || float64(config.Width) != result["width"] {
				t.Errorf("%s %s: got %d bytes, %v, %v, want a picture of %v", when, name, len(data), err, broken, size)
			}
			if name == result["image"] && name != "mine" {
				continue // built in: everybody has it
			}
			foreign, err := task.NewStore(as(t, "globex"), f.client, f.keys)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := jobs.Picture(as(t, "globex"), foreign, name); !errors.Is(err, jobs.ErrNoPicture) {
				t.Errorf("%s at globex: got %v, want ErrNoPicture", name, err)
			}
		}
		before += result["bytes_before"].(float64)
		after += result["bytes_after"].(float64)
	}
	if end["bytes_saved"] != before-after || end["bytes_before"] != before || len(end["results"].([]any)) != 3 {
		t.Errorf("got %v saved of %v for %d pictures, want %v of %v for 3", end["bytes_saved"], end["bytes_before"], len(end["results"].([]any)), before-after, before)
	}
	if job := f.lastOfJob(t, "acme", started.JobID); job["status"] != "completed" || job["completed_count"] != 3.0 || job["progress_percentage"] != 100.0 {
		t.Errorf("job: got %v, want all done", job)
	}
	// What one organization uploaded is not there for another, and neither is what is no picture.
	if err := store.Set(as(t, "acme"), jobs.StoredPicture("text"), []byte("GIF89a"), time.Hour); err != nil {
		t.Fatal(err)
	}
	for name, org := range map[string]string{"mine": "globex", "text": "acme", "../x": "acme", "nowhere": "acme"} {
		refused := f.start(t, org, jobs.KindOptimization, jobs.Request{Pictures: []string{name}})
		f.await(t, org, "optimization_"+refused.ID, "optimization_update", object{"status": "failed", "code": "no_picture"})
		if job := f.lastOfJob(t, org, refused.JobID); job["status"] != "failed" || job["code"] != "no_picture" {
			t.Errorf("job of %s: got %v, want that it failed", name, job)
		}
	}
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

// plainPNG is a picture with a transparent corner that does not fit its file.
func plainPNG(t *testing.T) []byte {
	t.Helper()
	picture := image.NewNRGBA(image.Rect(0, 0, 64, 64))
	for i := range 64 * 64 {
		picture.SetNRGBA(i%64, i/64, color.NRGBA{R: 200, A: 255})
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, picture); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCheckPicture(t *testing.T) {
	good := plainPNG(t)
	bomb := slices.Clone(good)
	copy(bomb[16:], []byte{0, 1, 0, 0, 0, 1, 0, 0}) // 65536 by 65536, whatever the checksum
	for name, test := range map[string]struct {
		data []byte
		want bool
	}{
		"png": {good, true}, "nothing": {nil, false}, "text": {[]byte("hello"), false}, "bomb": {bomb, false},
		"too large": {append(slices.Clone(good), make([]byte, jobs.MaxPicture)...), false},
	} {
		if mediaType, got := jobs.CheckPicture(test.data); got != test.want || got != (mediaType == "image/png") {
			t.Errorf("%s: got %q, %v, want %v", name, mediaType, got, test.want)
		}
	}
}

func TestResearch(t *testing.T) {
	f := newFixture(t, 0)
	started := f.start(t, "acme", jobs.KindResearch, jobs.Request{Query: "How does a dead letter come about?"})
	group := "research_" + started.ID
	events := f.await(t, "acme", group, "status_update", object{"status": "completed"})
	list := types(events)
	if end := list[len(list)-2:]; end[0] != "report_update" || end[1] != "status_update" {
		t.Errorf("ends with %v, want the report and then the status", end)
	}
	steps := 0.0
	for _, e := range events {
		if e["type"] == "step_update" {
			if steps++; e["step_number"] != steps {
				t.Errorf("got step %v, want %v", e["step_number"], steps)
			}
		}
	}
	if steps < 5 {
		t.Errorf("got %v steps, want one for each document and some", steps)
	}
	report := newest(t, events, "report_update")["report"].(object)
	first := report["findings"].([]any)[0].(object)
	if first["document"] != "tasks.md" || first["section"] != "Dead letters" {
		t.Errorf("first finding: got %v, want the section on dead letters", first)
	}
	if events[0]["query"] != "How does a dead letter come about?" || events[0]["created_at"] == nil {
		t.Errorf("begins with %v, want the question and the time", events[0])
	}
	// It is over: there is nothing to cancel.
	f.dispatch(t, "acme", jobs.KindCancelResearch, "reply_1", object{"research_id": started.ID})
	f.await(t, "acme", "reply_1", "cancel_response", object{"success": false})
}

// TestCancelOnlyWhatRuns: of a cancellation and an end that come together one counts, and both tell the same.
// What has ended, failed or been cancelled is not cancelled, and stays as it is.
func TestCancelOnlyWhatRuns(t *testing.T) {
	f := newFixture(t, 0)
	const many = 20
	for i := 1; i <= many; i++ {
		id := strconv.Itoa(i)
		f.dispatch(t, "acme", jobs.KindResearch, "research_"+id, object{"research_id": id, "query": "redis"})
		f.dispatch(t, "acme", jobs.KindCancelResearch, "reply_"+id, object{"research_id": id})
	}
	cancelled := 0
	for i := 1; i <= many; i++ {
		id := strconv.Itoa(i)
		answer := newest(t, f.await(t, "acme", "reply_"+id, "cancel_response", object{}), "cancel_response")
		status := "completed"
		if answer["success"] == true {
			status = "cancelled"
			cancelled++
		}
		f.await(t, "acme", "research_"+id, "status_update", object{"status": status})
		// Whatever its end is, there is nothing to cancel anymore.
		f.dispatch(t, "acme", jobs.KindCancelResearch, "again_"+id, object{"research_id": id})
		again := newest(t, f.await(t, "acme", "again_"+id, "cancel_response", object{}), "cancel_response")
		if again["success"] != false {
			t.Errorf("%s after it was %s: got %v, want no success", id, status, again)
		}
		if end := newest(t, f.await(t, "acme", "research_"+id, "status_update", object{"status": status}), "status_update"); end["status"] != status {
			t.Errorf("%s: got %v, want %s to the end", id, end, status)
		}
	}
	t.Logf("%d of %d were cancelled in time", cancelled, many)
	// One that failed.
	f.dispatch(t, "acme", jobs.KindResearch, "research_99", object{"research_id": "99", "query": strings.Repeat("x", 501)})
	f.await(t, "acme", "research_99", "status_update", object{"status": "failed"})
	f.dispatch(t, "acme", jobs.KindCancelResearch, "reply_99", object{"research_id": "99"})
	f.await(t, "acme", "reply_99", "cancel_response", object{"success": false})
}

// What is cancelled stops, in its own organization alone.
func TestCancelResearch(t *testing.T) {
	f := newFixture(t, 150*time.Millisecond)
	group := "research_7"
	for _, org := range []string{"acme", "globex"} { // the same id
		f.dispatch(t, org, jobs.KindResearch, group, object{"research_id": "7", "query": "redis"})
		f.await(t, org, group, "status_update", object{"status": "running"})
	}
	f.dispatch(t, "initech", jobs.KindCancelResearch, "reply_7", object{"research_id": "7"})
	f.await(t, "initech", "reply_7", "cancel_response", object{"success": false})
	f.dispatch(t, "acme", jobs.KindCancelResearch, "reply_7", object{"research_id": "7"})
	f.await(t, "acme", "reply_7", "cancel_response", object{"success": true})
	acme := f.await(t, "acme", group, "status_update", object{"status": "cancelled"})
	if slices.Contains(types(acme), "report_update") {
		t.Error("the cancelled research went on to its report")
	}
	globex := f.await(t, "globex", group, "status_update", object{"status": "completed"})
	if !slices.Contains(types(globex), "report_update") {
		t.Error("the other organization's research has no report")
	}
}

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

// Whatever an entry says, its group hears of the end, and nothing is fetched from elsewhere.
func TestBadPayloads(t *testing.T) {
	f := newFixture(t, 0)
	tests := map[string]struct {
		kind, typ, code string
		payload         any
	}{
		"audit of another origin":    {jobs.KindAudit, "audit.error", "foreign_url", object{"audit_id": "1", "url": "http://127.0.0.1:1/"}},
		"audit of a file":            {jobs.KindAudit, "audit.error", "foreign_url", object{"audit_id": "1", "url": "file:///etc/passwd"}},
		"audit with a name":          {jobs.KindAudit, "audit.error", "foreign_url", object{"audit_id": "1", "url": "http://me@" + f.site.Host + "/"}},
		"audit of an endpoint":       {jobs.KindAudit, "audit.error", "foreign_url", object{"audit_id": "1", "url": "/demo/who"}},
		"audit of a page that leads": {jobs.KindAudit, "audit.error", "foreign_url", object{"audit_id": "1", "url": "/away"}},
		"audit of no object":         {jobs.KindAudit, "audit.error", "bad_payload", "x"},
		"metatags of another origin": {jobs.KindMetaTags, "status_update", "foreign_url", object{"url": "https://example.org/"}},
		"too many pictures":          {jobs.KindOptimization, "optimization_update", "bad_payload", object{"optimization_id": "1", "job_id": "1", "images": []string{"a", "b", "c", "d", "e"}}},
		"job that is a channel":      {jobs.KindOptimization, "optimization_update", "bad_payload", object{"optimization_id": "1", "job_id": "x}:group:y"}},
		"research without id":        {jobs.KindResearch, "status_update", "bad_payload", object{"query": "x"}},
		"cancel without id":          {jobs.KindCancelResearch, "cancel_response", "bad_payload", object{}},
		"crew of a bad id":           {jobs.KindCrew, "crew_execution_update", "bad_payload", object{"crew_id": "a.b", "execution_id": "1"}},
		"crew of a bad chat":         {jobs.KindCrew, "crew_execution_update", "bad_payload", object{"crew_id": "1", "execution_id": "1", "session_id": "a b"}},
		"chat of no object":          {jobs.KindChat, "error", "bad_payload", []int{1}},
		"edit of nothing":            {jobs.KindChatEdit, "error", "bad_payload", object{"session_id": "x"}},
	}
	for name, test := range tests {
		group := "group-" + strings.ReplaceAll(name, " ", "-")
		f.dispatch(t, "acme", test.kind, group, test.payload)
		events := f.await(t, "acme", group, test.typ, object{"code": test.code})
		if len(events) > 2 || events[len(events)-1]["message"] == "" {
			t.Errorf("%s: got %v, want a message and little else", name, events)
		}
	}
	group := "group-crawl"
	f.dispatch(t, "acme", jobs.KindCrawl, group, object{"crawl_id": "1", "url": "//example.org/"})
	data := newest(t, f.await(t, "acme", group, "crawl_update", nil), "crawl_update")["data"].(object)
	if data["update_type"] != "error" || data["code"] != "foreign_url" {
		t.Errorf("crawl of another origin: got %v", data)
	}
	if n := f.foreign.Load(); n != 0 {
		t.Errorf("another origin saw %d requests, want none", n)
	}
}

func TestNewRefuses(t *testing.T) {
	site, _ := url.Parse("http://127.0.0.1:8080")
	for name, test := range map[string]struct {
		kind string
		r    jobs.Request
	}{
		"chat":            {jobs.KindChat, jobs.Request{}},
		"cancel":          {jobs.KindCancelResearch, jobs.Request{}},
		"unknown":         {"x", jobs.Request{}},
		"foreign url":     {jobs.KindCrawl, jobs.Request{URL: "http://example.org/"}},
		"many pages":      {jobs.KindCrawl, jobs.Request{MaxPages: 51}},
		"less than none":  {jobs.KindCrawl, jobs.Request{MaxPages: -1}},
		"no query":        {jobs.KindResearch, jobs.Request{}},
		"long query":      {jobs.KindResearch, jobs.Request{Query: strings.Repeat("x", 501)}},
		"no crew":         {jobs.KindCrew, jobs.Request{}},
		"bad crew":        {jobs.KindCrew, jobs.Request{CrewID: "a:b"}},
		"many pictures":   {jobs.KindOptimization, jobs.Request{Pictures: make([]string, 5)}},
		"an endpoint":     {jobs.KindAudit, jobs.Request{URL: "/ws/events"}},
		"other port":      {jobs.KindAudit, jobs.Request{URL: "http://127.0.0.1:8081/"}},
		"unreadable url":  {jobs.KindAudit, jobs.Request{URL: "http://[::1"}},
		"escaped foreign": {jobs.KindAudit, jobs.Request{URL: `/\example.org`}},
	} {
		job, started, err := jobs.New(site, test.kind, testkit.Org(t, "acme"), "ada", test.r)
		if name == "escaped foreign" { // a path like any other
			if err != nil || !strings.Contains(string(job.Payload), "http://127.0.0.1:8080/") {
				t.Errorf("%s: got %s, %v, want an address of the site", name, job.Payload, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: got %+v, want an error", name, started)
		}
	}
}

func TestKindsNeedsAllParts(t *testing.T) {
	if _, err := jobs.Kinds(jobs.Options{}); err == nil {
		t.Error("got no error, want one")
	}
}

// A page can be of any form.
func FuzzParsePage(f *testing.F) {
	for _, seed := range []string{"", "<title>x", `<a href="//evil/">`, "<svg><title>a</title></svg>", "\xff<h1>", `<meta name=description content="&#0;">`, "<p><p><table><a>"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := json.Marshal(jobs.ParsePage(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"", "/", "//example.org", "http://127.0.0.1:8080/x#y", "http://127.0.0.1:8080@example.org", "/demo/x", "/%64emo/x", "javascript:x", `\\evil`, "/./demo/../demo/", "?q"} {
		f.Add(seed)
	}
	site, _ := url.Parse("http://127.0.0.1:8080")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := jobs.Resolve(site, text)
		if err != nil {
			return
		}
		again, err := url.Parse(u.String())
		if err != nil || again.Scheme != "http" || again.Host != "127.0.0.1:8080" || again.User != nil {
			t.Errorf("%q: got %v, %v, want an address of the site", text, u, err)
		}
	})
}
