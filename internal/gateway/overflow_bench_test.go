package gateway_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/hub"
	"orgcast/internal/testkit"
)

// fullQueue is a connection whose browser does not read and whose queue of QueueBytes is full of events
// of some 45 bytes.
type fullQueue struct {
	member hub.Member
	next   []*event.Event // to be offered in turn
	offers int
}

// offer offers one more event.
func (q *fullQueue) offer() {
	q.member.Offer(q.next[q.offers%len(q.next)].Alone())
	q.offers++
}

// fillQueue makes one. The events have so many types, in turn.
func fillQueue(tb testing.TB, policy consumer.WhenFull, queueBytes, types int) *fullQueue {
	tb.Helper()
	q := &fullQueue{}
	h := &hooks{connect: func(_ context.Context, c consumer.Conn) error { q.member, _ = c.(hub.Member); return nil }}
	route := h.route("/ws/full")
	route.WhenFull = policy
	n := startNode(tb, setup{routes: []consumer.Route{route}, options: gateway.Options{
		QueueBytes: queueBytes, WriteTimeout: time.Hour, CloseTimeout: 100 * time.Millisecond,
	}})
	tb.Cleanup(n.stop)
	testkit.Connect(tb, narrow(n.addr()), n.handshake("/ws/full", "ada", "acme", v1()))
	g := mustGroup(tb, "acme", "all")
	for i := range types {
		e, err := event.Decode(g, fmt.Sprintf(`{"type":"t%d","organization_id":"acme","n":1}`, i), 1000, time.Now())
		if err != nil {
			tb.Fatal(err)
		}
		q.next = append(q.next, e)
	}
	// What the kernel takes leaves first: large events fill its buffers.
	large := newNumbers(tb)
	for n.metric("orgcast_queue_bytes") == 0 {
		if e := large.event(g, "large", 200<<10); q.member.Offer(e.Alone()) {
			q.member.Flush()
		}
	}
	full := map[consumer.WhenFull]string{consumer.DropOldest: "drop_oldest", consumer.Latest: "latest"}[policy]
	for n.dropped(full) < types {
		q.offer()
	}
	return q
}

// BenchmarkFullQueue is one more event for a queue that is full.
func BenchmarkFullQueue(b *testing.B) {
	for name, test := range map[string]struct {
		policy consumer.WhenFull
		types  int
	}{
		"drop_oldest":          {consumer.DropOldest, 1},
		"latest, one type":     {consumer.Latest, 1},
		"latest, 20,000 types": {consumer.Latest, 20000},
	} {
		b.Run(name, func(b *testing.B) {
			q := fillQueue(b, test.policy, 1<<20, test.types)
			b.ReportAllocs()
			for b.Loop() {
				q.offer()
			}
		})
	}
}

// TestFullQueueCostsNoMoreThanAShortOne: what gives way for one more event is found without looking at
// everything that waits, since the receiver of all organizations may be the one that offers it.
func TestFullQueueCostsNoMoreThanAShortOne(t *testing.T) {
	const offers, most = 2000, 2 << 10
	for name, test := range map[string]struct {
		policy consumer.WhenFull
		types  int
	}{
		"drop_oldest": {consumer.DropOldest, 1}, "latest, one type": {consumer.Latest, 1}, "latest, many types": {consumer.Latest, 5200},
	} {
		t.Run(name, func(t *testing.T) {
			q := fillQueue(t, test.policy, 256<<10, test.types)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range offers {
				q.offer()
			}
			runtime.ReadMemStats(&after)
			if got := (after.TotalAlloc - before.TotalAlloc) / offers; got > most {
				t.Errorf("allocated for each event: got %d bytes, want at most %d", got, most)
			}
		})
	}
}
