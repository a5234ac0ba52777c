package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestPlainRequestsOfMembers: a plain request is answered like a handshake, and one that changes something has to come
// from the gateway's own page or from one that may connect.
func TestPlainRequestsOfMembers(t *testing.T) {
	n := startNode(t, setup{})
	good := n.cookie("ada", "acme")
	for name, test := range map[string]struct {
		method, cookie string
		header         map[string]string
		status         int
		code           string
	}{
		"a member":                      {http.MethodGet, good, nil, 200, ""},
		"nobody":                        {http.MethodGet, "", nil, 401, "unauthenticated"},
		"no organization":               {http.MethodGet, n.cookie("ada", ""), nil, 403, "forbidden"},
		"changes, from an allowed page": {http.MethodPost, good, map[string]string{"Origin": origin, "Sec-Fetch-Site": "same-site"}, 200, ""},
		"changes, from our own page":    {http.MethodPost, good, map[string]string{"Origin": "https://gateway.test", "Sec-Fetch-Site": "same-origin"}, 200, ""},
		"changes, from another page":    {http.MethodPost, good, map[string]string{"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}, 403, "origin"},
		"changes, from an old browser":  {http.MethodPost, good, map[string]string{"Origin": "https://evil.test"}, 403, "origin"},
		"changes, from a hidden page":   {http.MethodPost, good, map[string]string{"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403, "origin"},
		"changes, without an origin":    {http.MethodPost, good, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "origin"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, "https://gateway.test/x", http.NoBody)
			r.Header.Set("Cookie", test.cookie)
			for name, value := range test.header {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			who, ok := n.gateway.Identify(w, r)
			want := ""
			if test.code != "" {
				want = fmt.Sprintf("{%q:%q}\n", "code", test.code)
			}
			if ok != (test.code == "") || w.Code != test.status || w.Body.String() != want {
				t.Errorf("got %v, %d %s, want %d %s", ok, w.Code, w.Body, test.status, test.code)
			}
			if ok && (who.UserID != "ada" || who.Organization.String() != "acme") || !ok && who.UserID != "" {
				t.Errorf("got %+v", who)
			}
		})
	}
}
