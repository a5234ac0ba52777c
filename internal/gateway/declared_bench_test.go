package gateway_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/routefile"
)

// BenchmarkDeclaredDelivery delivers the same event in turn to the connections of a built-in route and of a declared one, and
// reports the ratio of the median times. The built-in consumer Crawl sees no events, as a declared route without events:,
// and Research sees them, as one with events:.
func BenchmarkDeclaredDelivery(b *testing.B) {
	research := consumer.JSON(consumer.Research{})
	crawl := consumer.JSON(consumer.Crawl{})
	always := func(c consumer.OrganizationAwareConsumer) func() consumer.OrganizationAwareConsumer {
		return func() consumer.OrganizationAwareConsumer { return c }
	}
	for name, test := range map[string]struct {
		builtIn consumer.Route
		events  string
	}{
		"as it is": {consumer.Route{Pattern: "/ws/built-in/{id:int}/", New: always(crawl)}, ""},
		"shown":    {consumer.Route{Pattern: "/ws/built-in/{id:int}/", New: always(research)}, "    events: {note: [text]}\n"},
	} {
		b.Run(name, func(b *testing.B) { compareDelivery(b, test.builtIn, test.events) })
	}
}

func compareDelivery(b *testing.B, builtIn consumer.Route, events string) {
	b.Helper()
	declared, err := routefile.Parse([]byte("version: 1\nroutes:\n  - path: /ws/declared/{id:int}/\n    who: member\n    groups: [\"declared_{id}\"]\n" + events))
	if err != nil {
		b.Fatal(err)
	}
	const members = 500
	n := startNode(b, setup{
		routes:  []consumer.Route{builtIn, declared[0].Route(consumer.DeclaredServices{})},
		options: gateway.Options{CloseTimeout: 100 * time.Millisecond},
	})
	prefix := "crawl_"
	if events != "" {
		prefix = "research_"
	}
	groups := []*audience{n.audience(b, "/ws/built-in/7/", prefix+"7", members), n.audience(b, "/ws/declared/7/", "declared_7", members)}
	b.ResetTimer()
	turn := 0
	for b.Loop() {
		for i := range groups { // each begins as often
			groups[(i+turn)%len(groups)].deliver(n)
		}
		turn++
	}
	b.ReportMetric(groups[0].median(), "ns/built-in")
	b.ReportMetric(groups[1].median(), "ns/declared")
	b.ReportMetric(groups[1].median()/groups[0].median(), "ratio")
}

// audience is a group whose clients read on the same machine.
type audience struct {
	event   *event.Event
	arrived chan struct{} // one for each member and event
	members int
	took    []time.Duration
}

func (n *node) audience(b *testing.B, path, group string, members int) *audience {
	b.Helper()
	e, err := event.Decode(mustGroup(b, "acme", group), `{"type":"note","organization_id":"acme","text":"hello"}`, 1000, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	a := &audience{event: e, arrived: make(chan struct{}, members), members: members}
	var readers sync.WaitGroup
	for range members {
		c := n.connect(path, "ada", "acme")
		_ = c.SetReadDeadline(time.Time{}) // a dead socket shows at the read
		readers.Go(func() {
			for {
				if _, err := c.Next(); err != nil {
					return
				}
				a.arrived <- struct{}{}
			}
		})
	}
	b.Cleanup(readers.Wait)
	b.Cleanup(n.stop)
	a.drain(n)
	return a
}

// drain lets first frames pass, if there are any, and warms everything up.
func (a *audience) drain(n *node) {
	for range 3 {
		n.hub.Deliver(a.event)
	}
	for quiet := false; !quiet; {
		select {
		case <-a.arrived:
		case <-time.After(time.Second):
			quiet = true
		}
	}
}

// deliver delivers the event to all, and notes the time until the last one has it.
func (a *audience) deliver(n *node) {
	begun := time.Now()
	n.hub.Deliver(a.event)
	for range a.members {
		<-a.arrived
	}
	a.took = append(a.took, time.Since(begun))
}

// median returns the median time for one delivery.
func (a *audience) median() float64 {
	slices.Sort(a.took)
	return float64(a.took[len(a.took)/2].Nanoseconds()) / float64(a.members)
}
