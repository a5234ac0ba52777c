package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/directory"
	"orgcast/internal/gateway"
	"orgcast/internal/lease"
	"orgcast/internal/testkit"
)

// Of the nodes of leasedInBubble.
const (
	bubblePeriod   = 5 * time.Second
	bubbleDeadline = 2 * time.Minute
)

// bubbled is a node on fake time whose Keeper works, and whose sessions say who is a member.
type bubbled struct {
	*node

	on     way
	keeper *lease.Keeper
}

// leasedInBubble runs a test over each transport and each kind of store, but for those in Redis, which is a process and
// has a clock of its own: TestRenewedSessionStays and TestRedisAwayEndsLeases wait for that.
func leasedInBubble(t *testing.T, test func(b *bubbled)) {
	t.Helper()
	leasedInBubbleOf(t, slices.DeleteFunc(storeKinds(), func(k storeKind) bool { return k.process }), test)
}

// leasedInBubbleOf is leasedInBubble for some kinds of store.
func leasedInBubbleOf(t *testing.T, kinds []storeKind, test func(b *bubbled)) {
	t.Helper()
	eachWayOf(t, kinds, func(t *testing.T, on way) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := on.setup()
			s.pipe, s.now = testkit.Listen(), time.Now
			s.vault = on.store.open(t, &s)
			keeper, err := lease.NewKeeper(lease.Options{
				Sessions: s.vault.Store, Directory: directory.TrustSession{}, Period: bubblePeriod, Deadline: bubbleDeadline,
			})
			if err != nil {
				t.Fatal(err)
			}
			s.options = gateway.Options{Sessions: s.vault.Store, Membership: directory.TrustSession{}, Leases: keeper}
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { _ = keeper.Run(ctx) })
			n := startNode(t, s)
			test(&bubbled{node: n, on: on, keeper: keeper})
			n.stop()
			cancel()
			running.Wait()
			synctest.Wait()
		})
	})
}

// enter opens a connection that joins "all", and is read to its end.
func (b *bubbled) enter(cookies string) *viewing {
	b.tb.Helper()
	return view(b.on.over.subscribe(b.tb, b.dial, http.Header{"Origin": {origin}, "Cookie": {cookies}}, "all"))
}

// viewing reads a connection to its end and notes what came.
type viewing struct {
	client *testkit.Client

	mu     sync.Mutex
	frames []string
	end    *testkit.ClosedError // nil while the connection is open
	lasted time.Duration
}

func view(c *testkit.Client) *viewing {
	c.Timeout = 0
	_ = c.SetReadDeadline(time.Time{}) // a pipe has no trouble with it
	r, start := &viewing{client: c}, time.Now()
	go func() {
		defer c.Close()
		for {
			text, err := c.Next()
			r.mu.Lock()
			if err != nil {
				r.end, _ = errors.AsType[*testkit.ClosedError](err)
				r.lasted = time.Since(start)
				r.mu.Unlock()
				return
			}
			r.frames = append(r.frames, text)
			r.mu.Unlock()
		}
	}()
	return r
}

// expectOpen sees that a connection gets what is published now.
func (b *bubbled) expectOpen(r *viewing, org, text string) {
	b.tb.Helper()
	b.publish(org, "all", text)
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.frames) == 0 || !strings.Contains(r.frames[len(r.frames)-1], text) {
		b.tb.Fatalf("%s: got %q, end %v", text, r.frames, r.end)
	}
}

// expectEnd sees how a connection ended, and returns the reason.
func (b *bubbled) expectEnd(r *viewing, code int) (reason string) {
	b.tb.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end == nil || r.end.Code != code {
		b.tb.Fatalf("got the end %v, want %d", r.end, code)
	}
	return r.end.Reason
}

// TestExpiredCopyOfSession: where the gateway knows no more of a session than what the browser sent, the end of that
// is not the end of the session. The browser is told that it may come back with a newer cookie; a revocation says
// nothing of the kind. A session whose end the application has moved stays.
func TestExpiredCopyOfSession(t *testing.T) {
	leasedInBubble(t, func(b *bubbled) {
		t := b.tb
		const life = 10 * time.Second
		old := b.enter(b.vault.loginUntil("ada", "acme", time.Now().Add(life)))
		var renewed *viewing
		if b.vault.renew != nil {
			cookies := b.vault.loginUntil("ada", "acme", time.Now().Add(life))
			renewed = b.enter(cookies)
			b.vault.renew(cookies, time.Now().Add(time.Hour))
		}
		time.Sleep(2 * life)
		if reason := b.expectEnd(old, 4401); reason != `{"retry":"once"}` {
			t.Errorf("reason at the end of the cookie: got %q, want that the browser may try once", reason)
		}
		expectBetween(t, "end of the session", old.lasted, life-time.Second, life+time.Second)
		if renewed != nil {
			b.expectOpen(renewed, "acme", "renewed")
		}
		cookies := b.vault.login("ada", "acme") // as the site gave it meanwhile
		newer := b.enter(cookies)
		if n := b.keeper.Apply(lease.Message{Type: lease.SessionEnded, SessionID: b.vault.id(t, cookies)}); n != 1 {
			t.Fatalf("announced end: got %d connections, want 1", n)
		}
		if reason := b.expectEnd(newer, 4401); reason != "session ended" {
			t.Errorf("reason of an announced end: got %q, want %q", reason, "session ended")
		}
	})
}

// TestStoreAwayEndsLeases: while a store cannot say who may stay, nobody is logged out and nobody comes in. What it
// says when it is back in time counts; else its connections end by the deadline, and those of another store stay.
func TestStoreAwayEndsLeases(t *testing.T) {
	leasedInBubble(t, func(b *bubbled) {
		t := b.tb
		if b.on.store.sealed { // a store that is never away
			r := b.enter(b.vault.login("ada", "acme"))
			time.Sleep(3 * bubbleDeadline / 2)
			b.expectOpen(r, "acme", "much later")
			return
		}
		cookies := b.vault.login("ada", "acme")
		c := b.enter(cookies)
		var other *viewing
		if _, own, two := strings.Cut(cookies, "; "); two {
			other = b.enter(own)
		}
		handshake := b.on.over.handshake("/ws/events", http.Header{"Origin": {origin}, "Cookie": {cookies}})
		b.vault.stop()
		time.Sleep(bubbleDeadline / 2)
		b.expectOpen(c, "acme", "while the store is away")
		b.expectRefused(t, handshake, 503, "overloaded", true)
		b.vault.resume()
		time.Sleep(2 * bubbleDeadline)
		b.expectOpen(c, "acme", "after that")

		b.vault.stop()
		time.Sleep(bubbleDeadline)
		var told struct {
			RetryAfterMS int64 `json:"retry_after_ms"`
		}
		reason := b.expectEnd(c, 1013)
		if err := json.Unmarshal([]byte(reason), &told); err != nil || told.RetryAfterMS < 1 {
			t.Errorf("reason: got %q, want retry_after_ms", reason)
		}
		if other != nil {
			b.expectOpen(other, "globex", "the other store")
		}
		b.vault.resume()
		b.expectOpen(b.enter(cookies), "acme", "back again")
	})
}
