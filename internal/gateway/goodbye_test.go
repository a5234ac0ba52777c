package gateway_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// TestCloseWithoutCode: a page that calls close() sends no code, and gets none. 1005 stands for
// that and must not be in a frame (RFC 6455, section 7.4.1): the browser would report 1006, a lost
// connection.
func TestCloseWithoutCode(t *testing.T) {
	n := startNode(t, setup{routes: []consumer.Route{echo().route("/ws/echo")}})
	for name, frames := range map[string][]testkit.Frame{"at once": nil, "after a message": {text("a")}} {
		t.Run(name, func(t *testing.T) {
			c := n.connect("/ws/echo", "ada", "acme")
			if err := c.Send(append(frames, frame(testkit.OpClose, ""))...); err != nil {
				t.Fatal(err)
			}
			for {
				f, err := c.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if f.Opcode != testkit.OpClose {
					continue
				}
				if len(f.Payload) > 0 {
					t.Errorf("close frame: got the payload % x, want none", f.Payload)
				}
				return
			}
		})
	}
}

// TestAnswersInTheQueueComeBeforeTheClose: the answers to messages that are handled already, but
// which the client has not read, leave before the close frame as those to messages that wait do.
func TestAnswersInTheQueueComeBeforeTheClose(t *testing.T) {
	last := map[string]struct {
		frame testkit.Frame
		code  int
	}{"closed": {testkit.CloseFrame(1000, ""), 1000}, "broken": {frame(3, ""), 1002}}
	for name, last := range last {
		t.Run(name, func(t *testing.T) {
			ledgerInBubble(t, gateway.Options{}, func(l *ledger, n *node) {
				t := n.tb
				c := n.connect("/ws/l", "ada", "acme")
				frames, all := numbered(5)
				if err := c.Send(frames...); err != nil {
					t.Fatal(err)
				}
				testkit.Eventually(t, "all messages handled", func() bool { return l.all() == all })
				if err := c.Send(last.frame); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // of the bubble
				if answers, _ := c.ExpectClose(t, last.code); strings.Join(answers, " ") != `"0" "1" "2" "3" "4"` {
					t.Errorf("answers: got %q, want five", answers)
				}
			})
		})
	}
}

// TestUnreadAnswersHoldNothing: a client that closes and never reads the answers is gone twice
// CloseTimeout later, long before HookTimeout.
func TestUnreadAnswersHoldNothing(t *testing.T) {
	o := gateway.Options{HookTimeout: time.Hour, CloseTimeout: 5 * time.Second, WriteTimeout: time.Hour}
	ledgerInBubble(t, o, func(l *ledger, n *node) {
		t := n.tb
		c := n.connect("/ws/l", "ada", "acme")
		frames, all := numbered(5)
		began := time.Now()
		if err := c.Send(append(frames, testkit.CloseFrame(1000, ""))...); err != nil {
			t.Fatal(err)
		}
		l.expect(t, all, gateway.ErrPeerClosed)
		expectBetween(t, "end", time.Since(began), 5*time.Second, 10*time.Second)
	})
}

// TestFramesThatNobodyHandles: messages that are dropped with their connection are counted, and
// where the time for them ran out the log says so, rarely for each organization.
func TestFramesThatNobodyHandles(t *testing.T) {
	t.Run("timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			log, logs := observed()
			l := newLedger()
			n := startNode(t, setup{log: log, routes: []consumer.Route{l.route("/ws/l")}, pipe: testkit.Listen(), now: time.Now})
			c := n.connect("/ws/l", "ada", "acme")
			follow(c, true)
			if err := c.Send(text("wait"), text("after"), text("later"), testkit.CloseFrame(1000, "")); err != nil {
				t.Fatal(err)
			}
			l.expect(t, "", gateway.ErrPeerClosed)
			n.expectFramesDropped(2, 0)
			lines := logs.FilterMessage("messages dropped").All()
			if len(lines) != 1 {
				t.Fatalf("got %d lines, want 1", len(lines))
			}
			if f := lines[0].ContextMap(); f["organization_id"] != "acme" || f["count"] != int64(2) || f["route"] != "/ws/l" {
				t.Errorf("got %v, want the organization, the count 2 and the route", f)
			}
			n.stop()
			synctest.Wait()
		})
	})
	t.Run("ended", func(t *testing.T) {
		l := newLedger()
		n := startNode(t, setup{routes: []consumer.Route{l.route("/ws/l")}, options: gateway.Options{HookTimeout: testkit.Patience}})
		l.leaveDuring(n)
		n.stop()
		n.expectFramesDropped(0, 1)
	})
}

// expectFramesDropped compares how many messages nobody handled.
func (n *node) expectFramesDropped(timeout, ended float64) {
	n.tb.Helper()
	for reason, want := range map[string]float64{"timeout": timeout, "ended": ended} {
		if got := n.metric("orgcast_frames_dropped_total", "reason="+reason); got != want {
			n.tb.Errorf("messages dropped, %s: got %v, want %v", reason, got, want)
		}
	}
}
