package demo_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSeatPresentsOnlyItsOwnSession(t *testing.T) {
	t.Parallel()
	all := []*http.Cookie{
		{Name: cookieName, Value: "real"},
		{Name: cookieName + "_left", Value: "one"},
		{Name: cookieName + "_left", Value: "other"},
		{Name: cookieName + "_right", Value: "two"},
		{Name: "theme", Value: "dark"},
	}
	tests := map[string]struct {
		path string
		want []arrival
	}{
		"left, first of two": {"/seat/left/ws/events?a=b", []arrival{{"/ws/events", "a=b", cookieName + "=one"}}},
		"right":              {"/seat/right/ws/events", []arrival{{"/ws/events", "", cookieName + "=two"}}},
		"nobody there":       {"/seat/middle/ws/events", []arrival{{"/ws/events", "", ""}}},
		"stream":             {"/seat/left/sse/events?group=a", []arrival{{"/sse/events", "group=a", cookieName + "=one"}}},
		"stream, no seat":    {"/sse/events", []arrival{{"/sse/events", "", "orgcast_session=real; orgcast_session_left=one; orgcast_session_left=other; orgcast_session_right=two; theme=dark"}}},
		"other route":        {"/seat/left/ws/chat/", []arrival{{"/ws/chat/", "", cookieName + "=one"}}},
		"escaped route":      {"/seat/left/ws/a%20b", []arrival{{"/ws/a b", "", cookieName + "=one"}}},
		"invalid seat":       {"/seat/LEFT/ws/events", nil},
		"escaped seat":       {"/seat/l%2Fx/ws/events", nil},
		"not the gateway's":  {"/seat/left/demo/status", nil},
		"no seat, all as is": {"/ws/events", []arrival{{"/ws/events", "", "orgcast_session=real; orgcast_session_left=one; orgcast_session_left=other; orgcast_session_right=two; theme=dark"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			town := newTown()
			r := httptest.NewRequest(http.MethodGet, test.path, http.NoBody)
			for _, c := range all {
				r.AddCookie(c)
			}
			before := r.Header.Get("Cookie")
			resp := do(newHandler(t, town), r)
			if diff := cmp.Diff(test.want, town.arrived); diff != "" {
				t.Errorf("what reached the gateway (-want +got):\n%s", diff)
			}
			if test.want == nil && resp.StatusCode != http.StatusNotFound {
				t.Errorf("got status %d, want 404", resp.StatusCode)
			}
			if got := r.Header.Get("Cookie"); got != before {
				t.Errorf("the caller's request was changed: got cookies %q, want %q", got, before)
			}
		})
	}
}

func TestWho(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		user, seat string
		status     int
		want       string // code, or user@organization
	}{
		"member":          {"ada", "left", 200, "ada@acme"},
		"suspended":       {"sam", "left", 403, "not_a_member"},
		"no organization": {"olga", "left", 403, "no_organization"},
		"other seat":      {"ada", "right", 401, "not_signed_in"},
		"no seat":         {"ada", "", 401, "not_signed_in"},
		"invalid seat":    {"ada", "A", 400, "bad_request"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHandler(t, newTown())
			r := httptest.NewRequest(http.MethodGet, "/demo/who?seat="+test.seat, http.NoBody)
			r.AddCookie(signIn(t, h, test.user, "left"))
			resp := do(h, r)
			if test.status != http.StatusOK {
				checkRefusal(t, resp, test.status, test.want)
				return
			}
			var got struct {
				User         string `json:"user_id"`
				Organization string `json:"organization_id"`
			}
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if got := got.User + "@" + got.Organization; resp.StatusCode != test.status || got != test.want {
				t.Errorf("got %d %s, want %d %s", resp.StatusCode, got, test.status, test.want)
			}
		})
	}
}
