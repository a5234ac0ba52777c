package gateway_test

import (
	"io"
	"sync"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/gateway"
)

// fanOut is a node with members of a group whose clients read.
type fanOut struct {
	*node

	members int
	event   *event.Event
	arrived chan struct{} // one for each member and event
}

func startFanOut(b *testing.B, members int, forgetful bool) *fanOut {
	b.Helper()
	f := &fanOut{node: startNode(b, setup{forgetful: forgetful, options: gateway.Options{CloseTimeout: 100 * time.Millisecond}}), members: members, arrived: make(chan struct{}, members)}
	f.next(b)
	var readers sync.WaitGroup
	size := frameSize(f.event, event.Plain)
	for range members {
		c := f.subscribe("ada", "acme", "all")
		_ = c.SetReadDeadline(time.Time{}) // a dead socket shows at the read
		readers.Go(func() {
			buf := make([]byte, size)
			for {
				if _, err := io.ReadFull(c, buf); err != nil {
					return
				}
				f.arrived <- struct{}{}
			}
		})
	}
	b.Cleanup(readers.Wait)
	b.Cleanup(f.stop)
	return f
}

func (f *fanOut) next(b *testing.B) {
	b.Helper()
	var err error
	if f.event, err = event.Decode(mustGroup(b, "acme", "all"), `{"type":"note","organization_id":"acme","text":"hello"}`, 1000, time.Now()); err != nil {
		b.Fatal(err)
	}
}

// deliver delivers one event to all members, and returns how long that took.
func (f *fanOut) deliver(b *testing.B) time.Duration {
	b.Helper()
	f.next(b)
	began := time.Now()
	f.hub.Deliver(f.event)
	for range f.members {
		<-f.arrived
	}
	return time.Since(began)
}

// BenchmarkTrail compares nodes with and without a trail, in turn: remembered/forgotten is the ratio
// of their times.
func BenchmarkTrail(b *testing.B) {
	for name, members := range map[string]int{"members=4": 4, "members=1000": 1000} {
		b.Run(name, func(b *testing.B) {
			with, without := startFanOut(b, members, false), startFanOut(b, members, true)
			var took [2]time.Duration
			for i := range b.N {
				for _, which := range []int{i % 2, 1 - i%2} { // neither is always the first
					f := []*fanOut{with, without}[which]
					took[which] += f.deliver(b)
				}
			}
			b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "remembered/forgotten")
			b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N*members), "ns/delivery")
			b.ReportMetric(float64(took[1].Nanoseconds())/float64(b.N*members), "forgotten-ns/delivery")
		})
	}
}
