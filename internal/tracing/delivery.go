package tracing

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"orgcast/internal/event"
)

const (
	// maxOpen bounds the deliveries under way that have spans.
	maxOpen = 4096
	// deliveryPatience is how long a span waits for the last browser. It is longer than the gateway
	// waits for a browser by default.
	deliveryPatience = 30 * time.Second
)

// deliveries are the spans of events that are on their way to browsers.
type deliveries struct {
	metrics *metrics

	mu   sync.Mutex
	open map[*delivery]*time.Timer // nil after close
}

func newDeliveries(m *metrics) *deliveries {
	return &deliveries{metrics: m, open: make(map[*delivery]*time.Timer)}
}

// add registers a delivery, unless too many are under way.
func (ds *deliveries) add(d *delivery) bool {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.open == nil || len(ds.open) >= maxOpen {
		return false
	}
	ds.open[d] = time.AfterFunc(deliveryPatience, func() { d.end("") })
	return true
}

// remove forgets a delivery.
func (ds *deliveries) remove(d *delivery) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if timer := ds.open[d]; timer != nil {
		timer.Stop()
		delete(ds.open, d)
	}
}

// close ends all deliveries with what is known of them.
func (ds *deliveries) close() {
	ds.mu.Lock()
	open := ds.open
	ds.open = nil
	ds.mu.Unlock()
	for d, timer := range open {
		timer.Stop()
		d.end("")
	}
}

// delivery is the span of one event on this node: from its arrival until it was written to, or lost
// by, every browser that it was offered to.
type delivery struct {
	of     *deliveries
	tracer trace.Tracer
	ctx    context.Context //nolint:containedctx // the parent of the writes
	span   trace.Span

	mu            sync.Mutex
	offered       int // -1 until it is known
	written, lost int
	first, last   time.Time // of the writes
	ended         bool
}

var _ event.Watcher = (*delivery)(nil)

// Watch gives an event that came with a sampled trace a span, and a watcher that ends it. It does
// nothing for other events, and takes no lock for them.
func (t *Tracer) Watch(e *event.Event, parent event.Trace) {
	if t == nil || !parent.Sampled {
		return
	}
	ctx, span := t.tracer.Start(withTrace(context.Background(), parent), "deliver", trace.WithSpanKind(Consumer), trace.WithTimestamp(e.Received()))
	if !span.IsRecording() { // the sampler decides otherwise
		return
	}
	d := &delivery{of: t.deliveries, tracer: t.tracer, ctx: ctx, span: span, offered: -1}
	if !t.deliveries.add(d) {
		t.deliveries.metrics.drop(dropOpen, 1)
		return // the span is never ended, so it is never sent
	}
	span.SetAttributes(messaging(e.Group())...)
	if p := e.Position(); !p.IsZero() {
		span.SetAttributes(attribute.String("messaging.message.id", p.String()))
	}
	e.Watch(d)
}

// messaging returns the attributes that name a group.
func messaging(g event.Group) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("messaging.system", "orgcast"), attribute.String("organization_id", g.Organization().String()), attribute.String("group", g.Name()),
	}
}

// Offered implements event.Watcher.
func (d *delivery) Offered(members int) {
	d.mu.Lock()
	d.offered = members
	d.mu.Unlock()
	d.endIfDone()
}

// Wrote implements event.Watcher.
func (d *delivery) Wrote(at time.Time) {
	d.mu.Lock()
	d.written++
	if d.first.IsZero() || at.Before(d.first) {
		d.first = at
	}
	if at.After(d.last) {
		d.last = at
	}
	d.mu.Unlock()
	d.endIfDone()
}

// Lost implements event.Watcher.
func (d *delivery) Lost() {
	d.mu.Lock()
	d.lost++
	d.mu.Unlock()
	d.endIfDone()
}

// Dropped implements event.Watcher.
func (d *delivery) Dropped(reason string) { d.end(reason) }

// endIfDone ends the span when nobody is left to write to.
func (d *delivery) endIfDone() {
	d.mu.Lock()
	done := d.offered >= 0 && d.written+d.lost >= d.offered
	d.mu.Unlock()
	if done {
		d.end("")
	}
}

// end ends the span and, if something was written, a span of the writes. dropped is why the event
// was offered to nobody.
func (d *delivery) end(dropped string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	d.ended = true
	d.of.remove(d)
	waiting := max(d.offered-d.written-d.lost, 0)
	d.span.SetAttributes(
		attribute.Int("orgcast.offered", max(d.offered, 0)), attribute.Int("orgcast.written", d.written),
		attribute.Int("orgcast.lost", d.lost), attribute.Int("orgcast.waiting", waiting),
	)
	if dropped != "" {
		d.span.SetAttributes(attribute.String("orgcast.dropped", dropped))
	}
	if d.written > 0 {
		_, write := d.tracer.Start(d.ctx, "write", trace.WithSpanKind(Internal), trace.WithTimestamp(d.first))
		write.SetAttributes(attribute.Int("orgcast.written", d.written))
		write.End(trace.WithTimestamp(d.last))
	}
	d.span.End()
}
