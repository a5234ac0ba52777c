package gateway_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

// ledgerInBubble is inBubble with a ledger, whose channels belong to the bubble.
func ledgerInBubble(t *testing.T, o gateway.Options, test func(l *ledger, n *node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		n := startNode(t, setup{options: o, routes: []consumer.Route{l.route("/ws/l")}, pipe: testkit.Listen(), now: time.Now})
		test(l, n)
		n.stop()
		synctest.Wait()
	})
}

// TestRevokedAfterTheClose: no message of a browser whose session or membership has ended is handed
// on, though it came before.
func TestRevokedAfterTheClose(t *testing.T) {
	t.Run("suspended", func(t *testing.T) {
		l := newLedger()
		n := leaseNode(t, never, 2*never, setup{options: gateway.Options{HookTimeout: testkit.Patience, Routes: newRoutes(t, l.route("/ws/l"))}})
		s := n.vault.login("ada", "acme")
		c := testkit.Connect(t, n.dial, testkit.Handshake{Path: "/ws/l", Header: map[string][]string{"Origin": {origin}, "Cookie": {s}}})
		if err := c.Send(text("wait"), text("after"), testkit.CloseFrame(1000, "")); err != nil {
			t.Fatal(err)
		}
		n.expectLeaving(1)
		<-l.begun
		if err := n.announcer.Announce(t.Context(), lease.Message{Type: lease.MemberRemoved, Organization: mustOrg(t, "acme"), UserID: "ada"}); err != nil {
			t.Fatal(err)
		}
		l.expect(t, "", lease.ErrNotAllowed)
		if frames, _ := c.ExpectClose(t, 4403); len(frames) > 0 {
			t.Errorf("got frames %q, want none", frames)
		}
	})
	t.Run("expired", func(t *testing.T) {
		ledgerInBubble(t, gateway.Options{HookTimeout: time.Hour}, func(l *ledger, n *node) {
			t := n.tb
			h := n.handshake("/ws/l", "ada", "acme", nil)
			h.Header["Cookie"] = []string{mint(t, n.sessions, "ada", "acme", 30*time.Second)}
			c := testkit.Connect(t, n.dial, h)
			follow(c, true)
			began := time.Now()
			if err := c.Send(text("wait"), text("after"), testkit.CloseFrame(1000, "")); err != nil {
				t.Fatal(err)
			}
			l.expect(t, "", gateway.ErrSessionEnded)
			expectBetween(t, "end", time.Since(began), 29*time.Second, 31*time.Second)
		})
	})
}

