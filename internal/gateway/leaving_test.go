package gateway_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// ledger is a consumer that writes down what it has handled to the end, and answers each message. A
// message "wait" is handled when the test says so, or given up when its context ends.
type ledger struct {
	hooks

	proceed chan struct{} // closed by the test
	begun   chan struct{} // closed when "wait" has come
	over    chan error    // how Disconnect found things; capacity 1

	mu      sync.Mutex
	handled []string
	gaveUp  error // the cause of the context that ended
}

func newLedger() *ledger {
	l := &ledger{proceed: make(chan struct{}), begun: make(chan struct{}), over: make(chan error, 1)}
	l.receive = func(ctx context.Context, c consumer.Conn, f event.RawMessage) error {
		if string(f.Data) == "wait" {
			close(l.begun)
			select {
			case <-l.proceed:
			case <-ctx.Done():
				l.mu.Lock()
				l.gaveUp = context.Cause(ctx)
				l.mu.Unlock()
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := c.Send(string(f.Data)); err != nil {
			return err
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.handled = append(l.handled, string(f.Data))
		return nil
	}
	l.disconnect = func(_ context.Context, _ consumer.Conn, cause error) { l.over <- cause }
	return l
}

func (l *ledger) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.handled, " ")
}

// expect waits for Disconnect and compares what was handled before.
func (l *ledger) expect(tb testing.TB, handled string, cause error) {
	tb.Helper()
	select {
	case got := <-l.over:
		if !errors.Is(got, cause) {
			tb.Errorf("cause of Disconnect: got %v, want %v", got, cause)
		}
	case <-time.After(testkit.Patience):
		tb.Fatal("Disconnect did not run")
	}
	if got := l.all(); got != handled {
		tb.Errorf("handled: got %q, want %q", got, handled)
	}
}

// numbered returns so many different messages.
func numbered(n int) (frames []testkit.Frame, all string) {
	var texts []string
	for i := range n {
		texts = append(texts, fmt.Sprint(i))
		frames = append(frames, text(texts[i]))
	}
	return frames, strings.Join(texts, " ")
}

// cutOff sends so many bytes of a frame and then no more.
func cutOff(f testkit.Frame, bytes int) func(c *testkit.Client) {
	return func(c *testkit.Client) {
		_, _ = c.Write(f.Bytes()[:bytes])
		c.HalfClose()
	}
}

// TestLastMessagesAreHandled: however a browser leaves, the consumer handles what it had sent, in
// order and to the end, and only then is told that the connection is over.
func TestLastMessagesAreHandled(t *testing.T) {
	closing := testkit.CloseFrame(1000, "")
	leavings := map[string]struct {
		leave func(c *testkit.Client)
		cause error
	}{
		"closes":                          {func(c *testkit.Client) { _ = c.Send(closing) }, gateway.ErrPeerClosed},
		"closes and leaves":               {func(c *testkit.Client) { _ = c.Send(closing); _ = c.Close() }, gateway.ErrPeerClosed},
		"half-closes":                     {func(c *testkit.Client) { c.HalfClose() }, gateway.ErrPeerGone},
		"closes the socket":               {func(c *testkit.Client) { _ = c.Close() }, gateway.ErrPeerGone},
		"is cut off in a header":          {cutOff(text("cut"), 1), gateway.ErrPeerGone},
		"is cut off before a payload":     {cutOff(text("cut"), 6), gateway.ErrPeerGone},
		"is cut off in a payload":         {cutOff(text("cut"), 8), gateway.ErrPeerGone},
		"is cut off between fragments":    {cutOff(more(text("cut")), 9), gateway.ErrPeerGone},
		"is cut off in a packed message":  {cutOff(rsv(4, text("cut")), 8), gateway.ErrPeerGone},
		"is cut off between packed parts": {cutOff(more(rsv(4, text("\x4a\x4c"))), 8), gateway.ErrPeerGone},
		"breaks a rule":                   {func(c *testkit.Client) { _ = c.Send(frame(3, "")); c.HalfClose() }, gateway.ErrProtocol},
		"sends no UTF-8":                  {func(c *testkit.Client) { _ = c.Send(text("\xff")); c.HalfClose() }, gateway.ErrNotUTF8},
		"sends too much":                  {func(c *testkit.Client) { _ = c.Send(text(strings.Repeat("x", 1<<16+1))); c.HalfClose() }, gateway.ErrFrameTooBig},
	}
	for name, leaving := range leavings {
		for _, count := range []int{1, 20} {
			t.Run(fmt.Sprintf("%s after %d", name, count), func(t *testing.T) {
				l := newLedger()
				n := startNode(t, setup{routes: []consumer.Route{l.route("/ws/l")}, options: gateway.Options{Compress: true}})
				c := testkit.Connect(t, n.dial, n.handshake("/ws/l", "ada", "acme", http.Header{"Sec-Websocket-Extensions": {"permessage-deflate"}}))
				frames, all := numbered(count)
				if err := c.Send(frames...); err != nil {
					t.Fatal(err)
				}
				leaving.leave(c)
				l.expect(t, all, leaving.cause)
				n.expectConnections(0)
			})
		}
	}
}

// TestAnswersComeBeforeTheClose: a client that sends its messages and the close frame in one piece
// reads all answers, then the answer to the close frame. One that only half-closes reads them, too.
func TestAnswersComeBeforeTheClose(t *testing.T) {
	n := startNode(t, setup{routes: []consumer.Route{echo().route("/ws/echo")}})
	frames, _ := numbered(20)
	read := func(t *testing.T, c *testkit.Client, code int) {
		t.Helper()
		for i := range frames {
			c.Expect(t, fmt.Sprintf(`"%d"`, i))
		}
		c.ExpectClose(t, code)
	}
	t.Run("closes", func(t *testing.T) {
		c := n.connect("/ws/echo", "ada", "acme")
		if err := c.Send(append(frames, testkit.CloseFrame(4321, "bye"))...); err != nil {
			t.Fatal(err)
		}
		read(t, c, 4321)
	})
	t.Run("half-closes", func(t *testing.T) {
		c := n.connect("/ws/echo", "ada", "acme")
		if err := c.Send(frames...); err != nil {
			t.Fatal(err)
		}
		c.HalfClose()
		read(t, c, 1001)
	})
}

// TestTwentyMessagesAndClose: 200 times a real client sends 20 messages and closes at once. None of
// the 4,000 is lost, none half done, and those of each connection are in order.
func TestTwentyMessagesAndClose(t *testing.T) {
	const clients, messages, atOnce = 200, 20, 16
	var mu sync.Mutex
	handled := make(map[string][]string) // by connection
	ended := 0
	h := &hooks{
		receive: func(ctx context.Context, c consumer.Conn, f event.RawMessage) error {
			err := c.Send(string(f.Data))
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			mu.Lock()
			defer mu.Unlock()
			handled[c.ID()] = append(handled[c.ID()], string(f.Data))
			return err
		},
		disconnect: func(context.Context, consumer.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			ended++
		},
	}
	n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/h")}})
	header := n.handshake("/ws/h", "ada", "acme", nil).Header
	var wg sync.WaitGroup
	dialer := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return n.dial(ctx) }}}
	slots := make(chan struct{}, atOnce)
	for range clients {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c, _, err := websocket.Dial(t.Context(), "ws://"+n.addr()+"/ws/h", &websocket.DialOptions{HTTPClient: dialer, HTTPHeader: header})
			if err != nil {
				t.Error(err)
				return
			}
			for i := range messages {
				if err := c.Write(t.Context(), websocket.MessageText, fmt.Append(nil, i)); err != nil {
					t.Error(err)
				}
			}
			_ = c.Close(websocket.StatusNormalClosure, "") // it may find an answer where it looks for the close frame
		})
	}
	wg.Wait()
	testkit.Eventually(t, "all connections over", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return ended == clients
	})
	_, want := numbered(messages)
	lost := 0
	for id, got := range handled {
		lost += messages - len(got)
		if text := strings.Join(got, " "); text != want {
			t.Errorf("connection %s: got %s", id, text)
		}
	}
	lost += (clients - len(handled)) * messages
	if lost > 0 {
		t.Errorf("lost %d of %d messages", lost, clients*messages)
	}
}

