package gateway_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
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
	inBubbleOver(t, webSockets, o, test)
}

// inBubbleOver is inBubble over a transport.
func inBubbleOver(t *testing.T, over via, o gateway.Options, test func(n *node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := startNode(t, setup{over: over, options: o, pipe: testkit.Listen(), now: time.Now})
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

// TestDeadlinesDoNotWaitForEachOther: each deadline of a connection is kept to a turn of the wheel or two,
// whatever the other settings are, also while a pong is awaited.
func TestDeadlinesDoNotWaitForEachOther(t *testing.T) {
	const turns = 2 * time.Second
	half := testkit.Frame{Opcode: testkit.OpText, Payload: []byte("never finished")}.Bytes()[:8]
	for name, test := range map[string]struct {
		options gateway.Options
		sent    time.Duration // when half a message is sent; 0 for never
		ends    time.Duration
	}{
		"idle before the first ping": {options: gateway.Options{IdleTimeout: time.Second}, ends: time.Second},
		"idle while a pong is awaited": {
			options: gateway.Options{IdleTimeout: 12 * time.Second, PingInterval: 10 * time.Second, PongTimeout: 50 * time.Second},
			ends:    12 * time.Second,
		},
		"a message while a pong is awaited": {
			options: gateway.Options{MessageTimeout: 4 * time.Second, PingInterval: 10 * time.Second, PongTimeout: 50 * time.Second},
			sent:    15 * time.Second, ends: 19 * time.Second,
		},
		"no pong": {
			options: gateway.Options{PingInterval: time.Second, PongTimeout: 7 * time.Second}, ends: 8 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, test.options, func(n *node) {
				t := n.tb
				p := follow(n.connect("/ws/events", "ada", "acme"), false)
				if test.sent > 0 {
					time.Sleep(test.sent)
					if _, err := p.Write(half); err != nil {
						t.Fatal(err)
					}
				}
				<-p.stopped
				if p.code != 4408 {
					t.Errorf("close: got %d, want 4408", p.code)
				}
				expectBetween(t, "end", p.closed, test.ends-turns/2, test.ends+turns)
			})
		})
	}
	t.Run("the next ping", func(t *testing.T) {
		inBubble(t, gateway.Options{PingInterval: 5 * time.Second, PongTimeout: 50 * time.Second}, func(n *node) {
			t := n.tb
			p := follow(n.connect("/ws/events", "ada", "acme"), true)
			time.Sleep(time.Minute)
			_ = p.Close()
			<-p.stopped
			if got := len(p.pings); got < 8 || got > 14 {
				t.Errorf("pings in a minute: got %d at %v, want one every five seconds or so", got, p.pings)
			}
		})
	})
}

// TestIdleTimeBeginsWithTheConnection: a browser can send nothing before its handshake is answered.
func TestIdleTimeBeginsWithTheConnection(t *testing.T) {
	const connecting, idle = 8 * time.Second, 3 * time.Second
	synctest.Test(t, func(t *testing.T) {
		h := &hooks{connect: func(context.Context, consumer.Conn) error {
			time.Sleep(connecting)
			return nil
		}}
		n := startNode(t, setup{
			options: gateway.Options{IdleTimeout: idle}, routes: []consumer.Route{h.route("/ws/h")},
			pipe: testkit.Listen(), now: time.Now,
		})
		p := follow(n.connect("/ws/h", "ada", "acme"), true)
		<-p.stopped
		if p.code != 4408 {
			t.Errorf("close: got %d, want 4408", p.code)
		}
		expectBetween(t, "idle time", p.closed, idle, idle+2*time.Second)
		n.stop()
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

// TestHookOfTenSeconds: however long a hook takes, events, pings of both sides and the end of its
// connection do not wait for it, and nothing of another organization does. Only what has to be in
// order does: Disconnect behind all, and what is to be sent behind HandleEvent.
func TestHookOfTenSeconds(t *testing.T) {
	const slow, ping = 10 * time.Second, 2 * time.Second
	for name, endsBy := range map[string]string{
		"Receive, the browser goes": "browser", "Receive, the session ends": "session", "HandleEvent, the browser goes": "browser",
	} {
		inWriter := strings.HasPrefix(name, "HandleEvent")
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var order calls
				began, over := time.Now(), new(atomic.Int64) // when the hook returned
				sleep := func() {
					time.Sleep(slow) // and does not heed its context
					over.Store(int64(time.Since(began)))
				}
				h := &hooks{calls: &order, connect: joining("all"), receive: func(context.Context, consumer.Conn, event.RawMessage) error {
					sleep()
					return nil
				}}
				route := h.route("/ws/slow")
				if inWriter {
					route.New = func() consumer.OrganizationAwareConsumer {
						return handling{h, func(_ context.Context, _ consumer.Conn, e *event.Event) bool {
							if e.Group().Organization().String() == "acme" {
								sleep()
							}
							return true
						}}
					}
				}
				n := startNode(t, setup{
					options: gateway.Options{PingInterval: ping, PongTimeout: time.Minute}, routes: []consumer.Route{route},
					pipe: testkit.Listen(), now: time.Now,
				})
				session := n.handshake("/ws/slow", "ada", "acme", nil)
				session.Header["Cookie"] = []string{mint(t, n.sessions, "ada", "acme", 8*time.Second)}
				c, other := testkit.Connect(t, n.dial, session), n.connect("/ws/slow", "ada", "globex")
				at := func(what string, most time.Duration) {
					t.Helper()
					if got := time.Since(began); got > most {
						t.Errorf("%s: got it after %v, want %v at most", what, got, most)
					}
				}
				if inWriter {
					n.publish("acme", "all", "slow")
				} else {
					_ = c.SendText("slow")
				}
				synctest.Wait() // the hook is at it
				other.Expect(t, n.publish("globex", "all", "elsewhere"))
				if !inWriter {
					c.Expect(t, n.publish("acme", "all", "meanwhile"))
				}
				_ = c.Send(frame(testkit.OpPing, "p"))
				if f, err := c.ReadFrame(); err != nil || describe(f) != "pong p" {
					t.Fatalf("got %v, %v, want pong p", f, err)
				}
				at("event and pong", 0)
				if !inWriter {
					if f, err := c.ReadFrame(); err != nil || f.Opcode != testkit.OpPing {
						t.Fatalf("got %v, %v, want the server's ping", f, err)
					}
					at("the server's ping", ping+2*time.Second) // it looks once a second
				}
				want := 1000
				if endsBy == "browser" {
					_ = c.Send(testkit.CloseFrame(want, ""))
				} else {
					want = 4401
				}
				c.ExpectClose(t, want)
				at("the end", 9*time.Second)
				_ = c.Close()
				synctest.Wait()
				if over.Load() != 0 || strings.Contains(order.all(), "disconnect") {
					t.Errorf("hooks: got %q, want the slow one still at it", order.all())
				}
				_ = other.Close()
				time.Sleep(slow)
				synctest.Wait()
				if got := time.Duration(over.Load()); got != slow {
					t.Errorf("the hook took %v, want %v", got, slow)
				}
				if got := strings.Count(order.all(), "disconnect"); got != 2 || !strings.HasSuffix(order.all(), "disconnect") {
					t.Errorf("hooks: got %q, want Disconnect of both, behind all", order.all())
				}
				n.stop()
			})
		})
	}
}

