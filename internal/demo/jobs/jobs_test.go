package jobs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/png"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/demo/jobs"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

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
	started := f.start(t, "acme", jobs.KindResearch, jobs.Request{Query: "Which dead letters does a task queue keep?"})
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
	if events[0]["query"] != "Which dead letters does a task queue keep?" || events[0]["created_at"] == nil {
		t.Errorf("begins with %v, want the question and the time", events[0])
	}
	// It is over: there is nothing to cancel.
	f.dispatch(t, "acme", jobs.KindCancelResearch, "reply_1", object{"research_id": started.ID})
	f.await(t, "acme", "reply_1", "cancel_response", object{"success": false})
}

// TestCancelOnlyWhatRuns: of a cancellation and an end that come together one counts, and both tell
// the same. What has ended, failed or been cancelled is not cancelled, and stays as it is.
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