// TestResetWhileMessagesWait: a reset connection ends the connection, not the handling of what came
// before.
func TestResetWhileMessagesWait(t *testing.T) {
	l := newLedger()
	n := startNode(t, setup{routes: []consumer.Route{l.route("/ws/l")}})
	c := n.connect("/ws/l", "ada", "acme")
	frames, all := numbered(20)
	if err := c.Send(append([]testkit.Frame{text("wait")}, frames...)...); err != nil {
		t.Fatal(err)
	}
	n.expectMetric(21, "orgcast_frames_received_total")
	below := c.Conn
	if secure, ok := below.(*tls.Conn); ok {
		below = secure.NetConn()
	}
	tcp, ok := below.(*net.TCPConn)
	if !ok {
		t.Fatalf("got a %T, want TCP", below)
	}
	_ = tcp.SetLinger(0)
	_ = tcp.Close()
	n.expectLeaving(1)
	close(l.proceed)
	l.expect(t, "wait "+all, gateway.ErrPeerGone)
	n.expectConnections(0)
}

// expectLeaving waits until so many connections have been left by their browsers, but not yet
// ended.
func (n *node) expectLeaving(want int) {
	n.tb.Helper()
	testkit.Eventually(n.tb, "connections that browsers have left", func() bool { return n.gateway.Leaving() == want })
}

