package hub_test

import (
	"fmt"
	"testing"

	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/testkit"
)

// idle is a member that accepts everything and does nothing.
type idle struct{ _ int } // not empty, because members are compared

func (*idle) Offer(*event.Burst) bool { return true }
func (*idle) Flush()                  {}
func (*idle) OfferGap(event.Group)    {}

// BenchmarkDeliver measures the hub's part of a delivery: finding the members, in turn with other
// organizations, and offering the event to each.
func BenchmarkDeliver(b *testing.B) {
	for _, members := range []int{1, 30, 1000} {
		b.Run(fmt.Sprint(members, "members"), func(b *testing.B) {
			h := hub.New(newBus(), hub.Options{})
			g := testkit.Group(b, "acme", "all")
			for range members {
				if err := h.Join(b.Context(), g, new(idle)); err != nil {
					b.Fatal(err)
				}
			}
			e := numbered(g, 1)
			b.ReportAllocs()
			for b.Loop() {
				h.Deliver(e)
				h.Wait()
			}
		})
	}
}

// BenchmarkDeliverBurst delivers a thousand events at once to a large group.
func BenchmarkDeliverBurst(b *testing.B) {
	const members, events = 1000, 1000
	h := hub.New(newBus(), hub.Options{})
	g := testkit.Group(b, "acme", "all")
	for range members {
		if err := h.Join(b.Context(), g, new(idle)); err != nil {
			b.Fatal(err)
		}
	}
	e := numbered(g, 1)
	b.ReportAllocs()
	for b.Loop() {
		for range events {
			h.Deliver(e)
		}
		h.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*events), "ns/event")
}

// BenchmarkLeave lets one member of a large group leave and come back, as during and after a drain.
func BenchmarkLeave(b *testing.B) {
	for _, members := range []int{10, 100, 10_000} {
		b.Run(fmt.Sprint(members, "members"), func(b *testing.B) {
			h := hub.New(newBus(), hub.Options{})
			g := testkit.Group(b, "acme", "all")
			all := make([]*idle, members)
			for i := range all {
				all[i] = new(idle)
				if err := h.Join(b.Context(), g, all[i]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				m := all[i*7919%members]
				h.Leave(g, m)
				if err := h.Join(b.Context(), g, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
