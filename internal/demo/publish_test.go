package demo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/directory"
	"orgcast/internal/session"
)

func TestPublishGoesToTheOrganizationOfTheSession(t *testing.T) {
	t.Parallel()
	town := newTown()
	h := newHandler(t, town)
	left, right := signIn(t, h, "ada", "left"), signIn(t, h, "grace", "right")

	steps := []struct{ seat, group, wantGroup, wantOrganization, wantFrom string }{
		{"left", "room.1", "acme/room.1", "acme", "ada"},
		{"right", "room.1", "globex/room.1", "globex", "grace"},
		{"right", "all", "globex/all", "globex", "grace"},
		{"left", "user.ada", "acme/user.ada", "acme", "ada"},
	}
	ids := make(map[any]bool)
	for i, step := range steps {
		resp := do(h, postJSON("/demo/publish", `{"seat":"`+step.seat+`","group":"`+step.group+`","text":"<hi> ✓"}`, left, right))
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("step %d: got status %d, want 200", i, resp.StatusCode)
		}
		var answer map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		got := town.published[i]
		want := publication{Group: step.wantGroup, Payload: map[string]any{
			"type": "note", "organization_id": step.wantOrganization, "from": step.wantFrom, "text": "<hi> ✓",
			"id": answer["id"], "sent_at": answer["sent_at"],
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("step %d: published (-want +got):\n%s", i, diff)
		}
		if id, _ := answer["id"].(string); id == "" || ids[id] {
			t.Errorf("step %d: got id %q, want a new one", i, id)
		}
		ids[answer["id"]] = true
	}
}

func TestPublishRefusals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		user, body string
		status     int
		code       string
	}{
		"forged organization":   {"grace", `{"group":"room.1","text":"x","organization_id":"acme"}`, 400, "bad_request"},
		"forged sender":         {"grace", `{"group":"room.1","text":"x","from":"ada"}`, 400, "bad_request"},
		"somebody else's group": {"grace", `{"group":"user.ada","text":"x"}`, 403, "unknown_group"},
		"unlisted group":        {"grace", `{"group":"room.3","text":"x"}`, 403, "unknown_group"},
		"group with path":       {"grace", `{"group":"../acme/room.1","text":"x"}`, 403, "unknown_group"},
		"group with channel":    {"grace", `{"group":"orgcast:{acme}:group:room.1","text":"x"}`, 403, "unknown_group"},
		"no group":              {"grace", `{"text":"x"}`, 403, "unknown_group"},
		"no text":               {"grace", `{"group":"all"}`, 400, "bad_request"},
		"long text":             {"grace", `{"group":"all","text":"` + strings.Repeat("ä", 501) + `"}`, 400, "bad_request"},
		"invalid seat":          {"grace", `{"seat":"A","group":"all","text":"x"}`, 400, "bad_request"},
		"empty seat's session":  {"grace", `{"seat":"left","group":"all","text":"x"}`, 401, "not_signed_in"},
		"not signed in":         {"", `{"group":"all","text":"x"}`, 401, "not_signed_in"},
		"no organization":       {"olga", `{"group":"all","text":"x"}`, 403, "no_organization"},
		"suspended":             {"sam", `{"group":"all","text":"x"}`, 403, "not_a_member"},
		"broken":                {"grace", `{"group":"all","text":`, 400, "bad_request"},
		"not an object":         {"grace", `"all"`, 400, "bad_request"},
		"two objects":           {"grace", `{"group":"all","text":"x"}{}`, 400, "bad_request"},
		"empty":                 {"grace", ``, 400, "bad_request"},
		"too large":             {"grace", `{"group":"all","text":"` + strings.Repeat("x", 9<<10) + `"}`, 413, "too_large"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			town := newTown()
			h := newHandler(t, town)
			r := postJSON("/demo/publish", test.body)
			if test.user != "" {
				r.AddCookie(signIn(t, h, test.user, ""))
			}
			checkRefusal(t, do(h, r), test.status, test.code)
			if len(town.published) != 0 {
				t.Errorf("got %v published, want nothing", town.published)
			}
		})
	}
}

func TestPublishTakesNoForm(t *testing.T) {
	t.Parallel()
	town := newTown()
	h := newHandler(t, town)
	for _, contentType := range []string{"application/x-www-form-urlencoded", "text/plain", "multipart/form-data", ""} {
		r := postJSON("/demo/publish", `{"group":"room.1","text":"x"}`, signIn(t, h, "ada", ""))
		r.Header.Set("Content-Type", contentType)
		checkRefusal(t, do(h, r), http.StatusUnsupportedMediaType, "bad_request")
	}
	if len(town.published) != 0 {
		t.Errorf("got %v published, want nothing", town.published)
	}
}

// When Redis is away the page is told so, with a code and without our error text.
func TestRedisUnavailable(t *testing.T) {
	t.Parallel()
	const secret = "dial tcp 10.0.0.7:6379"
	tests := map[string]struct {
		spoil func(*town)
		path  string
	}{
		"sign in": {func(t *town) { t.mintErr = errors.New(secret) }, "/demo/sign-in"},
		"session": {func(t *town) { t.resolveErr = errors.Join(session.ErrUnavailable, errors.New(secret)) }, "/demo/publish"},
		"member":  {func(t *town) { t.admitErr = errors.Join(directory.ErrUnavailable, errors.New(secret)) }, "/demo/publish"},
		"publish": {func(t *town) { t.publishErr = errors.New(secret) }, "/demo/publish"},
	}
	bodies := map[string]string{"/demo/sign-in": `{"user":"ada"}`, "/demo/publish": `{"group":"all","text":"x"}`}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			town := newTown()
			h := newHandler(t, town)
			cookie := signIn(t, h, "ada", "")
			test.spoil(town)
			resp := do(h, postJSON(test.path, bodies[test.path], cookie))
			var body bytes.Buffer
			resp.Body = io.NopCloser(io.TeeReader(resp.Body, &body))
			checkRefusal(t, resp, http.StatusServiceUnavailable, "unavailable")
			if strings.Contains(body.String(), "10.0.0.7") {
				t.Errorf("our error text reached the page: %s", body.String())
			}
			if got := resp.Header.Get("Retry-After"); got != "1" {
				t.Errorf("got Retry-After %q, want 1", got)
			}
		})
	}
}
