package api_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orgcast/internal/api"
)

// reloader is a Reloader with a given answer.
type reloader struct {
	done  api.Reloaded
	err   error
	asked int
}

func (r *reloader) Reload() (api.Reloaded, error) {
	r.asked++
	return r.done, r.err
}

func TestReload(t *testing.T) {
	const adminKey = "admin-key-of-thirty-two-letters!"
	for name, test := range map[string]struct {
		reloader reloader
		auth     string
		body     string
		status   int
		want     string
		asked    int
	}{
		"reloaded":             {reloader{done: api.Reloaded{Changed: []string{"origins", "max-per-user"}}}, adminKey, "", 200, `{"status":"reloaded","changed":["origins","max-per-user"]}`, 1},
		"nothing has changed":  {reloader{}, adminKey, "", 200, `{"status":"reloaded"}`, 1},
		"needs a restart":      {reloader{done: api.Reloaded{Restart: []string{"listen"}}, err: errors.New("needs a restart: --listen")}, adminKey, "", 409, `{"status":"refused","code":"restart_required","settings":["listen"]}`, 1},
		"mistakes":             {reloader{err: errors.New("--a: wrong\norgcast.yaml:3: wrong")}, adminKey, "", 422, `{"status":"refused","code":"invalid_settings","mistakes":["--a: wrong","orgcast.yaml:3: wrong"]}`, 1},
		"with the publish key": {reloader{}, key, "", 401, `{"results":[{"status":"refused","code":"unauthenticated"}]}`, 0},
		"without a key":        {reloader{}, "", "", 401, `{"results":[{"status":"refused","code":"unauthenticated"}]}`, 0},
		"a long body":          {reloader{}, adminKey, strings.Repeat(" ", 2000), 413, `{"status":"refused","code":"too_large"}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := api.New(api.Options{PublishKey: api.NewKey(key), AdminKey: api.NewKey(adminKey), Reloader: &test.reloader, Publisher: new(recorder), Revoker: new(revoker), Log: nop})
			r := httptest.NewRequest(http.MethodPost, "/v1/reload", strings.NewReader(test.body))
			r.Header.Set("Authorization", "Bearer "+test.auth)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			got, each := withoutMessages(w.Body.String())
			if want := test.want + "\n"; w.Code != test.status || got != want || !each {
				t.Errorf("got %d %s, want %d %s", w.Code, w.Body, test.status, want)
			}
			if test.reloader.asked != test.asked {
				t.Errorf("reloaded %d times, want %d", test.reloader.asked, test.asked)
			}
		})
	}
}
