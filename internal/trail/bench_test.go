package trail_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/testkit"
	"orgcast/internal/trail"
)

// BenchmarkPassed is the cost of an event that everyone gets, without the deliveries.
func BenchmarkPassed(b *testing.B) {
	tr := trail.New(trail.Options{BytesPerOrganization: trail.DefaultBytesPerOrganization, Bytes: trail.DefaultBytes})
	events := recorded(b, testkit.Group(b, "acme", "room.1"), event.NewPosition(1, 1), 1)
	other := recorded(b, testkit.Group(b, "acme", "room.2"), event.NewPosition(1, 1), 1)
	b.ReportAllocs()
	for b.Loop() { // two groups in turn, so that nothing is merged
		tr.Passed(events, 4)
		tr.Passed(other, 4)
	}
}

// BenchmarkTally is the cost of one delivery.
func BenchmarkTally(b *testing.B) {
	tr := trail.New(trail.Options{BytesPerOrganization: trail.DefaultBytesPerOrganization, Bytes: trail.DefaultBytes})
	events := recorded(b, testkit.Group(b, "acme", "room.1"), event.NewPosition(1, 1), 1)
	tr.Passed(events, 4)
	b.ReportAllocs()
	for b.Loop() {
		events[0].Alone().Tally().Wrote(1, time.Millisecond)
	}
}

// BenchmarkMemory is what 1,000 organizations take whose trails are full, and what an open connection
// in two groups takes.
func BenchmarkMemory(b *testing.B) {
	const orgs, conns = 1000, 10000
	for b.Loop() {
		groups, events := make([]event.Group, orgs), make([][]*event.Event, orgs)
		for i := range groups {
			groups[i] = testkit.Group(b, fmt.Sprint("org", i), "room.1")
			events[i] = recorded(b, groups[i], event.NewPosition(1, 1), 1)
		}
		c := newClock()
		before := heap()
		tr := newTrail(c, trail.DefaultBytesPerOrganization, trail.DefaultBytes)
		for range 1000 {
			c.now = c.now.Add(2 * time.Second)
			for i := range groups {
				tr.Passed(events[i], 1)
			}
		}
		b.ReportMetric(float64(heap()-before)/(1<<20), "heap-MiB")
		b.ReportMetric(float64(tr.Used())/(1<<20), "said-MiB")
		ids := make([]string, conns)
		for i := range ids {
			ids[i] = fmt.Sprintf("%026d", i)
		}
		before = heap()
		for i := range conns {
			connect(b, tr, "acme", "ada", ids[i], "room.1", "room.2")
		}
		b.ReportMetric(float64(heap()-before)/conns, "B/connection")
		runtime.KeepAlive(events)
		runtime.KeepAlive(tr)
	}
}
