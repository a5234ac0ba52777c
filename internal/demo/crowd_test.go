package demo_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"orgcast/internal/demo"
	"orgcast/internal/demo/crowd"
)

// audience stands in for a crowd.
type audience struct {
	err     error
	started []crowd.Size
}

func (a *audience) Start(s crowd.Size) error {
	a.started = append(a.started, s)
	return a.err
}

func (a *audience) Report() crowd.Report {
	return crowd.Report{State: crowd.Publishing, Run: len(a.started), Figures: crowd.Figures{Deliveries: 17}}
}

func TestCrowdIsStartedAndShown(t *testing.T) {
	t.Parallel()
	const valid = `{"people":500,"organizations":50,"seconds":10}`
	tests := map[string]struct {
		body, contentType string
		err               error
		status            int
		code              string
	}{
		"starts":     {valid, "application/json", nil, 202, ""},
		"running":    {valid, "application/json", crowd.ErrRunning, 409, "crowd_running"},
		"size":       {valid, "application/json", fmt.Errorf("%w: too many", crowd.ErrSize), 400, "bad_request"},
		"files":      {valid, "application/json", fmt.Errorf("%w: ulimit -n", crowd.ErrFiles), 503, "too_few_files"},
		"form":       {valid, "text/plain", nil, 415, "bad_request"},
		"other data": {`{"people":500,"site":"http://elsewhere.test"}`, "application/json", nil, 400, "bad_request"},
		"broken":     {`{`, "application/json", nil, 400, "bad_request"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &audience{err: test.err}
			o := newTown().options()
			o.Crowd = a
			h, err := demo.Handler(o)
			if err != nil {
				t.Fatal(err)
			}
			r := postJSON("/demo/crowd", test.body)
			r.Header.Set("Content-Type", test.contentType)
			resp := do(h, r)
			if test.code != "" {
				checkRefusal(t, resp, test.status, test.code)
				return
			}
			if resp.StatusCode != test.status || len(a.started) != 1 || a.started[0] != (crowd.Size{People: 500, Organizations: 50, Seconds: 10}) {
				t.Errorf("got status %d and %v started, want %d and what was asked for", resp.StatusCode, a.started, test.status)
			}
			resp = do(h, httptest.NewRequest(http.MethodGet, "/demo/crowd", http.NoBody))
			var got map[string]any
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got["state"] != "publishing" || got["deliveries"] != 17.0 || got["run"] != 1.0 {
				t.Errorf("got %v and error %v, want the report", got, err)
			}
		})
	}
}

// TestCrowdIsNotForOtherPages: a page of another origin cannot make the demo work.
func TestCrowdIsNotForOtherPages(t *testing.T) {
	t.Parallel()
	a := new(audience)
	o := newTown().options()
	o.Crowd = a
	h, err := demo.Handler(o)
	if err != nil {
		t.Fatal(err)
	}
	r := postJSON("/demo/crowd", `{"people":500,"organizations":50,"seconds":10}`)
	r.Header.Set("Origin", "http://attacker.test")
	checkRefusal(t, do(h, r), http.StatusForbidden, "foreign_origin")
	if len(a.started) != 0 {
		t.Errorf("got %v started, want nothing", a.started)
	}
	checkRefusal(t, do(newHandler(t, newTown()), postJSON("/demo/crowd", `{}`)), http.StatusNotFound, "not_found") // a demo without one
}
