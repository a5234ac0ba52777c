package gateway_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/hub"
)

// BenchmarkOffer is one event on its way from one connection's queue to its socket.
func BenchmarkOffer(b *testing.B) {
	for _, size := range []int{100, 10000} {
		b.Run(fmt.Sprint(size, "bytes"), func(b *testing.B) {
			var member hub.Member
			h := &hooks{connect: func(_ context.Context, c consumer.Conn) error { member, _ = c.(hub.Member); return nil }}
			n := startNode(b, setup{routes: []consumer.Route{h.route("/ws/one")}, options: gateway.Options{CloseTimeout: 100 * time.Millisecond}})
			c := n.connect("/ws/one", "ada", "acme")
			_ = c.SetReadDeadline(time.Time{}) // a dead socket shows at the read
			e := newNumbers(b).event(mustGroup(b, "acme", "all"), "note", size)
			buf := make([]byte, frameSize(e, event.Plain))
			b.ReportAllocs()
			for b.Loop() {
				if member.Offer(e.Alone()) {
					member.Flush()
				}
				if _, err := io.ReadFull(c, buf); err != nil { // in step, so that the socket always has room
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDeliver is one event on its way to the sockets of a group, whose clients read on the
// same machine.
func BenchmarkDeliver(b *testing.B) {
	const members = 1000
	n := startNode(b, setup{options: gateway.Options{CloseTimeout: 100 * time.Millisecond}})
	g := mustGroup(b, "acme", "all")
	e, err := event.Decode(g, `{"type":"note","organization_id":"acme","text":"hello"}`, 1000, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	arrived := make(chan struct{}, members) // one for each member and event
	var readers sync.WaitGroup
	for range members {
		c := n.subscribe("ada", "acme", "all")
		_ = c.SetReadDeadline(time.Time{}) // a dead socket shows at the read
		readers.Go(func() {
			buf := make([]byte, frameSize(e, event.Plain))
			for {
				if _, err := io.ReadFull(c, buf); err != nil {
					return
				}
				arrived <- struct{}{}
			}
		})
	}
	b.Cleanup(readers.Wait)
	b.Cleanup(n.stop)
	b.ReportAllocs()
	for b.Loop() {
		n.hub.Deliver(e)
		for range members {
			<-arrived
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*members), "ns/delivery")
}

// BenchmarkMessage is one message of a browser that was idle before, and its answer.
func BenchmarkMessage(b *testing.B) {
	n := startNode(b, setup{options: gateway.Options{CloseTimeout: 100 * time.Millisecond, FramesPerSecond: 1e9}})
	c := n.connect("/ws/events", "ada", "acme")
	b.ReportAllocs()
	for b.Loop() {
		if err := c.SendText(`{"type":"ping"}`); err != nil {
			b.Fatal(err)
		}
		if got, err := c.Next(); err != nil || got != `{"type":"pong"}` {
			b.Fatal("answer: ", got, err)
		}
	}
}
