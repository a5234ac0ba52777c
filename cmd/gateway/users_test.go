package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// oddUsers are user ids that could be taken for one another, each with what stands for it in keys
// and its own group. The web application and back ends make these names too, so they stand here as
// text.
var oddUsers = []struct{ id, key, group string }{
	{"ada", "ada", "user.ada"},
	{"Ada", "Ada", "user.Ada"},
	{"ada.inbox", "ada%2Einbox", "user..WdEKm10ZDdmtgGyiIDQkfxZfCxdI9rIfBTOindRa5K4"},
	{"a|b", "a%7Cb", "user..DquKCjOAq_TH0fsLQ7Zqr7tkpLlT5OstzMpXlGGRLQw"},
	{"a%7Cb", "a%257Cb", "user..8ZhweZJsgNjU86Xc92qhobmaIAZT9p3zESlmxJ4ggQw"},
	{"ü", "%C3%BC", "user..YHR0ykdalyTXNgq6caVtXfd-YTUOP3JM-h9G6Ffi2F8"},
	{"u\u0308", "u%CC%88", "user..9qFmyCWUd3n3QOcd6bTCX-seGzkB9xVZEKhiJWVJaQo"},
	{"..", "%2E%2E", "user..XsH35wDzfD0LKYHQSFX8NLlKqhVFewXKVxgXRC0ij4E"},
}

// joined is a page of one user.
type joined struct {
	*testkit.Client

	userGroup string
}

// join connects a user and reads the welcome.
func (s *serving) join(dial testkit.DialFunc, user string) joined {
	s.tb.Helper()
	handshake := s.mint(user, "acme")
	handshake.Header.Set("Sec-WebSocket-Protocol", "orgcast.v1")
	c := testkit.Connect(s.tb, dial, handshake)
	text, err := c.Next()
	if err != nil {
		s.tb.Fatal(err)
	}
	var welcome struct {
		User  string `json:"user_id"`
		Group string `json:"user_group"`
	}
	if err := json.Unmarshal([]byte(text), &welcome); err != nil || welcome.User != user {
		s.tb.Fatalf("%q: got %q, %v, want its welcome", user, text, err)
	}
	return joined{c, welcome.Group}
}

// TestUserReachesNoOther: whatever their ids look like, no user joins another's group, is admitted
// by another's membership, or is ended by another's revocation.
func TestUserReachesNoOther(t *testing.T) {
	addr := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	s := startServe(t, addr, environment{"ORGCAST_DIRECTORY": "redis", "ORGCAST_LEASE_PERIOD": "1h", "ORGCAST_LEASE_DEADLINE": "2h"})
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	if err := client.HSet(t.Context(), "orgcast:{acme}:org", "status", "active").Err(); err != nil {
		t.Fatal(err)
	}
	member := func(i int) string { return "orgcast:{acme}:member:" + oddUsers[i].key }
	for i, user := range oddUsers {
		if _, answer := testkit.Try(t, dial, s.mint(user.id, "acme")); answer.Status != 403 {
			t.Errorf("%q before its membership: got %d, want 403", user.id, answer.Status)
		}
		if err := client.HSet(t.Context(), member(i), "status", "active").Err(); err != nil {
			t.Fatal(err)
		}
	}
	pages := make([]joined, len(oddUsers))
	for i, user := range oddUsers {
		pages[i] = s.join(dial, user.id)
		if pages[i].userGroup != user.group {
			t.Errorf("%q: got the group %q, want %q", user.id, pages[i].userGroup, user.group)
		}
		s.joinsOnlyOwn(pages[i], i)
	}
	for i, user := range oddUsers {
		if out, errOut, err := execute(t, s.env, "", "publish", "--user", user.id, "acme", fmt.Sprintf(`{"type":"note","n":%d}`, i)); err != nil {
			t.Errorf("publish --user %q: got %q, %v\n%s", user.id, out, err, errOut)
		}
		if got, err := pages[i].Next(); err != nil || !strings.Contains(got, fmt.Sprintf(`"n":%d`, i)) {
			t.Errorf("%q: got %s, %v, want note %d", user.id, got, err, i)
		}
	}
	// Every other one is shut out, then the rest are.
	order := []int{0, 2, 4, 6, 1, 3, 5, 7}
	for n, i := range order {
		user := oddUsers[i]
		if n%2 == 0 {
			s.revoke(t, "user", user.id)
		} else {
			s.revoke(t, "member", "acme", user.id)
		}
		pages[i].ExpectClose(t, 4403)
		for _, other := range order[n+1:] {
			_ = pages[other].SendText(`{"type":"ping"}`)
			pages[other].Expect(t, `{"type":"pong"}`)
		}
		disabled, err := client.Exists(t.Context(), "orgcast:user-disabled:"+user.key).Result()
		if err != nil || disabled != int64((n+1)%2) {
			t.Errorf("%q: got %d keys, %v, want %d", user.id, disabled, err, (n+1)%2)
		}
	}
}

func (s *serving) revoke(t *testing.T, args ...string) {
	t.Helper()
	if out, errOut, err := execute(t, s.env, "", append([]string{"revoke"}, args...)...); err != nil || out != "revoked and announced\n" {
		t.Errorf("revoke %q: got %q, %v\n%s", args, out, err, errOut)
	}
}

// joinsOnlyOwn has the page of one of the users ask for the groups of all, and for what others may
// take for them.
func (s *serving) joinsOnlyOwn(page joined, owner int) {
	s.tb.Helper()
	own := oddUsers[owner].group
	for _, user := range oddUsers {
		for _, name := range []string{user.group, user.group + ".inbox", "user." + user.id, "user." + user.key} {
			text, err := json.Marshal(map[string]string{"type": "subscribe", "group": name})
			if err != nil {
				s.tb.Fatal(err)
			}
			_ = page.SendText(string(text))
			answer, err := page.Next()
			if err != nil {
				s.tb.Fatal(err)
			}
			if got, want := strings.HasPrefix(answer, `{"type":"subscribed"`), name == own || strings.HasPrefix(name, own+"."); got != want {
				s.tb.Errorf("%q asks for %q: got %s, want joined %v", oddUsers[owner].id, name, answer, want)
			}
		}
	}
}