// leaveDuring connects, sends "wait" and "after" and closes, and returns when the gateway has seen
// it.
func (l *ledger) leaveDuring(n *node) *testkit.Client {
	n.tb.Helper()
	c := n.connect("/ws/l", "ada", "acme")
	if err := c.Send(text("wait"), text("after"), testkit.CloseFrame(1000, "")); err != nil {
		n.tb.Fatal(err)
	}
	n.expectLeaving(1)
	<-l.begun
	return c
}

// TestCloseDuringALongReceive: it goes on with a living context.
func TestCloseDuringALongReceive(t *testing.T) {
	l := newLedger()
	n := startNode(t, setup{routes: []consumer.Route{l.route("/ws/l")}, options: gateway.Options{HookTimeout: testkit.Patience, MaxPerUser: 1}})
	c := l.leaveDuring(n)
	if got := l.all(); got != "" {
		t.Errorf("handled: got %q, want nothing yet", got)
	}
	// What it holds counts until it is over.
	n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 429, "too_many_connections", true)
	if _, used := n.gateway.Books(); used == 0 {
		t.Error("bytes of messages that wait: got 0")
	}
	close(l.proceed)
	l.expect(t, "wait after", gateway.ErrPeerClosed)
	if frames, _ := c.ExpectClose(t, 1000); strings.Join(frames, " ") != `"wait" "after"` {
		t.Errorf("answers: got %q", frames)
	}
	n.expectConnections(0)
	if entries, used := n.gateway.Books(); entries != 0 || used != 0 {
		t.Errorf("books: got %d entries and %d bytes, want none", entries, used)
	}
}

// TestReceiveHasHookTimeoutAfterTheClose: a Receive that goes on and on holds a connection that its
// browser has left for HookTimeout, no longer. The browser has its close frame after CloseTimeout.
func TestReceiveHasHookTimeoutAfterTheClose(t *testing.T) {
	for name, last := range map[string]testkit.Frame{"closed": testkit.CloseFrame(1000, ""), "broken": frame(3, "")} {
		t.Run(name, func(t *testing.T) {
			o := gateway.Options{HookTimeout: 30 * time.Second, CloseTimeout: 5 * time.Second, PingInterval: 8 * time.Second, PongTimeout: 4 * time.Second}
			ledgerInBubble(t, o, func(l *ledger, n *node) {
				t := n.tb
				c := n.connect("/ws/l", "ada", "acme")
				p := follow(c, true)
				began := time.Now()
				if err := c.Send(text("wait"), text("after"), last); err != nil {
					t.Fatal(err)
				}
				cause := <-l.over
				expectBetween(t, "end", time.Since(began), 30*time.Second, 30*time.Second)
				<-p.stopped
				expectBetween(t, "close frame", p.closed, 5*time.Second, 5*time.Second)
				if got := l.all(); got != "" || !errors.Is(l.gaveUp, cause) {
					t.Errorf("handled: got %q, context ended with %v, connection with %v", got, l.gaveUp, cause)
				}
			})
		})
	}
}
