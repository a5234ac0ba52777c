package tracing

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"

	"orgcast/internal/loglimit"
)

// queue holds ended spans until the exporter has sent them, in batches. It never blocks those that end
// a span, and it repeats no batch: a collector that is away costs the spans of that time.
type queue struct {
	exporter sdktrace.SpanExporter
	metrics  *metrics
	log      *zap.Logger
	batch    int
	delay    time.Duration
	base     context.Context //nolint:containedctx // of the calls that run makes
	cut      context.CancelFunc

	spans   chan sdktrace.ReadOnlySpan // bounds the memory; nobody closes it
	closing chan context.Context       // one value: the context of Shutdown
	done    chan struct{}              // closed by run at its end
	closed  atomic.Bool
	trouble loglimit.Limiter // only run uses it
}

var _ sdktrace.SpanProcessor = (*queue)(nil)

// newQueue returns a queue and starts its goroutine, which Shutdown ends.
func newQueue(e sdktrace.SpanExporter, o Options, m *metrics, log *zap.Logger) *queue {
	q := &queue{
		exporter: e, metrics: m, log: log, batch: o.Batch, delay: o.Delay, spans: make(chan sdktrace.ReadOnlySpan, o.Queue),
		closing: make(chan context.Context, 1), done: make(chan struct{}),
	}
	q.base, q.cut = context.WithCancel(context.Background())
	go q.run()
	return q
}

// OnStart implements sdktrace.SpanProcessor.
func (q *queue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	switch {
	case !s.SpanContext().IsSampled():
		return
	case q.closed.Load():
		q.metrics.drop(dropShutdown, 1)
		return
	}
	select {
	case q.spans <- s:
	default:
		q.metrics.drop(dropQueueFull, 1)
	}
}

// run sends batches: full ones at once, others after the delay.
func (q *queue) run() {
	defer close(q.done)
	defer q.cut()
	due := time.NewTicker(q.delay)
	defer due.Stop()
	batch := make([]sdktrace.ReadOnlySpan, 0, q.batch)
	for {
		select {
		case s := <-q.spans:
			if batch = append(batch, s); len(batch) == q.batch {
				q.send(q.base, batch)
				batch = batch[:0]
			}
		case <-due.C:
			q.send(q.base, batch)
			batch = batch[:0]
		case ctx := <-q.closing:
			q.drain(ctx, batch)
			return
		}
	}
}

// drain sends what waits, until ctx ends.
func (q *queue) drain(ctx context.Context, batch []sdktrace.ReadOnlySpan) {
	for {
		select {
		case s := <-q.spans:
			if batch = append(batch, s); len(batch) == q.batch {
				q.send(ctx, batch)
				batch = batch[:0]
			}
		default:
			q.send(ctx, batch)
			return
		}
	}
}

// send sends a batch, or counts it as dropped.
func (q *queue) send(ctx context.Context, batch []sdktrace.ReadOnlySpan) {
	if len(batch) == 0 {
		return
	}
	if ctx.Err() != nil {
		q.metrics.drop(dropShutdown, len(batch))
		return
	}
	err := q.exporter.ExportSpans(ctx, batch)
	switch {
	case err == nil:
		q.metrics.exported.Add(float64(len(batch)))
	case ctx.Err() != nil:
		q.metrics.drop(dropShutdown, len(batch))
	default:
		q.metrics.drop(dropExport, len(batch))
		if suppressed, ok := q.trouble.Allow(time.Now()); ok {
			q.log.Warn("sending spans failed", zap.Error(err), zap.Int("suppressed", suppressed))
		}
	}
}

// ForceFlush implements sdktrace.SpanProcessor. Nobody needs it.
func (q *queue) ForceFlush(context.Context) error { return nil }

// Shutdown implements sdktrace.SpanProcessor: it sends what waits, and returns at the latest when ctx
// ends.
func (q *queue) Shutdown(ctx context.Context) error {
	if !q.closed.Swap(true) {
		q.closing <- ctx
	}
	defer context.AfterFunc(ctx, q.cut)() // a call that is under way
	<-q.done
	if ctx.Err() != nil {
		return errors.New("sending the last spans took too long")
	}
	return nil
}
