package main

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// mintAlone logs a user in who belongs to no organization.
func (s *serving) mintAlone(user string) testkit.Handshake {
	s.tb.Helper()
	out, errOut, err := execute(s.tb, s.env, "", "session", "mint", user)
	if err != nil {
		s.tb.Fatalf("session mint: %v\n%s", err, errOut)
	}
	return testkit.Handshake{Path: "/ws/connection_test/", Header: http.Header{"Origin": {testOrigin}, "Cookie": {strings.TrimSpace(out)}}}
}

// TestUsersWithoutOrganizationShareALimit: whoever belongs to no organization gets no more out of a node
// than the members of one do. All of them together count as one, under a name in Redis of their own.
func TestUsersWithoutOrganizationShareALimit(t *testing.T) {
	addr := redistest.Start(t)
	s := startServe(t, addr, environment{"ORGCAST_MAX_PER_ORGANIZATION": "3"})
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	knock := func(from, to int) (admitted int) {
		t.Helper()
		for i := from; i < to; i++ {
			c, answer := testkit.Try(t, dial, s.mintAlone("user-"+strconv.Itoa(i)))
			if c == nil && answer.Status != http.StatusTooManyRequests {
				t.Fatalf("got %d %s, want 429", answer.Status, answer.Body)
			}
			if c != nil {
				admitted++
			}
		}
		return admitted
	}
	if got := knock(0, 40); got != 3 {
		t.Errorf("got %d of 40 admitted, want 3", got)
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	if shares, err := client.HGetAll(t.Context(), "orgcast:{.none}:connections").Result(); len(shares) != 1 || err != nil {
		t.Errorf("orgcast:{.none}:connections: got %v, %v, want the share of one node", shares, err)
	}
	s.subscribe(dial, "ada", "acme") // another one's limit is another one
	if err := client.HSet(t.Context(), "orgcast:{.none}:org", "max_connections", 5).Err(); err != nil {
		t.Fatal(err)
	}
	if got := knock(40, 50); got != 2 {
		t.Errorf("after the limit was raised from 3 to 5: got %d admitted, want 2", got)
	}
}
