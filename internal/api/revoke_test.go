package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orgcast/internal/api"
	"orgcast/internal/lease"
)

// revoker is a Revoker with a given answer.
type revoker struct {
	recorded bool
	err      error
	asked    []lease.Message
}

func (r *revoker) Revoke(_ context.Context, m lease.Message) (bool, error) {
	r.asked = append(r.asked, m)
	return r.recorded, r.err
}

func TestRevoke(t *testing.T) {
	const ada = `{"type":"user.disabled","user_id":"ada"}`
	tests := map[string]struct {
		revoker revoker
		auth    string
		body    string
		status  int
		want    string
		asked   int
	}{
		"revoked":            {revoker{recorded: true}, key, ada, 200, `{"status":"revoked"}`, 1},
		"announced":          {revoker{}, key, ada, 200, `{"status":"announced"}`, 1},
		"not a message":      {revoker{}, key, `{}`, 400, `{"status":"refused","code":"bad_request"}`, 0},
		"nothing":            {revoker{}, key, ``, 400, `{"status":"refused","code":"bad_request"}`, 0},
		"unknown type":       {revoker{}, key, `{"type":"new.type"}`, 400, `{"status":"refused","code":"bad_request"}`, 0},
		"field twice":        {revoker{}, key, `{"type":"user.disabled","user_id":"ada","user_id":"alan"}`, 400, `{"status":"refused","code":"bad_request"}`, 0},
		"too long":           {revoker{}, key, `{"type":"user.disabled","user_id":"ada"` + strings.Repeat(" ", lease.MaxMessage) + `}`, 400, `{"status":"refused","code":"bad_request"}`, 0},
		"not recorded":       {revoker{err: fmt.Errorf("%w: full", lease.ErrNotRecorded)}, key, ada, 503, `{"status":"failed","code":"not_recorded"}`, 1},
		"not announced":      {revoker{err: fmt.Errorf("%w: down", lease.ErrNotAnnounced), recorded: true}, key, ada, 503, `{"status":"failed","code":"not_announced"}`, 1},
		"neither":            {revoker{err: errors.New("dial tcp 10.1.2.3:6379: connection refused")}, key, ada, 503, `{"status":"failed","code":"unavailable"}`, 1},
		"with another key":   {revoker{recorded: true}, key + "x", ada, 401, `{"results":[{"status":"refused","code":"unauthenticated"}]}`, 0},
		"with an empty key":  {revoker{recorded: true}, "", ada, 401, `{"results":[{"status":"refused","code":"unauthenticated"}]}`, 0},
		"wrong key, no body": {revoker{recorded: true}, "x", "", 401, `{"results":[{"status":"refused","code":"unauthenticated"}]}`, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/v1/revoke", strings.NewReader(test.body))
			r.Header.Set("Authorization", "Bearer "+test.auth)
			w := httptest.NewRecorder()
			newAPI(nil, &test.revoker).ServeHTTP(w, r)
			got, each := withoutMessages(w.Body.String())
			if want := test.want + "\n"; w.Code != test.status || got != want || !each {
				t.Errorf("got %d %s, want %d %s", w.Code, got, test.status, want)
			}
			if len(test.revoker.asked) != test.asked {
				t.Errorf("asked: got %v, want %d messages", test.revoker.asked, test.asked)
			}
			if test.asked == 1 && (test.revoker.asked[0].Type != lease.UserDisabled || test.revoker.asked[0].UserID != "ada") {
				t.Errorf("asked: got %v, want ada disabled", test.revoker.asked[0])
			}
		})
	}
}

// TestKeyIsReplaced: the previous key is good no more, for any call.
func TestKeyIsReplaced(t *testing.T) {
	k := api.NewKey("old")
	h := api.New(api.Options{PublishKey: k, Publisher: new(recorder), Revoker: &revoker{recorded: true}, Log: nop})
	for _, want := range []map[string]int{{"old": 200, "new": 401}, {"old": 401, "new": 200}} {
		for text, status := range want {
			for path, body := range map[string]string{"/v1/publish": `[]`, "/v1/revoke": `{"type":"user.disabled","user_id":"ada"}`} {
				r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
				r.Header.Set("Authorization", "Bearer "+text)
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, r); w.Code != status {
					t.Errorf("%s with the %s key: got %d, want %d", path, text, w.Code, status)
				}
			}
		}
		k.Set("new")
	}
}
