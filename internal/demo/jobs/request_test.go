package jobs_test

import (
	"net/url"
	"strings"
	"testing"

	"orgcast/internal/demo/jobs"
	"orgcast/internal/testkit"
)

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
