package api_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"orgcast/internal/api"
	"orgcast/internal/event"
	"orgcast/internal/presence"
)

// attended knows one group.
type attended struct{}

func (attended) Who(_ context.Context, g event.Group) (presence.Snapshot, error) {
	switch g.String() {
	case "acme/all", "acme/user.ada":
		user := presence.User{UserID: "ada", Connections: 2, Since: time.Unix(1_800_000_000, 0).UTC(), State: []byte(`{"a":1}`)}
		return presence.Snapshot{Users: []presence.User{user}, Count: 1}, nil
	case "acme/many":
		return presence.Snapshot{Count: 5000}, nil
	case "acme/down":
		return presence.Snapshot{}, errors.New("dial tcp: connection refused")
	}
	return presence.Snapshot{}, nil
}

// TestWhoIsPresent: back ends ask who is in a group of an organization, with the publish key or the
// admin key.
func TestWhoIsPresent(t *testing.T) {
	h := api.New(api.Options{PublishKey: api.NewKey(historyKey), AdminKey: api.NewKey("admin-" + historyKey), Publisher: new(recorder), Revoker: new(revoker), Presence: attended{}, Log: nop})
	const ada = `{"users":[{"user_id":"ada","connections":2,"since":"2027-01-15T08:00:00Z","state":{"a":1}}],"count":1}`
	for _, test := range []struct {
		key, query string
		status     int
		want       string
	}{
		{historyKey, "organization_id=acme&group=all", 200, ada},
		{"admin-" + historyKey, "organization_id=acme&group=all", 200, ada},
		{historyKey, "organization_id=acme&user_id=ada", 200, ada},
		{historyKey, "organization_id=globex&group=all", 200, `{"count":0}`},
		{historyKey, "organization_id=acme&group=many", 200, `{"count":5000}`},
		{historyKey, "organization_id=acme&group=down", 503, `"unavailable"`},
		{historyKey, "organization_id=acme&group=all&user_id=ada", 400, `"invalid_group"`},
		{historyKey, "organization_id=acme&user_id=a%20b", 400, `"invalid_user"`},
		{historyKey, "organization_id=acme", 400, `"invalid_group"`},
		{historyKey, "group=all", 400, `"invalid_organization"`},
		{historyKey, "organization_id=acme&group=all&limit=1", 400, `"unknown_parameter"`},
		{"wrong", "organization_id=acme&group=all", 401, `"unauthenticated"`},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v1/presence?"+test.query, http.NoBody)
		r.Header.Set("Authorization", "Bearer "+test.key)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Body.String(); w.Code != test.status || !strings.Contains(got, test.want) {
			t.Errorf("%s: got %d %s, want %d %s", test.query, w.Code, got, test.status, test.want)
		}
	}
}
