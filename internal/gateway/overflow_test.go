package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// TestDropOldest: a browser that stops reading loses the oldest events, and finds the news of it in
// their place if it knows such frames. A quick one beside it loses nothing, nor does another
// organization with equal group names, whose events reach nobody else.
func TestDropOldest(t *testing.T) { overEach(t, dropOldestOver) }

func dropOldestOver(t *testing.T, over via) {
	t.Helper()
	headers := map[string]http.Header{"with gap frames": v1()}
	if over == webSockets { // a stream always has them
		headers["without"] = nil
	}
	for name, header := range headers {
		t.Run(name, func(t *testing.T) {
			n := slowNode(t, over, gateway.Options{})
			slow := n.connectSlow("/ws/drop_oldest", "ada", "acme", header)
			quick, other := n.connect("/ws/drop_oldest", "alan", "acme"), n.connect("/ws/drop_oldest", "grace", "globex")
			got, whole, foreign := newReading("acme", header != nil), newReading("acme", false), newReading("globex", false)
			events := newNumbers(t)
			for i := 0; n.dropped("drop_oldest") < 50; i++ {
				if i == 10000 {
					t.Fatal("no event was dropped")
				}
				group := []string{"a", "b"}[i%2]
				n.hub.Deliver(events.event(mustGroup(t, "acme", group), fmt.Sprint("t", i), 8000))
				whole.until(t, quick, fmt.Sprint("t", i))
				n.hub.Deliver(events.event(mustGroup(t, "globex", group), fmt.Sprint("t", i), 10))
				foreign.until(t, other, fmt.Sprint("t", i))
			}
			n.hub.Deliver(events.event(mustGroup(t, "acme", "b"), "last_b", 0))
			n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "last", 0))
			whole.until(t, quick, "last")
			got.until(t, slow, "last")
			if whole.missing != 0 || foreign.missing != 0 {
				t.Errorf("events missing for those that read: %d and %d", whole.missing, foreign.missing)
			}
			if want := n.dropped("drop_oldest"); got.missing != want || got.count+got.missing != whole.count {
				t.Errorf("the slow one: got %d events without %d, want %d of %d left out", got.count, got.missing, want, whole.count)
			}
			if header != nil && got.gapped == 0 {
				t.Error("no gap frame")
			}
			n.expectConnections(3)
			n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "after", 0)) // all is well again
			before := got.missing
			if got.until(t, slow, "after"); got.missing != before {
				t.Error("an event is missing although the browser reads again")
			}
			n.expectMetric(0, "orgcast_queue_bytes")
			if _, used := n.gateway.Books(); used != 0 {
				t.Errorf("budget in use: got %d bytes, want 0", used)
			}
		})
	}
}

// TestDropOldestKeepsAnswers: what the server itself has to say is never dropped for events; a
// browser that asks and asks and does not read ends.
func TestDropOldestKeepsAnswers(t *testing.T) {
	var talk consumer.Conn
	h := &hooks{connect: func(ctx context.Context, c consumer.Conn) error {
		talk = c
		return c.Join(ctx, "a")
	}}
	route := h.route("/ws/talk")
	route.WhenFull = consumer.DropOldest
	const limit = 2000
	n := startNode(t, setup{routes: []consumer.Route{route}, pipe: testkit.Listen(), options: gateway.Options{QueueBytes: limit, WriteTimeout: time.Minute, CloseTimeout: testkit.Patience}})
	c := n.connect("/ws/talk", "ada", "acme")
	events := newNumbers(t)
	sent := 0
	for n.dropped("too_slow") == 0 {
		if sent++; sent > limit {
			t.Fatal("a queue without end")
		}
		n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "note", 300))
		if err := talk.Send(map[string]int{"answer": sent}); err != nil {
			t.Fatal(err)
		}
		if got := n.metric("orgcast_queue_bytes"); got > 2*limit {
			t.Fatalf("queue: got %v bytes, want at most what is written and as much again", got)
		}
	}
	if sent < limit/20 {
		t.Errorf("ended after %d answers, before events had given way", sent)
	}
	c.ExpectClose(t, 4413)
}

// TestLatest: of states that replace each other the browser finds, when it reads again, the newest
// of each group and type.
func TestLatest(t *testing.T) { overEach(t, latestOver) }

func latestOver(t *testing.T, over via) {
	t.Helper()
	n := slowNode(t, over, gateway.Options{})
	slow, quick := n.connectSlow("/ws/latest", "ada", "acme", v1()), n.connect("/ws/latest", "alan", "acme")
	got, whole := newReading("acme", false), newReading("acme", false)
	events := newNumbers(t)
	for i := 0; n.dropped("latest") < 50; i++ {
		if i == 10000 {
			t.Fatal("no event was replaced")
		}
		typ := fmt.Sprint("t", i%3)
		n.hub.Deliver(events.event(mustGroup(t, "acme", []string{"a", "b"}[i/3%2]), typ, 8000))
		whole.until(t, quick, typ)
	}
	n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "last", 0))
	whole.until(t, quick, "last")
	got.until(t, slow, "last")
	for key, want := range whole.newest {
		if got.newest[key] != want {
			t.Errorf("newest of %s: got %d, want %d", key, got.newest[key], want)
		}
	}
	if want := n.dropped("latest"); got.missing != want || got.count+got.missing != whole.count {
		t.Errorf("got %d events without %d, want %d of %d left out", got.count, got.missing, want, whole.count)
	}
	n.expectConnections(2)
}

// TestTooSlow: where nothing may give way, or giving way is not enough, the connection ends with
// 4413, after events without a hole.
func TestTooSlow(t *testing.T) { overEach(t, tooSlowOver) }

func tooSlowOver(t *testing.T, over via) {
	t.Helper()
	for name, typ := range map[string]string{"disconnect": "note", "latest": "each of its own type "} {
		t.Run(name, func(t *testing.T) {
			n := slowNode(t, over, gateway.Options{})
			slow, quick := n.connectSlow("/ws/"+name, "ada", "acme", nil), n.connect("/ws/"+name, "alan", "acme")
			whole := newReading("acme", false)
			events := newNumbers(t)
			for i := 0; n.dropped("too_slow") == 0; i++ {
				if i == 10000 {
					t.Fatal("the connection never ended")
				}
				each := typ
				if name == "latest" {
					each = fmt.Sprint("t", i)
				}
				n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), each, 8000))
				whole.until(t, quick, each)
			}
			frames, reason := slow.ExpectClose(t, 4413)
			got := newReading("acme", false)
			for _, text := range frames {
				if _, err := got.take(text); err != nil {
					t.Fatal(err)
				}
			}
			if got.missing != 0 || got.count == 0 || reason != "too slow" {
				t.Errorf("got %d events, %d left out, and the reason %q", got.count, got.missing, reason)
			}
			n.expectConnections(1)
			n.expectMetric(1, "orgcast_connections_closed_total", "code=4413")
			if whole.missing != 0 {
				t.Errorf("events missing for the quick one: %d", whole.missing)
			}
		})
	}
}
