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

// fullQueue is a connection whose browser does not read and whose queue of QueueBytes is full of
// short events.
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

// fillQueue makes one. The events have one type, or else, in turn, as many types as leave an eighth
// of the queue to events that newer ones have superseded: without any of these, the connection
// would end.
func fillQueue(tb testing.TB, policy consumer.WhenFull, queueBytes int, oneType bool) *fullQueue {
	tb.Helper()
	q := &fullQueue{}
	h := &hooks{connect: func(_ context.Context, c consumer.Conn) error { q.member, _ = c.(hub.Member); return nil }}
	route := h.route("/ws/full")
	route.WhenFull = policy
	n := startNode(tb, setup{routes: []consumer.Route{route}, options: gateway.Options{
		QueueBytes: queueBytes, WriteTimeout: time.Hour, CloseTimeout: 100 * time.Millisecond,
	}})
	tb.Cleanup(n.stop)
	testkit.Connect(tb, asAsked(narrow(n.addr())), n.handshake("/ws/full", "ada", "acme", v1()))
	g := mustGroup(tb, "acme", "all")
	for size := 0; size < queueBytes*7/8; {
		e, err := event.Decode(g, fmt.Sprintf(`{"type":"t%d","organization_id":"acme","n":1}`, len(q.next)), 1000, time.Now())
		if err != nil {
			tb.Fatal(err)
		}
		q.next = append(q.next, e)
		size += frameSize(e, event.Enveloped)
		if oneType {
			break
		}
	}
	// What the kernel takes leaves first: large events fill its buffers.
	large := newNumbers(tb)
	for n.metric("orgcast_queue_bytes") == 0 {
		if e := large.event(g, "large", 200<<10); q.member.Offer(e.Alone()) {
			q.member.Flush()
		}
	}
	full := map[consumer.WhenFull]string{consumer.DropOldest: "drop_oldest", consumer.Latest: "latest"}[policy]
	for n.dropped(full) < len(q.next) {
		for range max(100, len(q.next)) {
			q.offer()
		}
		if got := n.metric("orgcast_connections"); got != 1 {
			tb.Fatal("the connection has ended")
		}
	}
	return q
}

// BenchmarkFullQueue is one more event for a queue that is full.
func BenchmarkFullQueue(b *testing.B) {
	for name, test := range map[string]struct {
		policy consumer.WhenFull
		one    bool // type
	}{
		"drop_oldest":        {consumer.DropOldest, true},
		"latest, one type":   {consumer.Latest, true},
		"latest, many types": {consumer.Latest, false},
	} {
		b.Run(name, func(b *testing.B) {
			q := fillQueue(b, test.policy, 1<<20, test.one)
			b.ReportAllocs()
			for b.Loop() {
				q.offer()
			}
		})
	}
}

// TestFullQueueCostsNoMoreThanAShortOne: what gives way for one more event is found without looking
// at everything that waits, since the receiver of all organizations may be the one that offers it.
func TestFullQueueCostsNoMoreThanAShortOne(t *testing.T) {
	const offers, most = 2000, 2 << 10
	for name, test := range map[string]struct {
		policy consumer.WhenFull
		one    bool // type
	}{
		"drop_oldest": {consumer.DropOldest, true}, "latest, one type": {consumer.Latest, true}, "latest, many types": {consumer.Latest, false},
	} {
		t.Run(name, func(t *testing.T) {
			q := fillQueue(t, test.policy, 256<<10, test.one)
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
