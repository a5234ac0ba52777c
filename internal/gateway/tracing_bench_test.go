package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/tracing"
)

// BenchmarkTracing compares a node that samples 1 % of its events, and sends their spans to a
// collector in this process, with one where tracing is off, in turn: on/off is the ratio of their
// times, with the decoding.
func BenchmarkTracing(b *testing.B) {
	for name, members := range map[string]int{"members=1": 1, "members=4": 4, "members=1000": 1000} {
		b.Run(name, func(b *testing.B) {
			collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			b.Cleanup(collector.Close)
			options, err := tracing.FromEnvironment(func(name string) string {
				return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}[name]
			})
			if err != nil {
				b.Fatal(err)
			}
			on := tracing.New(options, tracing.Parts{})
			b.Cleanup(func() { _ = on.Close(context.Background()) }) // what it has not sent does not matter here
			nodes := []*fanOut{startFanOut(b, members, false), startFanOut(b, members, false)}
			tracers := []*tracing.Tracer{on, nil}
			var took [2]time.Duration
			for i := range b.N {
				payload := "~traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0" + string("10"[min(i%100, 1)]) +
					` {"type":"note","organization_id":"acme","text":"hello"}`
				for _, which := range []int{i % 2, 1 - i%2} { // neither is always the first
					took[which] += nodes[which].deliverTraced(b, payload, tracers[which])
				}
			}
			b.ReportMetric(took[0].Seconds()/took[1].Seconds(), "on/off")
			b.ReportMetric(float64(took[1].Nanoseconds())/float64(b.N*members), "off-ns/delivery")
		})
	}
}

// deliverTraced decodes and delivers a message as the bus does, and returns how long that took.
func (f *fanOut) deliverTraced(b *testing.B, payload string, t *tracing.Tracer) time.Duration {
	b.Helper()
	began := time.Now()
	head, object := event.CutHead(payload)
	e, err := event.DecodeObject(mustGroup(b, "acme", "all"), head, object, 1000, began)
	if err != nil {
		b.Fatal(err)
	}
	t.Watch(e, head.Trace)
	f.hub.Deliver(e)
	for range f.members {
		<-f.arrived
	}
	return time.Since(began)
}
