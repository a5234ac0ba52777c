package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestMembersCannotFillRedis: members who say more than they may, in whichever conversation, at
// whichever node, are told so, and nothing of it is kept. Others of the organization, and other
// organizations, go on.
func TestMembersCannotFillRedis(t *testing.T) {
	addr := redistest.Start(t)
	limits := environment{"ORGCAST_MEMBER_BYTES_PER_USER": "100000", "ORGCAST_MEMBER_BYTES_PER_ORGANIZATION": "150000"}
	nodes := []*serving{startServe(t, addr, limits), startServe(t, addr, limits)}
	for _, node := range nodes {
		node.expectReady()
	}
	conversations := 0
	open := func(node *serving, user, org string) *testkit.Client {
		h := node.mint(user, org)
		conversations++
		h.Path = fmt.Sprintf("/ws/chat/?session=aaaaaaaa-0000-4000-8000-%012d", conversations)
		c := testkit.Connect(t, testkit.DialTCP(node.public), h)
		if first, err := c.Next(); err != nil || !strings.Contains(first, "system_message") {
			t.Fatalf("got %s, %v, want the first state", first, err)
		}
		return c
	}
	text := strings.Repeat("x", 20000)
	// say sends messages of 20 kB, which cost twice that and some more, and returns how many were
	// taken.
	messages := 0
	say := func(c *testkit.Client, most int) (taken int) {
		for range most {
			messages++
			if err := c.SendText(fmt.Sprintf(`{"type":"user_message","request_id":"m%d","message":%q}`, messages, text)); err != nil {
				t.Fatal(err)
			}
			got, err := c.Next()
			switch {
			case err != nil:
				t.Fatal(err)
			case strings.Contains(got, `"code":"quota_exceeded"`): // for the message, or for the task of the one before
				return taken
			case !strings.Contains(got, text):
				t.Fatalf("got %.200s, want the message or quota_exceeded", got)
			}
			taken++
		}
		return taken
	}
	ada := open(nodes[0], "ada", "acme")
	if got := say(ada, 10); got < 1 || got > 3 {
		t.Errorf("ada: %d messages, want what 100,000 bytes allow", got)
	}
	if got := say(open(nodes[1], "ada", "acme"), 10); got > 0 {
		t.Errorf("ada, elsewhere: %d messages, want none", got)
	}
	if got := say(open(nodes[1], "bob", "acme"), 10); got < 1 || got > 2 {
		t.Errorf("bob, of the same organization: %d messages, want what is left of 150,000 bytes", got)
	}
	if got := say(open(nodes[0], "eve", "globex"), 2); got != 2 {
		t.Errorf("eve, of another organization: %d messages, want 2", got)
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	kept := int64(0)
	for _, pattern := range []string{"orgcast:{acme}:history:*", "orgcast:tasks:*"} {
		names, err := client.Keys(t.Context(), pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			n, err := client.MemoryUsage(t.Context(), name).Result()
			if err != nil {
				t.Fatal(err)
			}
			kept += n
		}
	}
	if kept > 400000 { // of both organizations, with what Redis adds
		t.Errorf("Redis keeps %d bytes", kept)
	}
}
