package clients_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/clients/go/orgcast"
	"orgcast/internal/testkit"
)

// runGo makes the calls with the client in Go, as the tests in other languages do with theirs.
func runGo(t *testing.T, v vectors, front string) {
	t.Helper()
	for _, c := range v.UserGroup {
		if got := orgcast.UserGroup(c.User); got != c.Group {
			t.Errorf("UserGroup(%q): got %q, want %q", c.User, got, c.Group)
		}
	}
	for _, c := range v.SignGroup {
		got, err := orgcast.SignGroup(c.Key, c.Organization, c.Group, time.Unix(c.Expires, 0))
		if err != nil || got != c.Token {
			t.Errorf("SignGroup: got %q, %v, want %q", got, err, c.Token)
		}
	}
	for _, c := range v.SignGroupRefused {
		if got, err := orgcast.SignGroup(c.Key, c.Organization, c.Group, time.Unix(c.Expires, 0)); err == nil {
			t.Errorf("SignGroup(%+v): got %q, want an error", c, got)
		}
	}
	if _, err := orgcast.New(front, "", 0); err == nil {
		t.Error("New: got no error for an empty key")
	}
	ids := make(map[string]place) // by label
	for _, c := range v.Calls {
		got, err := doInGo(t, c, front)
		if c.Error != nil {
			failed, ok := errors.AsType[*orgcast.Error](err)
			if !ok || failed.Status != c.Error.Status || failed.Code != c.Error.Code {
				t.Errorf("%+v: got %v, %v, want status %d, code %s", c, got, err, c.Error.Status, c.Error.Code)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %s: %v", c.Call, c.Event, err)
			continue
		}
		want := decodeWant(t, c, got, ids)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s: want (-), got (+):\n%s", c.Call, c.Event, diff)
		}
	}
}

// place is where an event was recorded. Two organizations may have the same position.
type place struct{ organization, id string }

// decodeWant returns what a call must come to. Positions are not known before: the same label must mean
// the same one, and another label another one.
func decodeWant(t *testing.T, c call, got any, ids map[string]place) any {
	t.Helper()
	if c.Call == "revoke" {
		var want string
		if err := json.Unmarshal(c.Want, &want); err != nil {
			t.Fatal(err)
		}
		return want
	}
	var want orgcast.Receipt
	if err := json.Unmarshal(c.Want, &want); err != nil {
		t.Fatal(err)
	}
	if receipt, _ := got.(orgcast.Receipt); want.ID != "" {
		if _, known := ids[want.ID]; !known {
			at := place{c.Organization, receipt.ID}
			for label, other := range ids {
				if at == other {
					t.Errorf("%s: got the position of %s", want.ID, label)
				}
			}
			ids[want.ID] = at
		}
		want.ID = ids[want.ID].id
	}
	return want
}

func doInGo(t *testing.T, c call, front string) (any, error) {
	t.Helper()
	url, key, timeout := front+"/direct", publishKey, testkit.Patience
	switch c.Through {
	case "":
	case "nowhere":
		url = "http://127.0.0.1:1"
	case "silent":
		url, timeout = front+"/silent", 300*time.Millisecond
	default:
		url = front + "/" + c.Through + "/"
	}
	if c.Key != "" {
		key = c.Key
	}
	client, err := orgcast.New(url, key, timeout)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	group := c.Group
	if c.User != "" {
		group = orgcast.UserGroup(c.User)
	}
	switch c.Call {
	case "publish":
		return client.Publish(t.Context(), c.Organization, group, c.Event)
	case "record":
		return client.Record(t.Context(), c.Organization, group, c.Event, c.IdempotencyKey)
	case "revoke":
		var r orgcast.Revocation
		if err := json.Unmarshal(c.Message, &r); err != nil {
			t.Fatal(err)
		}
		return client.Revoke(t.Context(), r)
	default:
		t.Fatalf("unknown call %q", c.Call)
		return nil, nil
	}
}
