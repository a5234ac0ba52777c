package demo_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"orgcast/internal/demo"
	"orgcast/internal/demo/crowd"
	"orgcast/internal/demo/outage"
)

// plug stands in for outages.
type plug struct {
	err     error
	state   outage.State
	authors []outage.Author
}

func (p *plug) Start(authors []outage.Author, _ int) error {
	p.authors = authors
	return p.err
}

func (p *plug) Report() outage.Report { return outage.Report{State: p.state, AwayMS: 7} }

// quiet is a crowd in a state.
type quiet struct{ state crowd.State }

func (quiet) Start(crowd.Size) error { return nil }

func (q quiet) Report() crowd.Report { return crowd.Report{State: q.state} }

func TestOutageIsStartedAndShown(t *testing.T) {
	t.Parallel()
	const both = `{"seats":["left","right"],"seconds":5}`
	tests := map[string]struct {
		body   string
		err    error
		state  outage.State
		crowd  crowd.State
		status int
		code   string
	}{
		"starts":          {both, nil, outage.Idle, crowd.Done, 202, ""},
		"starts again":    {both, nil, outage.Done, crowd.Idle, 202, ""},
		"running":         {both, nil, outage.Away, crowd.Idle, 409, "redis_away"},
		"crowd is here":   {both, nil, outage.Idle, crowd.Publishing, 409, "crowd_running"},
		"seconds":         {both, outage.ErrSeconds, outage.Idle, crowd.Idle, 400, "bad_request"},
		"no seats":        {`{"seats":[],"seconds":5}`, nil, outage.Idle, crowd.Idle, 400, "bad_request"},
		"too many seats":  {`{"seats":["a","b","c","d","e"],"seconds":5}`, nil, outage.Idle, crowd.Idle, 400, "bad_request"},
		"invalid seat":    {`{"seats":["A"],"seconds":5}`, nil, outage.Idle, crowd.Idle, 400, "bad_request"},
		"nobody there":    {`{"seats":["left","middle"],"seconds":5}`, nil, outage.Idle, crowd.Idle, 401, "not_signed_in"},
		"suspended":       {`{"seats":["left","sam"],"seconds":5}`, nil, outage.Idle, crowd.Idle, 403, "not_a_member"},
		"an organization": {`{"seats":["left"],"seconds":5,"organization_id":"acme"}`, nil, outage.Idle, crowd.Idle, 400, "bad_request"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &plug{err: test.err, state: test.state}
			o := newTown().options()
			o.Outages, o.Crowd = p, quiet{test.crowd}
			h, err := demo.Handler(o)
			if err != nil {
				t.Fatal(err)
			}
			cookies := []*http.Cookie{signIn(t, h, "ada", "left"), signIn(t, h, "grace", "right"), signIn(t, h, "sam", "sam")}
			resp := do(h, postJSON("/demo/outage", test.body, cookies...))
			if test.code != "" {
				checkRefusal(t, resp, test.status, test.code)
				if test.err == nil && len(p.authors) != 0 {
					t.Errorf("got an outage of %v, want none", p.authors)
				}
				return
			}
			if resp.StatusCode != test.status || len(p.authors) != 2 ||
				p.authors[0].User != "ada" || p.authors[0].Organization.String() != "acme" ||
				p.authors[1].User != "grace" || p.authors[1].Organization.String() != "globex" {
				t.Errorf("got status %d and authors %v, want %d and those at the seats", resp.StatusCode, p.authors, test.status)
			}
			resp = do(h, httptest.NewRequest(http.MethodGet, "/demo/outage", http.NoBody))
			var got map[string]any
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got["state"] != string(test.state) || got["away_ms"] != 7.0 {
				t.Errorf("got %v and error %v, want the report", got, err)
			}
		})
	}
}

func TestOutageRefusesOthers(t *testing.T) {
	t.Parallel()
	o := newTown().options()
	p := &plug{state: outage.Away}
	o.Outages, o.Crowd = p, quiet{crowd.Idle}
	h, err := demo.Handler(o)
	if err != nil {
		t.Fatal(err)
	}
	r := postJSON("/demo/outage", `{"seats":["left"],"seconds":5}`)
	r.Header.Set("Content-Type", "text/plain")
	checkRefusal(t, do(h, r), http.StatusUnsupportedMediaType, "bad_request")
	r = postJSON("/demo/outage", `{"seats":["left"],"seconds":5}`)
	r.Header.Set("Origin", "http://attacker.test")
	checkRefusal(t, do(h, r), http.StatusForbidden, "foreign_origin")
	// A crowd would count as lost what Redis does not take.
	checkRefusal(t, do(h, postJSON("/demo/crowd", `{"people":500,"organizations":50,"seconds":10}`)), http.StatusConflict, "redis_away")
	// A demo on a Redis of others has no plug.
	checkRefusal(t, do(newHandler(t, newTown()), postJSON("/demo/outage", `{}`)), http.StatusNotFound, "not_found")
}
