package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/socket"
	"orgcast/internal/testkit"
)

// TestDrain: everybody is told to come back, within a time of their own, after what was queued for
// them; nobody new is let in; and in the end nothing is left.
func TestDrain(t *testing.T) { eachWay(t, drainOn) }

func drainOn(t *testing.T, on way) {
	t.Helper()
	n := startNode(t, on.setup())
	const count = 50
	clients := make([]*testkit.Client, count)
	for i := range clients {
		clients[i] = n.subscribe("ada", "acme", "all")
	}
	last := n.publish("acme", "all", "before the farewell")
	n.expectMetric(count, "orgcast_deliveries_total")
	const window = 200 * time.Millisecond
	drained := make(chan error, 1)
	go func() { drained <- n.gateway.Drain(t.Context(), window) }()
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			c.Expect(t, last)
			frames, reason := c.ExpectClose(t, 1012)
			var told struct {
				RetryAfterMS int64 `json:"retry_after_ms"`
			}
			if err := json.Unmarshal([]byte(reason), &told); err != nil || told.RetryAfterMS < 1 || reason != fmt.Sprintf(`{"retry_after_ms":%d}`, told.RetryAfterMS) {
				t.Errorf("reason: got %q, %v", reason, err)
			}
			if c.Streams() && c.Retry() != time.Duration(told.RetryAfterMS)*time.Millisecond {
				t.Errorf("retry: got %v, want what %s says", c.Retry(), reason)
			}
			if len(frames) > 0 {
				t.Errorf("got %q after the event", frames)
			}
		})
	}
	wg.Wait()
	if err := <-drained; err != nil {
		t.Errorf("Drain: got %v, want nil", err)
	}
	n.expectEmpty()
	n.expectRefused(t, n.handshake("/ws/events", "ada", "acme", nil), 503, "draining", true)
	n.expectMetric(count, "orgcast_connections_closed_total", "code=1012")
	if err := n.gateway.Drain(t.Context(), window); err != nil {
		t.Errorf("second Drain: got %v, want nil", err)
	}
}

// TestDrainGivesSlots: every client is told a moment of its own, these lie evenly over the time
// there is, and those of one organization lie far apart, so that nobody's users are all away at
// once.
func TestDrainGivesSlots(t *testing.T) { eachWay(t, drainGivesSlotsOn) }

