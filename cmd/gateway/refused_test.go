package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// rotated is a gateway whose Redis user has just been given another password.
type rotated struct {
	*serving

	client    *redis.Client
	dial      testkit.DialFunc
	handshake testkit.Handshake
	page      *testkit.Client
}

// rotate opens a page and gives the gateway's Redis user another password.
func rotate(t *testing.T, deadline string) *rotated {
	t.Helper()
	addr := redistest.Start(t)
	r := &rotated{client: redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})}
	t.Cleanup(func() { _ = r.client.Close() })
	r.password(t, "old")
	for _, key := range []string{"orgcast:{acme}:org", "orgcast:{acme}:member:ada"} {
		if err := r.client.HSet(t.Context(), key, "status", "active").Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.serving = startServe(t, addr, environment{
		"ORGCAST_REDIS": "redis://gateway:old@" + addr + "/0", "ORGCAST_SESSION_STORE": "redis", "ORGCAST_DIRECTORY": "redis",
		"ORGCAST_LEASE_PERIOD": "1s", "ORGCAST_LEASE_DEADLINE": deadline,
	})
	r.expectReady()
	r.dial, r.handshake = testkit.DialTCP(r.public), r.mint("ada", "acme")
	r.page = testkit.Connect(t, r.dial, r.handshake)
	r.password(t, "new")
	return r
}

// password sets the password of the gateway's user, and ends its connections, as a restart of Redis
// would.
func (r *rotated) password(t *testing.T, password string) {
	t.Helper()
	if err := r.client.Do(t.Context(), "ACL", "SETUSER", "gateway", "on", "resetpass", ">"+password, "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.client.Do(t.Context(), "CLIENT", "KILL", "USER", "gateway").Err(); err != nil {
		t.Fatal(err)
	}
}

// TestPasswordRotationSignsNobodyOut: a Redis that does not know the gateway's password any more
// knows nothing of anyone's session either. Pages stay, nobody new gets in, and when the password
// is right again all is as before.
func TestPasswordRotationSignsNobodyOut(t *testing.T) {
	r := rotate(t, "1h")
	testkit.Eventually(t, "everybody was asked about, in vain, again and again", func() bool {
		return r.metric("orgcast_lease_checks_total", `result="unavailable"`) >= 3
	})
	expectPong(t, r.page)
	if _, answer := testkit.Try(t, r.dial, r.handshake); answer.Status != 503 {
		t.Errorf("handshake: got %d %s, want 503", answer.Status, answer.Body)
	}
	r.password(t, "old")
	testkit.Eventually(t, "pages come back", func() bool {
		c, answer := testkit.Try(t, r.dial, r.handshake)
		if c != nil {
			_ = c.Close()
		}
		return answer.Status == 101
	})
	before := r.metric("orgcast_lease_checks_total", `result="confirmed"`)
	testkit.Eventually(t, "the page is confirmed", func() bool {
		return r.metric("orgcast_lease_checks_total", `result="confirmed"`) > before
	})
	expectPong(t, r.page)
	if n := r.metric("orgcast_leases_ended_total", ""); n != 0 {
		t.Errorf("got %v connections ended by leases, want none", n)
	}
}

// TestPasswordRotationEndsAtDeadline: what nobody can confirm ends at the deadline, and may come
// back.
func TestPasswordRotationEndsAtDeadline(t *testing.T) {
	r := rotate(t, "2s")
	r.page.ExpectClose(t, 1013)
	if n := r.metric("orgcast_leases_ended_total", `reason="unconfirmed"`); n != 1 {
		t.Errorf("got %v connections ended for want of an answer, want 1\n%s", n, strings.TrimSpace(r.log.String()))
	}
}

// metric returns the sum of a metric's values over all labels that include the one given.
func (s *serving) metric(name, label string) (sum float64) {
	s.tb.Helper()
	_, body := s.ask("GET", "/metrics", "")
	for line := range strings.Lines(body) {
		series, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		base, labels, _ := strings.Cut(series, "{")
		if base != name || !strings.Contains(labels, label) {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			s.tb.Fatalf("metric %s: %v", line, err)
		}
		sum += value
	}
	return sum
}
