package main

import (
	"encoding/json"
	"strings"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// present returns who the gateway at an operator's disposal says is in acme's room.1.
func (s *serving) present() string {
	s.tb.Helper()
	var who struct {
		Users []struct {
			UserID      string `json:"user_id"`
			Connections int
			State       json.RawMessage
		}
		Count int
	}
	if err := json.Unmarshal([]byte(s.operator("presence", "acme", "room.1", "--json")), &who); err != nil {
		s.tb.Fatal(err)
	}
	list := make([]string, 0, who.Count)
	for _, u := range who.Users {
		list = append(list, u.UserID+strings.Repeat("'", u.Connections-1)+string(u.State))
	}
	return strings.Join(list, " ")
}

// TestPresenceOnAllNodes: a gateway knows who is in a group at another one, in database 3, and shows
// it to pages, operators and back ends. Users of another organization with the same names are not
// among them.
func TestPresenceOnAllNodes(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	env := environment{"ORGCAST_PRESENCE_POLICY": "room.*=states", "ORGCAST_REDIS": "redis://" + addr + "/3", "ORGCAST_ADMIN_KEY": strings.Repeat("k", 32)}
	one, two := startServe(t, addr, env), startServe(t, addr, env)
	page := func(s *serving, org, user string, frames ...string) *testkit.Client {
		h := s.mint(user, org)
		h.Header.Set("Sec-WebSocket-Protocol", "orgcast.v1")
		c := testkit.Connect(t, testkit.DialTCP(s.public), h)
		for _, frame := range frames {
			if err := c.SendText(frame); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	const join, watch = `{"type":"subscribe","group":"room.1"}`, `{"type":"subscribe","groups":{"room.1":{"presence":true}}}`
	page(one, "acme", "auth0|1", join, `{"type":"presence_set","group":"room.1","state":{"a":"é"}}`)
	page(two, "globex", "auth0|1", join)
	watcher := page(two, "acme", "ada", watch)
	want := `ada auth0|1{"a":"é"}`
	for _, s := range []*serving{one, two} {
		testkit.Eventually(t, "who is present", func() bool { return s.present() == want })
	}
	for seen := false; !seen; {
		text, err := watcher.Next()
		if err != nil {
			t.Fatal(err)
		}
		seen = strings.Contains(text, `"auth0|1"`) && strings.Contains(text, `{"a":"é"}`)
		if strings.Contains(text, "globex") {
			t.Errorf("got %s", text)
		}
	}
	if out := one.operator("presence", "acme", "room.1"); !strings.Contains(out, "auth0|1") || len(cells(out)) != 3 {
		t.Errorf("got\n%s", out)
	}
	if out := one.operator("presence", "acme", "all"); out != "0 users\n" {
		t.Errorf("a group without presence: got %q", out)
	}
	for _, args := range [][]string{{"presence"}, {"presence", "acme"}, {"presence", "acme", "a b"}, {"presence", "a b", "all"}} {
		if _, _, err := execute(t, one.operatorEnv(), "", args...); err == nil {
			t.Errorf("%v: got no error", args)
		}
	}
	one.cancel() // its users may come back elsewhere, and do not
	if err := one.wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	testkit.Eventually(t, "who is left", func() bool { return two.present() == "ada" })
}
