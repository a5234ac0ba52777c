package demo_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	form := "application/x-www-form-urlencoded"
	tests := map[string]struct {
		contentType, body string
		wantCookie        string
		wantOrganization  string
	}{
		"form":            {form, "user=ada", cookieName, "acme"},
		"json":            {"application/json", `{"user":"grace"}`, cookieName, "globex"},
		"json charset":    {"application/json; charset=utf-8", `{"user":"alan"}`, cookieName, "acme"},
		"seat":            {"application/json", `{"user":"greta","seat":"right"}`, cookieName + "_right", "globex"},
		"seat in form":    {form, "user=ada&seat=left1", cookieName + "_left1", "acme"},
		"suspended":       {form, "user=sam", cookieName, "acme"},
		"no organization": {form, "user=olga", cookieName, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			town := newTown()
			r := httptest.NewRequest(http.MethodPost, "/demo/sign-in", strings.NewReader(test.body))
			r.Header.Set("Content-Type", test.contentType)
			resp := do(newHandler(t, town), r)
			if resp.StatusCode != http.StatusOK || len(resp.Cookies()) != 1 {
				t.Fatalf("got status %d and %d cookies, want 200 and 1", resp.StatusCode, len(resp.Cookies()))
			}
			c := resp.Cookies()[0]
			if c.Name != test.wantCookie || c.Path != "/" || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
				t.Errorf("got cookie %s, want %s with Path=/, HttpOnly and SameSite=Lax", c, test.wantCookie)
			}
			if got := town.sessions[c.Value].Organization.String(); got != test.wantOrganization {
				t.Errorf("session has organization %q, want %q", got, test.wantOrganization)
			}
		})
	}
}

func TestSignInRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		contentType, body string
		status            int
		code              string
	}{
		"unknown user":    {"application/json", `{"user":"mallory"}`, 404, "unknown_user"},
		"no user":         {"application/x-www-form-urlencoded", "", 404, "unknown_user"},
		"no content type": {"", "user=ada", 404, "unknown_user"},
		"seat with dot":   {"application/json", `{"user":"ada","seat":"a.b"}`, 400, "bad_request"},
		"seat with space": {"application/x-www-form-urlencoded", "user=ada&seat=a%3B+b", 400, "bad_request"},
		"long seat":       {"application/json", `{"user":"ada","seat":"aaaaaaaaaaaaaaaaa"}`, 400, "bad_request"},
		"broken json":     {"application/json", `{"user":`, 400, "bad_request"},
		"trailing json":   {"application/json", `{"user":"ada"} {}`, 400, "bad_request"},
		"json array":      {"application/json", `["ada"]`, 400, "bad_request"},
		"own choice":      {"application/json", `{"user":"ada","organization_id":"globex"}`, 400, "bad_request"},
		"broken form":     {"application/x-www-form-urlencoded", "user=%zz", 400, "bad_request"},
		"large json":      {"application/json", `{"user":"` + strings.Repeat("a", 9<<10) + `"}`, 413, "too_large"},
		"large form":      {"application/x-www-form-urlencoded", "user=" + strings.Repeat("a", 9<<10), 413, "too_large"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodPost, "/demo/sign-in", strings.NewReader(test.body))
			r.Header.Set("Content-Type", test.contentType)
			resp := do(newHandler(t, newTown()), r)
			checkRefusal(t, resp, test.status, test.code)
			if got := len(resp.Cookies()); got != 0 {
				t.Errorf("got %d cookies, want none", got)
			}
		})
	}
}

// A page of another origin must not act for the signed-in person, same site or not.
func TestForeignOriginCannotPost(t *testing.T) {
	t.Parallel()
	town := newTown()
	h := newHandler(t, town)
	cookie := signIn(t, h, "ada", "")
	tests := map[string]struct {
		header, value string
		wantStatus    int
	}{
		"own origin":        {"Origin", "http://example.com", 200},
		"own, as browsers":  {"Sec-Fetch-Site", "same-origin", 200},
		"no browser":        {"Accept", "*/*", 200},
		"other host":        {"Origin", "http://attacker.test", 403},
		"other port":        {"Origin", "http://example.com:8081", 403},
		"opaque origin":     {"Origin", "null", 403},
		"neighbor by fetch": {"Sec-Fetch-Site", "same-site", 403},
		"stranger by fetch": {"Sec-Fetch-Site", "cross-site", 403},
	}
	for path, body := range map[string]string{
		"/demo/publish": `{"group":"room.1","text":"hi"}`,
		"/demo/sign-in": `{"user":"grace"}`,
	} {
		for name, test := range tests {
			t.Run(path+" "+name, func(t *testing.T) {
				t.Parallel()
				r := postJSON(path, body, cookie)
				r.Header.Set(test.header, test.value)
				resp := do(h, r)
				if test.wantStatus != http.StatusOK {
					checkRefusal(t, resp, test.wantStatus, "foreign_origin")
				} else if resp.StatusCode != http.StatusOK {
					t.Errorf("got status %d, want 200", resp.StatusCode)
				}
			})
		}
	}
}
