package gateway_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// peer reads a connection to its end inside a bubble and notes what came when. Without pongs it
// plays dead: it reads, as a kernel would, and answers nothing.
type peer struct {
	*testkit.Client

	pings   []time.Duration // since the connection began
	closed  time.Duration
	code    int
	ended   time.Duration
	stopped chan struct{}
}

// follow reads until the end. With alive it answers pings and the close frame.
func follow(c *testkit.Client, alive bool) *peer {
	p := &peer{Client: c, stopped: make(chan struct{})}
	c.Timeout = 0
	_ = c.SetReadDeadline(time.Time{}) // a pipe has no trouble with it
	start := time.Now()
	go func() {
		defer close(p.stopped)
		for {
			f, err := c.ReadFrame()
			if err != nil {
				p.ended = time.Since(start)
				_ = c.Close()
				return
			}
			switch f.Opcode {
			case testkit.OpPing:
				p.pings = append(p.pings, time.Since(start))
				if alive {
					_ = c.Send(testkit.Frame{Opcode: testkit.OpPong, Payload: f.Payload})
				}
			case testkit.OpClose:
				p.closed = time.Since(start)
				p.code, _ = f.Close()
				if alive {
					_ = c.Send(testkit.CloseFrame(p.code, ""))
				}
			}
		}
	}()
	return p
}

// inBubble runs a test of a whole node with a fake clock and a network in memory.
func inBubble(t *testing.T, o gateway.Options, test func(n *node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, setup{options: o, pipe: testkit.Listen(), now: time.Now})
		test(n)
		n.stop()
		synctest.Wait()
	})
}

func expectBetween(tb testing.TB, what string, got, low, high time.Duration) {
	tb.Helper()
	if got < low || got > high {
		tb.Errorf("%s: got %v, want between %v and %v", what, got, low, high)
	}
}

// TestExpiryToTheSecond: a session that ends takes its connection with it, within a second.
func TestExpiryToTheSecond(t *testing.T) {
	for name, life := range map[string]time.Duration{"soon": 7 * time.Second, "between two pings": 90 * time.Second, "in hours": 5 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, gateway.Options{}, func(n *node) {
				t := n.tb
				h := n.handshake("/ws/events", "ada", "acme", nil)
				h.Header["Cookie"] = []string{mint(t, n.sessions, "ada", "acme", life)}
				p := follow(testkit.Connect(t, n.dial, h), true)
				<-p.stopped
				if p.code != 4401 {
					t.Errorf("close: got %d, want 4401", p.code)
				}
				// Cookies know whole seconds, and the wheel turns once a second.
				expectBetween(t, "end of the session", p.closed, life-time.Second, life+time.Second)
			})
		})
	}
}

func TestPing(t *testing.T) {
	o := gateway.Options{PingInterval: 20 * time.Second, PongTimeout: 5 * time.Second}
	t.Run("answered", func(t *testing.T) {
		inBubble(t, o, func(n *node) {
			t := n.tb
			h := n.handshake("/ws/events", "ada", "acme", nil)
			h.Header["Cookie"] = []string{mint(t, n.sessions, "ada", "acme", 10*time.Minute)}
			p := follow(testkit.Connect(t, n.dial, h), true)
			<-p.stopped
			if p.code != 4401 {
				t.Errorf("close: got %d after %v, want 4401 at the end of the session", p.code, p.closed)
			}
			if got := len(p.pings); got < 28 || got > 35 { // every 17.5 s to 20 s, to the next whole second
				t.Errorf("pings in ten minutes: got %d, want 28 to 35", got)
			}
		})
	})
	t.Run("not answered", func(t *testing.T) {
		inBubble(t, o, func(n *node) {
			t := n.tb
			p := follow(n.connect("/ws/events", "ada", "acme"), false)
			<-p.stopped
			if p.code != 4408 || len(p.pings) != 1 {
				t.Fatalf("got %d pings and close %d, want 1 and 4408", len(p.pings), p.code)
			}
			expectBetween(t, "ping", p.pings[0], 17*time.Second, 22*time.Second)
			expectBetween(t, "pong timeout", p.closed-p.pings[0], 4*time.Second, 7*time.Second)
			expectBetween(t, "end after the close frame", p.ended-p.closed, 0, 6*time.Second)
		})
	})
	t.Run("frames count as life", func(t *testing.T) {
		inBubble(t, o, func(n *node) {
			t := n.tb
			p := follow(n.connect("/ws/events", "ada", "acme"), true)
			for range 60 {
				time.Sleep(10 * time.Second)
				if err := p.SendText(`{"type":"keep_alive"}`); err != nil {
					t.Fatal(err)
				}
			}
			if len(p.pings) > 0 {
				t.Errorf("a browser that speaks was pinged at %v", p.pings)
			}
			_ = p.Close()
			<-p.stopped
		})
	})
}

func TestIdleTimeout(t *testing.T) {
	inBubble(t, gateway.Options{IdleTimeout: time.Minute}, func(n *node) {
		t := n.tb
		start := time.Now()
		p := follow(n.connect("/ws/events", "ada", "acme"), true)
		for range 5 {
			time.Sleep(50 * time.Second)
			if err := p.SendText(`{"type":"ping"}`); err != nil {
				t.Fatal(err)
			}
		}
		spoke := time.Since(start)
		<-p.stopped
		if p.code != 4408 {
			t.Errorf("close: got %d, want 4408", p.code)
		}
		if len(p.pings) == 0 {
			t.Error("got no ping; pongs must not count as activity")
		}
		expectBetween(t, "idle time", p.closed-spoke, 59*time.Second, 75*time.Second)
	})
}

// TestSilentPeerIsDropped: a peer that never reads at all is gone after the write and close time-outs,
// though nothing ever tells that it is there.
func TestSilentPeerIsDropped(t *testing.T) {
	inBubble(t, gateway.Options{WriteTimeout: 3 * time.Second, CloseTimeout: 2 * time.Second}, func(n *node) {
		t := n.tb
		c := n.subscribe("ada", "acme", "all")
		n.publish("acme", "all", "into the void")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := n.gateway.Connections(); got != 0 {
			t.Errorf("connections: got %d, want 0", got)
		}
		if _, err := c.Next(); err == nil {
			t.Error("got a frame, want the end")
		}
	})
}

// TestConnectTimeout: a Connect that waits for ever refuses, and its joins are undone.
func TestConnectTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen calls
		h := &hooks{calls: &seen, connect: func(ctx context.Context, c consumer.Conn) error {
			if err := c.Join(ctx, "all"); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		}}
		n := startNode(t, setup{
			options: gateway.Options{HookTimeout: 3 * time.Second}, routes: []consumer.Route{h.route("/ws/h")},
			pipe: testkit.Listen(), now: time.Now,
		})
		start := time.Now()
		n.expectRefused(t, n.handshake("/ws/h", "ada", "acme", nil), 503, "overloaded", true)
		expectBetween(t, "Connect", time.Since(start), 3*time.Second, 3*time.Second)
		n.expectEmpty()
		if got := seen.all(); got != "connect" {
			t.Errorf("hooks: got %s, want connect alone", got)
		}
		n.stop()
	})
}