func drainGivesSlotsOn(t *testing.T, on way) {
	t.Helper()
	n := startNode(t, on.setup())
	clients := make(map[string][]*testkit.Client)
	for i := range 40 {
		org := "globex"
		if i%10 == 0 {
			org = "acme" // a small one
		}
		clients[org] = append(clients[org], n.subscribe("ada", org, "all"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // all at once, so that the slots alone are seen
	const window = 400 * time.Second
	began := time.Now()
	if err := n.gateway.Drain(ctx, window); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatalf("Drain: got %v, want nil if all were gone at once, else that there was no time", err)
	}
	took := time.Since(began)
	var all []time.Duration
	for org, members := range clients {
		var own []time.Duration
		for _, c := range members {
			_, reason := c.ExpectClose(t, 1012)
			var told struct {
				RetryAfterMS int64 `json:"retry_after_ms"`
			}
			if err := json.Unmarshal([]byte(reason), &told); err != nil {
				t.Fatal(err)
			}
			own = append(own, time.Duration(told.RetryAfterMS)*time.Millisecond)
		}
		slices.Sort(own)
		for i := 1; i < len(own); i++ {
			if apart, even := own[i]-own[i-1], window/time.Duration(len(own)); apart < even/2 {
				t.Errorf("%s: two come back %v apart, evenly strewn it were %v", org, apart, even)
			}
		}
		all = append(all, own...)
	}
	slices.Sort(all)
	for i, at := range all {
		// What passed between the first farewell and the last makes a slot come sooner after it.
		if even := time.Second + window*time.Duration(i)/time.Duration(len(all)); at > even || at < even-took-time.Millisecond {
			t.Errorf("client %d comes back after %v, want %v", i, at, even)
		}
	}
}

func TestReturnWindow(t *testing.T) {
	for name, test := range map[string]struct {
		conns     int
		window    time.Duration
		perSecond float64
		want      time.Duration
	}{
		"no rate":          {5000, 10 * time.Second, 0, 10 * time.Second},
		"rate leaves room": {5000, 10 * time.Second, 2000, 10 * time.Second},
		"rate is short":    {5000, 10 * time.Second, 100, 100 * time.Second},
		"nobody":           {0, 10 * time.Second, 100, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if got := gateway.ReturnWindow(test.conns, test.window, test.perSecond); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestQueuedEventsBeforeFarewell: what was published before the drain arrives before its close
// frame.
func TestQueuedEventsBeforeFarewell(t *testing.T) { eachWay(t, queuedEventsBeforeFarewellOn) }

func queuedEventsBeforeFarewellOn(t *testing.T, on way) {
	t.Helper()
	h := &hooks{connect: joining("all")}
	n := startNode(t, setup{over: on.over, store: on.store, routes: []consumer.Route{h.route("/ws/h")}})
	c := n.connect("/ws/h", "ada", "acme")
	const count = 200
	for i := range count {
		n.publish("acme", "all", fmt.Sprint(i))
	}
	n.expectMetric(count, "orgcast_deliveries_total")
	if err := n.drainSoon(); err != nil {
		t.Fatal(err)
	}
	frames, _ := c.ExpectClose(t, 1012)
	if len(frames) != count {
		t.Errorf("got %d events before the close frame, want %d", len(frames), count)
	}
}

// TestSlipsInDuringDrain: a connection that opens while Drain looks, and is not told before the
// process ends, is told to come back too: 1001 would have the browser think that the page was left.
func TestSlipsInDuringDrain(t *testing.T) {
	h := &hooks{}
	begun, proceed := make(chan struct{}), make(chan struct{})
	h.connect = func(context.Context, consumer.Conn) error {
		close(begun)
		<-proceed
		return nil
	}
	n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/h")}})
	writing, told := make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() { // the write of the welcome, between the moment when Drain could see it and its own look
		close(writing)
		<-told
	})
	f := newFakeTransport(func() socket.Outcome { first(); return socket.SentAll })
	n.gateway.UpgradeTo(f)
	r := n.fakeHandshake("/ws/h")
	r.Header.Set("Sec-Websocket-Protocol", consumer.ProtocolV1)
	go n.gateway.ServeHTTP(httptest.NewRecorder(), r)
	<-begun
	if err := n.gateway.Drain(t.Context(), 0); err != nil {
		t.Errorf("Drain: got %v, want nil", err)
	}
	close(proceed)
	<-writing
	stopped := make(chan struct{})
	go func() {
		n.stop()
		close(stopped)
	}()
	<-f.ends // the end of the context has reached it
	close(told)
	<-stopped
	if got := f.payloads(); len(got) != 2 || got[1] != "close 1012" {
		t.Errorf("the browser saw %q, want the welcome and close 1012", got)
	}
}

// drainSoon begins a drain and returns when all have been told.
func (n *node) drainSoon() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // all at once; nobody is waited for
	if err := n.gateway.Drain(ctx, 0); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// TestDrainSilentPeers: peers that neither read nor answer are all waited for at the same time, so
// a drain takes its window and CloseTimeout, however many they are.
func TestDrainSilentPeers(t *testing.T) { overEach(t, drainSilentPeersOver) }

func drainSilentPeersOver(t *testing.T, over via) {
	t.Helper()
	const window, closeTimeout = 10 * time.Second, 5 * time.Second
	inBubbleOver(t, over, gateway.Options{CloseTimeout: closeTimeout}, func(n *node) {
		t := n.tb
		for range 100 {
			n.subscribe("ada", "acme", "all") // and is never read again
		}
		start := time.Now()
		if err := n.gateway.Drain(context.Background(), window); err != nil {
			t.Errorf("Drain: got %v, want nil", err)
		}
		expectBetween(t, "Drain", time.Since(start), window, window+closeTimeout)
		n.expectEmpty()
	})
}

// TestEndOfContext: when the process ends without a drain, everything ends with it.
func TestEndOfContext(t *testing.T) { eachWay(t, endOfContextOn) }

func endOfContextOn(t *testing.T, on way) {
	t.Helper()
	n := startNode(t, setup{over: on.over, store: on.store, options: gateway.Options{CloseTimeout: 500 * time.Millisecond}})
	c := n.subscribe("ada", "acme", "all")
	n.subscribe("grace", "globex", "all") // silent
	done := make(chan struct{})
	go func() {
		n.stop()
		close(done)
	}()
	c.ExpectClose(t, 1001)
	<-done
	n.expectEmpty()
}

// TestSlowReader: one of 200 never reads. The others get everything; the slow one is ended with
// 4413 and counted. When it reads again it finds what was written before, whole frames and at most
// one cut short, and then the end of the connection: whether the close frame still got through
// depends on whether the socket had room for it, so a page must be ready for 1006 as well.
func TestSlowReader(t *testing.T) { overEach(t, slowReaderOver) }

func slowReaderOver(t *testing.T, over via) {
	t.Helper()
	const count, events, size = 200, 400, 32 << 10
	// A reader can have an event before its node has taken note of the write, so there is room for the next one, too.
	n := startNode(t, setup{over: over, options: gateway.Options{QueueBytes: 4 * size, CloseTimeout: 200 * time.Millisecond, WriteTimeout: testkit.Patience}})
	slow := over.subscribe(t, asAsked(narrow(n.addr())), http.Header{"Origin": {origin}, "Cookie": {n.cookie("alan", "acme")}}, "all")
	fast := make([]*testkit.Client, count-1)
	for i := range fast {
		fast[i] = n.subscribe("ada", "acme", "all")
	}
	padding := string(make([]byte, 0, size))
	for len(padding) < size {
		padding += "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	}
	// Readers take a step together: an event is published when all have the one before, so that
	// only who reads nothing can be slow.
	got := make(chan error, len(fast))
	for i := range events {
		want := n.publish("acme", "all", fmt.Sprint(i, " ", padding))
		for _, c := range fast {
			go func() {
				text, err := c.Next()
				if err == nil && text != want {
					err = fmt.Errorf("got %.60s, want %.60s", text, want)
				}
				got <- err
			}()
		}
		for range fast {
			if err := <-got; err != nil {
				t.Fatalf("event %d: %v", i, err)
			}
		}
		if n.metric("orgcast_connections_closed_total", "code=4413") == 1 {
			break
		}
	}
	n.expectMetric(1, "orgcast_connections_closed_total", "code=4413")
	n.expectConnections(len(fast))
	if got := n.metric("orgcast_deliveries_dropped_total", "reason=too_slow"); got < 1 {
		t.Errorf("drops: got %v, want 1 or more", got)
	}
	want := n.publish("acme", "all", "still here")
	for _, c := range fast {
		c.Expect(t, want)
	}
	for {
		_, err := slow.Next()
		if closed := new(testkit.ClosedError); errors.As(err, &closed) {
			if closed.Code != 4413 {
				t.Errorf("close: got %d, want 4413", closed.Code)
			}
			t.Log("the slow reader found the close frame")
			return
		}
		if err != nil {
			t.Logf("the slow reader found a dead socket: %v", err)
			if !gone(err) {
				t.Errorf("got %v, want the end", err)
			}
			return
		}
	}
}

// TestSlowReaderReadsAgain: one that was given up for its slowness and reads again before
// CloseTimeout is over finds whole frames in order and then the close frame 4413.
func TestSlowReaderReadsAgain(t *testing.T) { overEach(t, slowReaderReadsAgainOver) }

func slowReaderReadsAgainOver(t *testing.T, over via) {
	t.Helper()
	n := startNode(t, setup{over: over, options: gateway.Options{QueueBytes: 64 << 10, CloseTimeout: testkit.Patience, WriteTimeout: testkit.Patience}})
	slow := n.subscribe("alan", "acme", "all")
	padding := strings.Repeat("0123456789abcdef", 2<<10)
	var sent []string
	testkit.Eventually(t, "the queue is full", func() bool {
		sent = append(sent, n.publish("acme", "all", fmt.Sprint(len(sent), " ", padding)))
		return n.metric("orgcast_deliveries_dropped_total", "reason=too_slow") > 0
	})
	frames, reason := slow.ExpectClose(t, 4413)
	if reason != "too slow" {
		t.Errorf("reason: got %q", reason)
	}
	if len(frames) == 0 || len(frames) >= len(sent) {
		t.Errorf("got %d of %d events, want some and not all", len(frames), len(sent))
	}
	for i, f := range frames {
		if f != sent[i] {
			t.Fatalf("event %d: got %.60s, want %.60s", i, f, sent[i])
		}
	}
}
