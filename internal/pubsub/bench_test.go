package pubsub_test

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// batchSink counts events, and signals when a batch is complete.
type batchSink struct {
	size, got int
	complete  chan struct{} // capacity 1: the benchmark waits for each batch
}

func (s *batchSink) Gap(event.Group) {}

func (s *batchSink) Deliver(*event.Event) {
	if s.got++; s.got == s.size {
		s.got = 0
		s.complete <- struct{}{}
	}
}

// BenchmarkReceive measures the way of an event from one pipelined PUBLISH through a real server to
// the Sink. Events come in batches, and other groups are subscribed too. ns/event is the figure to
// read.
func BenchmarkReceive(b *testing.B) {
	const batch, others = 1000, 1000
	client := redistest.NewClient(b, redistest.Start(b))
	for name, bus := range map[string]pubsubtest.Bus{
		"redis":  pubsub.NewRedis(client, newKeyspace(b), pubsub.Options{SubscribeTimeout: pubsubtest.Patience, LinkTimeout: calm, EventsPerSecond: -1}),
		"memory": pubsub.NewMemory(),
	} {
		b.Run(name, func(b *testing.B) {
			sink := &batchSink{size: batch, complete: make(chan struct{}, 1)}
			pubsubtest.Start(b, bus, sink)
			for i := range others {
				pubsubtest.Subscribe(b, bus, testkit.Group(b, "acme", strconv.Itoa(i)))
			}
			out := make([]event.Publication, batch)
			for i := range out {
				g := testkit.Group(b, "acme", strconv.Itoa(i%others))
				out[i] = event.Publication{Group: g, Payload: []byte(pubsubtest.Payload(g, "hello"))}
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, r := range bus.PublishAll(b.Context(), out) {
					if r.Err != nil {
						b.Fatal(r.Err)
					}
				}
				<-sink.complete
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/event")
		})
	}
}

// BenchmarkHop measures the time that Redis alone takes, from PUBLISH, 2,000 times a second, to a
// bare subscriber. p50-ns and p99-ns are the figures to read.
func BenchmarkHop(b *testing.B) {
	client := redistest.NewClient(b, redistest.Start(b))
	subscriber := client.Subscribe(b.Context(), "hop")
	defer subscriber.Close()
	if _, err := subscriber.Receive(b.Context()); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	tick := time.NewTicker(time.Second / 2000)
	defer tick.Stop()
	var wg sync.WaitGroup
	sent := make(chan time.Time, 1) // one at a time, because the loop waits for it
	for b.Loop() {
		<-tick.C
		wg.Go(func() {
			sent <- time.Now()
			_ = client.Publish(b.Context(), "hop", "x").Err() // an error shows in Receive
		})
		if _, err := subscriber.ReceiveMessage(b.Context()); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(<-sent))
	}
	wg.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}
