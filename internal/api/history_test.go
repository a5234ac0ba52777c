package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"orgcast/internal/api"
	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
)

const historyKey = "publish-key-of-thirty-two-bytes-"

// inMemory are histories in memory.
type inMemory struct{ *pubsub.Memory }

func (inMemory) Has(context.Context, event.Group, event.Position) (bool, error) { return false, nil }

// unread are histories that cannot be read.
type unread struct{ api.Histories }

func (unread) Before(context.Context, event.Group, event.Position, int, int) ([]*event.Event, bool, error) {
	return nil, false, errors.New("secret of Redis")
}

// TestHistory: back ends read what is recorded for one group of one organization, page by page.
func TestHistory(t *testing.T) {
	memory := pubsub.NewMemory()
	var ids []string
	for i := range 3 {
		for _, g := range []event.Group{testkit.Group(t, "acme", "all"), testkit.Group(t, "globex", "all"), testkit.Group(t, "acme", event.UserGroupName("a|b"))} {
			p, err := memory.Record(t.Context(), g, fmt.Appendf(nil, `{"type":"n","organization_id":%q,"n":%d}`, g.Organization(), i), event.Recording{MaxAge: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			if g == testkit.Group(t, "acme", "all") {
				ids = append(ids, p.String())
			}
		}
	}
	h := api.New(api.Options{PublishKey: api.NewKey(historyKey), Publisher: new(recorder), Revoker: new(revoker), Histories: inMemory{memory}, Log: nop})
	ask := func(h http.Handler, key, query string) (status int, text string) {
		r := httptest.NewRequest(http.MethodGet, "/v1/history?"+query, http.NoBody)
		r.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	own := func(n int) string {
		return fmt.Sprintf(`{"event":{"type":"n","organization_id":"acme","n":%d},"id":%q}`, n, ids[n])
	}
	for query, want := range map[string]string{
		"organization_id=acme&group=all":                          own(0) + "," + own(1) + "," + own(2) + "false",
		"organization_id=acme&group=all&limit=2":                  own(1) + "," + own(2) + "true",
		"organization_id=acme&group=all&limit=1&before=" + ids[1]: own(0) + "false",
		"organization_id=acme&group=none":                         "false",
		"organization_id=initech&group=all":                       "false",
		"organization_id=acme&group=all&before=1-0&limit=1000":    "false",
		"organization_id=acme&group=&group_=":                     "unknown_parameter",
		"organization_id=acme":                                    "invalid_group",
		"organization_id=acme&group=all&user_id=ada":              "invalid_group",
		"organization_id=acme&user_id=a%20b":                      "invalid_user",
		"group=all":                                               "invalid_organization",
		"organization_id=*&group=all":                             "invalid_organization",
		"organization_id=acme&organization_id=globex&group=all":   "unknown_parameter",
		"organization_id=acme&group=all&before=now":               "invalid_before",
		"organization_id=acme&group=all&before=0-0":               "invalid_before",
		"organization_id=acme&group=all&limit=0":                  "invalid_limit",
		"organization_id=acme&group=all&limit=1001":               "invalid_limit",
	} {
		status, text := ask(h, historyKey, query)
		var got struct {
			Events []json.RawMessage
			More   bool
			Code   string
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		said := got.Code
		if said == "" {
			for i, e := range got.Events {
				if i > 0 {
					said += ","
				}
				said += string(e)
			}
			said += fmt.Sprint(got.More)
		}
		if said != want || (got.Code == "") != (status == http.StatusOK) {
			t.Errorf("%s: got %d %s, want %s", query, status, said, want)
		}
	}
	if status, text := ask(h, historyKey, "organization_id=acme&user_id=a%7Cb&limit=1"); status != http.StatusOK || !json.Valid([]byte(text)) || len(text) < 60 {
		t.Errorf("of a user: got %d %s", status, text)
	}
	if status, _ := ask(h, "wrong", "organization_id=acme&group=all"); status != http.StatusUnauthorized {
		t.Errorf("with a wrong key: got %d", status)
	}
	closed := api.New(api.Options{Publisher: new(recorder), Revoker: new(revoker), Histories: inMemory{memory}, Log: nop, Local: true})
	if status, _ := ask(closed, "", "organization_id=acme&group=all"); status != http.StatusNotFound {
		t.Errorf("without a key: got %d", status)
	}
	broken := api.New(api.Options{PublishKey: api.NewKey(historyKey), Publisher: new(recorder), Revoker: new(revoker), Histories: unread{}, Log: nop})
	if status, text := ask(broken, historyKey, "organization_id=acme&group=all"); status != http.StatusServiceUnavailable || text != `{"status":"failed","code":"unavailable","message":"Try again later: Redis does not answer or refuses the command."}`+"\n" {
		t.Errorf("without Redis: got %d %s", status, text)
	}
}
