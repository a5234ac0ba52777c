package api_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"orgcast/internal/api"
	"orgcast/internal/console"
	"orgcast/internal/event"
	"orgcast/internal/inventory"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

// mailbox has dead letters, by organization. Their positions are their places, from 1.
type mailbox struct {
	letters map[string][]string // ids; "" is one that was retried
	broken  bool
}

func (m *mailbox) err() error {
	if m.broken {
		return errors.New("dial tcp: connection refused")
	}
	return nil
}

func (m *mailbox) Count(context.Context) (inventory.Webhooks, error) {
	return inventory.Webhooks{Waiting: 7, WaitingBytes: 700, Dead: 5}, m.err()
}

func (m *mailbox) CountOf(_ context.Context, org orgctx.ID) (inventory.Webhooks, error) {
	return inventory.Webhooks{Waiting: 1, WaitingBytes: 100, Dead: int64(len(m.letters[org.String()]))}, m.err()
}

func (m *mailbox) Organizations(_ context.Context, after string, limit int) (orgs []orgctx.ID, more bool, err error) {
	for name := range m.letters {
		if org, _ := orgctx.ParseID(name); name > after {
			orgs = append(orgs, org)
		}
	}
	slices.SortFunc(orgs, func(a, b orgctx.ID) int { return cmp.Compare(a.String(), b.String()) })
	return orgs[:min(limit, len(orgs))], len(orgs) > limit, m.err()
}

func (m *mailbox) Dead(_ context.Context, org orgctx.ID, after event.Position, limit int) (letters []inventory.DeadLetter, next event.Position, err error) {
	for i, id := range m.letters[org.String()] {
		at := event.NewPosition(uint64(i)+1, 0)
		switch {
		case after.Compare(at) >= 0:
		case len(letters) < limit:
			letters = append(letters, inventory.DeadLetter{ID: id, Line: "user:ada", Webhook: json.RawMessage(`{"type":"t"}`), Attempts: 3, Reason: "status_500"})
			next = at
		default:
			return letters, next, m.err()
		}
	}
	return letters, event.Position{}, m.err()
}

func (m *mailbox) Retry(_ context.Context, org orgctx.ID, id string) (bool, error) {
	i := slices.Index(m.letters[org.String()], id)
	if i >= 0 {
		m.letters[org.String()][i] = ""
	}
	return i >= 0, m.err()
}

func (m *mailbox) RetryAll(_ context.Context, org orgctx.ID) (n int, err error) {
	for i, id := range m.letters[org.String()] {
		if m.letters[org.String()][i] = ""; id != "" {
			n++
		}
	}
	return n, m.err()
}

// askWebhooks sends a request with a key, and returns the answer without sentences.
func askWebhooks(w api.Webhooks, method, path, body, key string) (status int, answer string) {
	h := api.New(api.Options{PublishKey: api.NewKey(historyKey), AdminKey: api.NewKey("admin-" + historyKey), Publisher: new(recorder), Revoker: new(revoker), Webhooks: w, Log: nop})
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+key)
	a := httptest.NewRecorder()
	h.ServeHTTP(a, r)
	answer, _ = withoutMessages(a.Body.String())
	return a.Code, strings.TrimSpace(answer)
}