// TestMessageIsBoundedInAge: every byte is a sign of life, so a browser that sends one of an unfinished message
// now and then is never pinged. It has to be done with the message in time, however it is cut up.
func TestMessageIsBoundedInAge(t *testing.T) {
	const limit = 30 * time.Second
	long := strings.Repeat("x", 100)
	frames := func(list ...testkit.Frame) (b []byte) {
		for _, f := range list {
			b = append(b, f.Bytes()...)
		}
		return b
	}
	var fragments []testkit.Frame
	for i := range 20 {
		opcode := testkit.OpContinuation
		if i == 0 {
			opcode = testkit.OpText
		}
		fragments = append(fragments, testkit.Frame{Opcode: opcode, More: true, Payload: []byte("x")}, testkit.Frame{Opcode: testkit.OpPong})
	}
	for name, test := range map[string]struct {
		bytes  []byte
		piece  int // bytes at a time
		header http.Header
	}{
		"payload byte by byte":         {bytes: frames(testkit.Frame{Opcode: testkit.OpText, Payload: []byte(long)}), piece: 1},
		"header byte by byte":          {bytes: frames(testkit.Frame{Opcode: testkit.OpText, Payload: []byte(strings.Repeat(long, 700))})[:13], piece: 1},
		"fragments and pongs":          {bytes: frames(fragments...), piece: 13},
		"ping byte by byte":            {bytes: frames(testkit.Frame{Opcode: testkit.OpPing, Payload: []byte(long)}), piece: 1},
		"compressed, in stored blocks": {bytes: frames(testkit.Frame{Opcode: testkit.OpText, RSV: 4, Payload: bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, 20)}), piece: 1, header: http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, gateway.Options{MessageTimeout: limit, Compress: true}, func(n *node) {
				t := n.tb
				p := follow(testkit.Connect(t, n.dial, n.handshake("/ws/events", "ada", "acme", test.header)), false)
				for rest := test.bytes; len(rest) > 0; time.Sleep(9 * time.Second) {
					piece := min(test.piece, len(rest))
					if _, err := p.Write(rest[:piece]); err != nil {
						break
					}
					rest = rest[piece:]
				}
				<-p.stopped
				if p.code != 4408 {
					t.Errorf("close: got %d, want 4408", p.code)
				}
				if len(p.pings) > 0 {
					t.Errorf("pinged at %v: the test is about a browser that never is", p.pings)
				}
				expectBetween(t, "end of an unfinished message", p.closed, limit-time.Second, 2*limit)
			})
		})
	}
	t.Run("done in time", func(t *testing.T) {
		inBubble(t, gateway.Options{MessageTimeout: limit}, func(n *node) {
			t := n.tb
			p := follow(n.connect("/ws/events", "ada", "acme"), true)
			message := testkit.Frame{Opcode: testkit.OpText, Payload: []byte(`{"type":"ping"}`)}.Bytes()
			for range 30 {
				for i := range message {
					if _, err := p.Write(message[i : i+1]); err != nil {
						t.Fatalf("after %v: %v", p.closed, err)
					}
					time.Sleep(time.Second)
				}
			}
			_ = p.Close()
			<-p.stopped
			if p.code != 0 {
				t.Errorf("close: got %d, want none", p.code)
			}
		})
	})
}

// TestSlowMessageOnASocket is the same with a real socket, where another reader is at work.
func TestSlowMessageOnASocket(t *testing.T) {
	n := startNode(t, setup{options: gateway.Options{MessageTimeout: time.Millisecond}})
	c := n.connect("/ws/events", "ada", "acme")
	if _, err := c.Write(testkit.Frame{Opcode: testkit.OpText, Payload: []byte(`{"type":"ping"}`)}.Bytes()[:9]); err != nil {
		t.Fatal(err)
	}
	if _, reason := c.ExpectClose(t, 4408); reason != "message not finished" {
		t.Errorf("reason: got %q", reason)
	}
}
