package api_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/api"
	"orgcast/internal/event"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const key = "0123456789abcdef0123456789abcdef"

// recorder is a Publisher that checks as the bus does and keeps what it was given.
type recorder struct {
	sent []string
	fail error
}

func (r *recorder) PublishAll(_ context.Context, list []event.Publication) []event.Receipt {
	outcomes := make([]event.Receipt, len(list))
	for i, m := range list {
		outcomes[i].Nodes = 2
		switch err := event.Check(m.Group, m.Payload, 1000); {
		case err != nil:
			outcomes[i].Err = err
		case r.fail != nil:
			outcomes[i].Err = r.fail
		case m.Record != nil && m.Record.IdempotencyKey == "used":
			outcomes[i] = event.Receipt{Position: event.NewPosition(1732358911000, 9), Repeated: true}
		case m.Record != nil:
			outcomes[i].Position = event.NewPosition(1732358911000, uint64(len(r.sent)))
			r.sent = append(r.sent, strings.TrimSpace("recorded "+m.Record.IdempotencyKey)+" "+m.Group.String()+" "+string(m.Payload))
		default:
			r.sent = append(r.sent, m.Group.String()+" "+string(m.Payload))
		}
	}
	return outcomes
}

func TestPublish(t *testing.T) {
	one := func(org, group, event string) string {
		return `{"organization_id":` + org + `,"group":"` + group + `","event":` + event + `}`
	}
	good := one(`"acme"`, "all", `{"type":"note"}`)
	with := func(publication, fields string) string {
		return strings.TrimSuffix(publication, "}") + "," + fields + "}"
	}
	down := errors.New("dial tcp 10.1.2.3:6379: connection refused")
	tests := map[string]struct {
		auth   string // default the right key; - for none
		body   string
		fail   error
		status int
		want   string // results
		sent   []string
	}{
		"one":                     {body: good, status: 200, want: `[{"status":"published","nodes":2}]`, sent: []string{`acme/all {"organization_id":"acme","type":"note"}`}},
		"names it itself":         {body: one(`"acme"`, "all", `{"type":"note","organization_id":"acme"}`), status: 200, want: `[{"status":"published","nodes":2}]`, sent: []string{`acme/all {"type":"note","organization_id":"acme"}`}},
		"number":                  {body: one(`42`, "all", `{"type":"note","organization_id":42}`), status: 200, want: `[{"status":"published","nodes":2}]`, sent: []string{`42/all {"type":"note","organization_id":42}`}},
		"batch, in order":         {body: "[" + good + "," + one(`"globex"`, "b", `{"type":"x"}`) + "]", status: 200, want: `[{"status":"published","nodes":2},{"status":"published","nodes":2}]`, sent: []string{`acme/all {"organization_id":"acme","type":"note"}`, `globex/b {"organization_id":"globex","type":"x"}`}},
		"one of a batch is wrong": {body: "[" + one(`"acme"`, "ü", `{"type":"x"}`) + "," + good + "]", status: 422, want: `[{"status":"refused","code":"invalid_group"},{"status":"published","nodes":2}]`, sent: []string{`acme/all {"organization_id":"acme","type":"note"}`}},
		"recorded":                {body: with(good, `"record":true`), status: 200, want: `[{"status":"published","id":"1732358911000-0","nodes":2}]`, sent: []string{`recorded acme/all {"organization_id":"acme","type":"note"}`}},
		"recorded once":           {body: with(good, `"record":true,"idempotency_key":"order:17"`), status: 200, want: `[{"status":"published","id":"1732358911000-0","nodes":2}]`, sent: []string{`recorded order:17 acme/all {"organization_id":"acme","type":"note"}`}},
		"recorded before":         {body: with(good, `"record":true,"idempotency_key":"used"`), status: 200, want: `[{"status":"published","id":"1732358911000-9","repeated":true}]`},
		"not recorded":            {body: with(good, `"record":false`), status: 200, want: `[{"status":"published","nodes":2}]`, sent: []string{`acme/all {"organization_id":"acme","type":"note"}`}},
		"both in a batch":         {body: "[" + good + "," + with(good, `"record":true`) + "]", status: 200, want: `[{"status":"published","nodes":2},{"status":"published","id":"1732358911000-1","nodes":2}]`, sent: []string{`acme/all {"organization_id":"acme","type":"note"}`, `recorded acme/all {"organization_id":"acme","type":"note"}`}},
		"key without record":      {body: with(good, `"idempotency_key":"order:17"`), status: 422, want: `[{"status":"refused","code":"invalid_idempotency_key"}]`},
		"empty idempotency key":   {body: with(good, `"record":true,"idempotency_key":""`), status: 422, want: `[{"status":"refused","code":"invalid_idempotency_key"}]`},
		"bad idempotency key":     {body: with(good, `"record":true,"idempotency_key":"a b"`), status: 422, want: `[{"status":"refused","code":"invalid_idempotency_key"}]`},
		"record is text":          {body: with(good, `"record":"1-1"`), status: 400, want: `[{"status":"refused","code":"bad_request"}]`},
		"recorded, Redis away":    {body: with(good, `"record":true`), fail: down, status: 503, want: `[{"status":"failed","code":"unavailable"}]`},
		"to a user":               {body: `{"organization_id":"acme","user_id":"ada","event":{"type":"x"}}`, status: 200, want: `[{"status":"published","nodes":2}]`, sent: []string{`acme/user.ada {"organization_id":"acme","type":"x"}`}},
		"to a numbered user":      {body: `{"organization_id":"acme","user_id":7,"event":{"type":"x"}}`, status: 200, want: `[{"status":"published","nodes":2}]`, sent: []string{`acme/user.7 {"organization_id":"acme","type":"x"}`}},
		"to a user of any id":     {body: `{"organization_id":"acme","user_id":"auth0|123","event":{"type":"x"}}`, status: 200, want: `[{"status":"published","nodes":2}]`, sent: []string{`acme/user..QENEXq3u6ypdiFrzwTP2DvV1I6H_h7og7cxbbeOS62w {"organization_id":"acme","type":"x"}`}},
		"to a user and a group":   {body: `{"organization_id":"acme","group":"all","user_id":"ada","event":{"type":"x"}}`, status: 422, want: `[{"status":"refused","code":"invalid_group"}]`},
		"to an empty user":        {body: `{"organization_id":"acme","group":"","user_id":"","event":{"type":"x"}}`, status: 422, want: `[{"status":"refused","code":"invalid_user"}]`},
		"to an empty user, group": {body: `{"organization_id":"acme","group":"all","user_id":"","event":{"type":"x"}}`, status: 422, want: `[{"status":"refused","code":"invalid_group"}]`},
		"to a bad user":           {body: `{"organization_id":"acme","user_id":"a b","event":{"type":"x"}}`, status: 422, want: `[{"status":"refused","code":"invalid_user"}]`},
		"to a user called true":   {body: `{"organization_id":"acme","user_id":true,"event":{"type":"x"}}`, status: 422, want: `[{"status":"refused","code":"invalid_user"}]`},
		"to nobody":               {body: `{"organization_id":"acme","user_id":null,"event":{"type":"x"}}`, status: 422, want: `[{"status":"refused","code":"invalid_group"}]`},
		"user twice":              {body: `{"organization_id":"acme","user_id":"ada","user_id":"alan","event":{"type":"x"}}`, status: 400, want: `[{"status":"refused","code":"bad_request"}]`},
		"empty batch":             {body: "[]", status: 200, want: `[]`},
		"foreign":                 {body: one(`"acme"`, "all", `{"type":"note","organization_id":"globex"}`), status: 422, want: `[{"status":"refused","code":"foreign_organization"}]`},
		"no organization":         {body: `{"group":"all","event":{"type":"note"}}`, status: 422, want: `[{"status":"refused","code":"no_organization"}]`},
		"null organization":       {body: one(`null`, "all", `{"type":"note"}`), status: 422, want: `[{"status":"refused","code":"no_organization"}]`},
		"true as organization":    {body: one(`true`, "all", `{"type":"note"}`), status: 422, want: `[{"status":"refused","code":"no_organization"}]`},
		"fraction":                {body: one(`1.0`, "all", `{"type":"note"}`), status: 422, want: `[{"status":"refused","code":"no_organization"}]`},
		"bad organization":        {body: one(`"a}:group:b"`, "all", `{"type":"note"}`), status: 422, want: `[{"status":"refused","code":"no_organization"}]`},
		"no group":                {body: `{"organization_id":"acme","event":{"type":"note"}}`, status: 422, want: `[{"status":"refused","code":"invalid_group"}]`},
		"no event":                {body: `{"organization_id":"acme","group":"all"}`, status: 422, want: `[{"status":"refused","code":"not_an_object"}]`},
		"event is text":           {body: one(`"acme"`, "all", `"x"`), status: 422, want: `[{"status":"refused","code":"not_an_object"}]`},
		"no type":                 {body: one(`"acme"`, "all", `{}`), status: 422, want: `[{"status":"refused","code":"invalid_type"}]`},
		"organization twice":      {body: one(`"acme"`, "all", `{"type":"x","organization_id":"acme","organization_id":"globex"}`), status: 422, want: `[{"status":"refused","code":"duplicate_field"}]`},
		"not UTF-8":               {body: one(`"acme"`, "all", "{\"type\":\"x\",\"text\":\"\xff\"}"), status: 422, want: `[{"status":"refused","code":"not_utf8"}]`},
		"too large event":         {body: one(`"acme"`, "all", `{"type":"x","text":"`+strings.Repeat("x", 1000)+`"}`), status: 422, want: `[{"status":"refused","code":"too_large"}]`},
		"Redis away":              {body: "[" + one(`"acme"`, "all", `{}`) + "," + good + "]", fail: down, status: 503, want: `[{"status":"refused","code":"invalid_type"},{"status":"failed","code":"unavailable"}]`},
		"no key":                  {auth: "-", body: good, status: 401, want: `[{"status":"refused","code":"unauthenticated"}]`},
		"scheme in lower case":    {auth: "bearer " + key, body: good, status: 200, want: `[{"status":"published","nodes":2}]`, sent: []string{`acme/all {"organization_id":"acme","type":"note"}`}},
		"scheme in capitals":      {auth: "BEARER  " + key, body: good, status: 200, want: `[{"status":"published","nodes":2}]`, sent: []string{`acme/all {"organization_id":"acme","type":"note"}`}},
		"another scheme":          {auth: "Basic " + key, body: good, status: 401, want: `[{"status":"refused","code":"unauthenticated"}]`},
		"key alone":               {auth: key, body: good, status: 401, want: `[{"status":"refused","code":"unauthenticated"}]`},
		"wrong key":               {auth: "Bearer " + key + "x", body: good, status: 401, want: `[{"status":"refused","code":"unauthenticated"}]`},
		"beginning of the key":    {auth: "Bearer " + key[:31], body: good, status: 401, want: `[{"status":"refused","code":"unauthenticated"}]`},
		"empty key":               {auth: "Bearer ", body: good, status: 401, want: `[{"status":"refused","code":"unauthenticated"}]`},
		"other scheme":            {auth: "Basic " + key, body: good, status: 401, want: `[{"status":"refused","code":"unauthenticated"}]`},
		"no JSON":                 {body: "hello", status: 400, want: `[{"status":"refused","code":"bad_request"}]`},
		"nothing":                 {body: "", status: 400, want: `[{"status":"refused","code":"bad_request"}]`},
		"two values":              {body: good + good, status: 400, want: `[{"status":"refused","code":"bad_request"}]`},
		"wrong kind":              {body: `{"group":7}`, status: 400, want: `[{"status":"refused","code":"bad_request"}]`},
		"too large":               {body: `{"group":"` + strings.Repeat("x", api.MaxBody) + `"}`, status: 413, want: `[{"status":"refused","code":"too_large"}]`},
		"too many":                {body: "[" + strings.Repeat("{},", api.MaxBatch) + "{}]", status: 413, want: `[{"status":"refused","code":"too_large"}]`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := &recorder{fail: test.fail}
			request := httptest.NewRequest(http.MethodPost, "/v1/publish", strings.NewReader(test.body))
			switch test.auth {
			case "":
				request.Header.Set("Authorization", "Bearer "+key)
			case "-":
			default:
				request.Header.Set("Authorization", test.auth)
			}
			w := httptest.NewRecorder()
			newAPI(r, nil).ServeHTTP(w, request)
			got, each := withoutMessages(w.Body.String())
			if want := `{"results":` + test.want + "}\n"; w.Code != test.status || got != want || !each {
				t.Errorf("got %d %s, want %d %s", w.Code, got, test.status, want)
			}
			if diff := cmp.Diff(test.sent, r.sent); diff != "" {
				t.Errorf("sent: want (-), got (+):\n%s", diff)
			}
			if got, want := w.Header().Get("WWW-Authenticate") != "", test.status == 401; got != want {
				t.Errorf("has WWW-Authenticate: got %t, want %t", got, want)
			}
		})
	}
}