// TestDeadLettersAreShown: the numbers of all organizations, or the numbers and dead letters of one.
func TestDeadLettersAreShown(t *testing.T) {
	box := &mailbox{letters: map[string][]string{"acme": {"msg_1"}, "globex": {"msg_2"}}}
	const (
		letter = `{"id":"msg_1","line":"user:ada","webhook":{"type":"t"},"attempts":3,"reason":"status_500"}`
		acme   = `{"waiting":1,"waiting_bytes":100,"dead":1,"dead_letters":[` + letter + `]}`
		all    = `{"waiting":7,"waiting_bytes":700,"dead":5,"organizations":["acme","globex"]}`
	)
	for _, test := range []struct {
		key, query string
		status     int
		want       string
	}{
		{historyKey, "organization_id=acme", 200, acme},
		{"admin-" + historyKey, "organization_id=acme", 200, acme},
		{historyKey, "", 200, all},
		{historyKey, "limit=1", 200, `{"waiting":7,"waiting_bytes":700,"dead":5,"organizations":["acme"],"next":"YWNtZQ"}`},
		{historyKey, "cursor=YWNtZQ", 200, `{"waiting":7,"waiting_bytes":700,"dead":5,"organizations":["globex"]}`},
		{historyKey, "cursor=Z2xvYmV4", 200, `{"waiting":7,"waiting_bytes":700,"dead":5,"organizations":[]}`},
		{historyKey, "organization_id=initech", 200, `{"waiting":1,"waiting_bytes":100,"dead":0,"dead_letters":[]}`},
		{historyKey, "organization_id=a%20b", 400, `{"status":"refused","code":"invalid_organization"}`},
		{historyKey, "organization_id=acme&limit=0", 400, `{"status":"refused","code":"invalid_limit"}`},
		{historyKey, "organization_id=acme&limit=1001", 400, `{"status":"refused","code":"invalid_limit"}`},
		{historyKey, "organization_id=acme&cursor=%25", 400, `{"status":"refused","code":"invalid_cursor"}`},
		{historyKey, "organization_id=acme&cursor=YWNtZQ", 400, `{"status":"refused","code":"invalid_cursor"}`}, // of the other list
		{historyKey, "cursor=YSBi", 400, `{"status":"refused","code":"invalid_cursor"}`},
		{historyKey, "organization_id=acme&organization_id=globex", 400, `{"status":"refused","code":"unknown_parameter"}`},
		{historyKey, "group=all", 400, `{"status":"refused","code":"unknown_parameter"}`},
		{"wrong", "organization_id=acme", 401, `{"status":"refused","code":"unauthenticated"}`},
		{"", "organization_id=acme", 401, `{"status":"refused","code":"unauthenticated"}`},
	} {
		if status, got := askWebhooks(box, http.MethodGet, "/v1/webhooks?"+test.query, "", test.key); status != test.status || got != test.want {
			t.Errorf("%s with %q: got %d %s, want %d %s", test.query, test.key, status, got, test.status, test.want)
		}
	}
	box.broken = true
	for _, query := range []string{"", "organization_id=acme"} {
		if status, got := askWebhooks(box, http.MethodGet, "/v1/webhooks?"+query, "", historyKey); status != 503 || !strings.Contains(got, `"unavailable"`) {
			t.Errorf("without Redis: got %d %s", status, got)
		}
	}
}

// TestDeadLettersByPages: the pages together have each letter once, in order, whatever their size.
func TestDeadLettersByPages(t *testing.T) {
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprint("msg_", i))
	}
	box := &mailbox{letters: map[string][]string{"acme": want}}
	for _, limit := range []int{1, 7, 24, 25, 26} {
		var got []string
		cursor := ""
		for pages := 0; ; pages++ {
			status, text := askWebhooks(box, http.MethodGet, fmt.Sprintf("/v1/webhooks?organization_id=acme&limit=%d&cursor=%s", limit, cursor), "", historyKey)
			var page struct {
				Letters []inventory.DeadLetter `json:"dead_letters"`
				Next    string
			}
			if err := json.Unmarshal([]byte(text), &page); err != nil || status != 200 || len(page.Letters) > limit || pages > 25 {
				t.Fatalf("limit %d, page %d: got %d %s", limit, pages, status, text)
			}
			for _, l := range page.Letters {
				got = append(got, l.ID)
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: got %v", limit, got)
		}
	}
}