// TestDrainAfterTheClose: a drain waits for what browsers have sent that have left; the end of the
// server's context does not.
func TestDrainAfterTheClose(t *testing.T) {
	start := func(t *testing.T) (*ledger, *node) {
		t.Helper()
		l := newLedger()
		n := startNode(t, setup{routes: []consumer.Route{l.route("/ws/l")}, options: gateway.Options{HookTimeout: testkit.Patience}})
		l.leaveDuring(n)
		return l, n
	}
	t.Run("drained", func(t *testing.T) {
		l, n := start(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // no time: all are told at once
		if err := n.gateway.Drain(ctx, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("Drain: got %v, want that one is left", err)
		}
		drained := make(chan error, 1)
		go func() { drained <- n.gateway.Drain(t.Context(), 0) }()
		close(l.proceed)
		if err := <-drained; err != nil {
			t.Errorf("Drain: got %v, want nil", err)
		}
		l.expect(t, "wait after", gateway.ErrPeerClosed)
	})
	t.Run("ended", func(t *testing.T) {
		l, n := start(t)
		n.stop()
		l.expect(t, "", context.Canceled)
	})
	t.Run("drained in vain, then ended", func(t *testing.T) {
		ledgerInBubble(t, gateway.Options{HookTimeout: time.Hour}, func(l *ledger, n *node) {
			t := n.tb
			c := n.connect("/ws/l", "ada", "acme")
			follow(c, true)
			if err := c.Send(text("wait"), testkit.CloseFrame(1000, "")); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := n.gateway.Leaving(); got != 1 {
				t.Fatalf("connections that browsers have left: got %d, want 1", got)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := n.gateway.Drain(ctx, time.Second); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Drain: got %v, want that one is left", err)
			}
			began := time.Now()
			n.stop()
			l.expect(t, "", context.Canceled)
			expectBetween(t, "end", time.Since(began), 0, 5*time.Second)
		})
	})
}

// TestDrainWaitsForTheLastMessages: the consumer of a browser that has left gets HookTimeout for
// what the browser had sent, and the drain succeeds. A hook that goes on regardless is not waited
// for.
func TestDrainWaitsForTheLastMessages(t *testing.T) {
	const closeTimeout, hookTimeout = 5 * time.Second, 30 * time.Second
	for name, test := range map[string]struct {
		takes      time.Duration
		regardless bool // of the end of its context
		drains     time.Duration
		handled    string
		err        error
	}{
		"in time":    {hookTimeout - time.Second, false, hookTimeout - time.Second, "wait after", nil},
		"too slow":   {time.Hour, false, hookTimeout, "", nil},
		"regardless": {hookTimeout + 10*time.Second, true, closeTimeout + hookTimeout + time.Second, "", context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			ledgerInBubble(t, gateway.Options{CloseTimeout: closeTimeout, HookTimeout: hookTimeout}, func(l *ledger, n *node) {
				t := n.tb
				if test.regardless {
					l.receive = func(context.Context, consumer.Conn, event.RawMessage) error { <-l.proceed; return nil }
				}
				c := n.connect("/ws/l", "ada", "acme")
				follow(c, true)
				if err := c.Send(text("wait"), text("after"), testkit.CloseFrame(1000, "")); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := n.gateway.Leaving(); got != 1 {
					t.Fatalf("connections that browsers have left: got %d, want 1", got)
				}
				time.AfterFunc(test.takes, func() { close(l.proceed) })
				began := time.Now()
				if err := n.gateway.Drain(context.Background(), 0); !errors.Is(err, test.err) {
					t.Errorf("Drain: got %v, want %v", err, test.err)
				}
				expectBetween(t, "Drain", time.Since(began), test.drains, test.drains)
				l.expect(t, test.handled, gateway.ErrPeerClosed)
			})
		})
	}
}

// TestReceiveErrorEndsTheInbox: what follows a message that ends the connection is not handled,
// after a close no more than before.
func TestReceiveErrorEndsTheInbox(t *testing.T) {
	l := newLedger()
	handle := l.receive
	l.receive = func(ctx context.Context, c consumer.Conn, f event.RawMessage) error {
		if string(f.Data) == "after" {
			return consumer.ErrForbidden
		}
		return handle(ctx, c, f)
	}
	n := startNode(t, setup{routes: []consumer.Route{l.route("/ws/l")}})
	c := n.connect("/ws/l", "ada", "acme")
	if err := c.Send(text("wait"), text("after"), text("never"), testkit.CloseFrame(1000, "")); err != nil {
		t.Fatal(err)
	}
	n.expectLeaving(1)
	close(l.proceed)
	l.expect(t, "wait", consumer.ErrForbidden)
	c.ExpectClose(t, 4403)
}

// TestJoinAfterTheClose: a message that joins a group is handled as any other, and the membership
// ends with the connection.
func TestJoinAfterTheClose(t *testing.T) {
	l := newLedger()
	handle := l.receive
	l.receive = func(ctx context.Context, c consumer.Conn, f event.RawMessage) error {
		if string(f.Data) == "after" {
			if err := c.Join(ctx, "all"); err != nil {
				return err
			}
			if id, ok := orgctx.From(ctx); !ok || id.String() != "acme" {
				return errDown
			}
		}
		return handle(ctx, c, f)
	}
	n := startNode(t, setup{routes: []consumer.Route{l.route("/ws/l")}})
	l.leaveDuring(n)
	close(l.proceed)
	l.expect(t, "wait after", gateway.ErrPeerClosed)
	n.expectConnections(0)
	if got := n.hub.Groups(); got != 0 {
		t.Errorf("groups: got %d, want 0", got)
	}
}