func FuzzPublish(f *testing.F) {
	for _, seed := range []string{`{}`, `[]`, `[{}]`, `null`, `{"organization_id":1,"group":"all","event":{"type":"x"}}`, `{"organization_id":"a","group":"all","event":null}`, `{"organization_id":"a","user_id":"ü|1","event":{"type":"x"}}`, `{"organization_id":"a","user_id":1e2,"event":{}}`, `{"organization_id":"a","group":"all","event":{"type":"x"},"record":true,"idempotency_key":"k"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := new(recorder)
		request := httptest.NewRequest(http.MethodPost, "/v1/publish", strings.NewReader(body))
		request.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		newAPI(r, nil).ServeHTTP(w, request)
		if w.Code == http.StatusInternalServerError {
			t.Errorf("got %d", w.Code)
		}
	})
}

// TestOneNameOneMeaning: a request cannot show one organization to the program that authorizes it
// and another to us.
func TestOneNameOneMeaning(t *testing.T) {
	for _, second := range []string{"organization_id", "Organization_ID"} {
		var p recorder
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/publish", strings.NewReader(
			`{"organization_id":"acme","`+second+`":"globex","group":"all","event":{"type":"a"}}`))
		r.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		newAPI(&p, nil).ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || len(p.sent) != 0 {
			t.Errorf("%s: got %d and %d publications, want 400 and none", second, w.Code, len(p.sent))
		}
	}
}