// TestDeadLettersAreRetried: one, or all of an organization, and never another organization's.
func TestDeadLettersAreRetried(t *testing.T) {
	box := &mailbox{letters: map[string][]string{"acme": {"msg_1", "msg_2", "msg_3"}, "globex": {"msg_4"}, "7": {"msg_7"}}}
	const bad, unknown = `{"status":"refused","code":"bad_request"}`, `{"status":"refused","code":"unknown_webhook"}`
	for _, test := range []struct {
		key, body string
		status    int
		want      string
	}{
		{"wrong", `{"organization_id":"acme","all":true}`, 401, `{"results":[{"status":"refused","code":"unauthenticated"}]}`},
		{historyKey, `{"organization_id":"acme","id":"msg_4"}`, 404, unknown},
		{historyKey, `{"organization_id":"acme","id":"msg_1"}`, 200, `{"status":"retried","retried":1}`},
		{historyKey, `{"organization_id":"acme","id":"msg_1"}`, 404, unknown},
		{"admin-" + historyKey, `{"organization_id":"acme","all":true}`, 200, `{"status":"retried","retried":2}`},
		{historyKey, `{"organization_id":"acme","all":true}`, 200, `{"status":"retried","retried":0}`},
		{historyKey, `{"organization_id":7,"id":"msg_7"}`, 200, `{"status":"retried","retried":1}`},
		{historyKey, `{"organization_id":"acme"}`, 400, bad},
		{historyKey, `{"organization_id":"acme","all":false}`, 400, bad},
		{historyKey, `{"organization_id":"acme","all":true,"id":"msg_1"}`, 400, bad},
		{historyKey, `{"organization_id":"acme","organization_id":"globex","all":true}`, 400, bad},
		{historyKey, `{"Organization_ID":"globex","all":true}`, 400, bad},
		{historyKey, `{"organization_id":"globex","all":true} {}`, 400, bad},
		{historyKey, `{"organization_id":"globex","id":4}`, 400, bad},
		{historyKey, `[]`, 400, bad},
		{historyKey, ``, 400, bad},
		{historyKey, `{"organization_id":"globex","all":true,` + strings.Repeat(" ", 1<<10) + `}`, 400, bad},
		{historyKey, `{"all":true}`, 400, `{"status":"refused","code":"invalid_organization"}`},
		{historyKey, `{"organization_id":"*","all":true}`, 400, `{"status":"refused","code":"invalid_organization"}`},
	} {
		if status, got := askWebhooks(box, http.MethodPost, "/v1/webhooks/retry", test.body, test.key); status != test.status || got != test.want {
			t.Errorf("%.80s: got %d %s, want %d %s", test.body, status, got, test.status, test.want)
		}
	}
	if got := box.letters["globex"][0]; got != "msg_4" {
		t.Error("a letter of another organization was retried")
	}
	box.broken = true
	if status, got := askWebhooks(box, http.MethodPost, "/v1/webhooks/retry", `{"organization_id":"acme","all":true}`, historyKey); status != 503 || got != `{"status":"failed","code":"unavailable"}` {
		t.Errorf("without Redis: got %d %s", status, got)
	}
}

// TestAdministratorsOfAnOrganizationSeeNoDeadLetters: the token with which the administrators of one
// organization use the console opens nothing here, not even for their own.
func TestAdministratorsOfAnOrganizationSeeNoDeadLetters(t *testing.T) {
	who := console.Administrator{Organization: testkit.Org(t, "globex"), UserID: "eve"}
	token := console.Token([]byte("console-key-of-32-bytes-or-more!"), who, time.Now().Add(time.Hour))
	box := &mailbox{letters: map[string][]string{"acme": {"msg_1"}, "globex": {"msg_2"}}}
	for _, org := range []string{"acme", "globex"} {
		if status, got := askWebhooks(box, http.MethodGet, "/v1/webhooks?organization_id="+org, "", token); status != 401 {
			t.Errorf("%s: got %d %s", org, status, got)
		}
		if status, got := askWebhooks(box, http.MethodPost, "/v1/webhooks/retry", `{"organization_id":"`+org+`","all":true}`, token); status != 401 {
			t.Errorf("retry %s: got %d %s", org, status, got)
		}
	}
	if box.letters["acme"][0] == "" || box.letters["globex"][0] == "" {
		t.Error("a letter was retried")
	}
}
