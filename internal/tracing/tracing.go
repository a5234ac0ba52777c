// Package tracing makes spans of what the gateway does and sends them to an OpenTelemetry collector,
// as OTLP in JSON over HTTP. It is off unless the environment names a collector.
//
// Nothing waits for the collector: spans go into a bounded queue, and what does not fit is dropped
// and counted. Spans name organizations, groups and connections, as the log does, and never hold
// payloads, cookies or user ids.
package tracing

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"orgcast/internal/event"
)

// scope names the code that makes the spans.
const scope = "orgcast"

// Kinds of spans.
const (
	Internal = trace.SpanKindInternal
	Server   = trace.SpanKindServer
	Client   = trace.SpanKindClient
	Producer = trace.SpanKindProducer
	Consumer = trace.SpanKindConsumer
)

// Tracer makes spans. A nil Tracer makes none and costs nothing. It is safe for concurrent use.
type Tracer struct {
	provider   *sdktrace.TracerProvider
	tracer     trace.Tracer
	deliveries *deliveries
}

// Parts are what a Tracer uses of its process. The zero Parts work.
type Parts struct {
	// Version is the version of the program.
	Version string
	// Log and Registerer may be nil.
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// New returns a Tracer, nil if the options name no collector. It starts goroutines, which
// [Tracer.Close] ends.
func New(o Options, p Parts) *Tracer {
	m := newMetrics(p.Registerer)
	if o.Endpoint == "" {
		return nil
	}
	if p.Log == nil {
		p.Log = zap.NewNop()
	}
	attributes := []attribute.KeyValue{attribute.String("service.version", p.Version)}
	for _, a := range o.Attributes {
		attributes = append(attributes, attribute.String(a.Name, a.Value))
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(o.sampler),
		sdktrace.WithResource(resource.NewSchemaless(attributes...)),
		sdktrace.WithSpanProcessor(newQueue(newExporter(o), o, m, p.Log.Named("tracing"))),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer(scope), deliveries: newDeliveries(m)}
}

// Close sends the spans that wait, until ctx ends. Spans that end later are dropped.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.deliveries.close()
	return t.provider.Shutdown(ctx)
}

// Span is a span in progress. The zero Span is none.
type Span struct{ span trace.Span }

// Start begins a span. Its parent is the span in ctx, or the remote one of [WithTrace] and
// [FromHeader].
func (t *Tracer) Start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kind))
	return ctx, Span{span}
}

// Text sets an attribute. An empty value is left out.
func (s Span) Text(name, value string) {
	if s.span != nil && value != "" {
		s.span.SetAttributes(attribute.String(name, value))
	}
}

// Number sets an attribute.
func (s Span) Number(name string, value int) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int(name, value))
	}
}

// Name replaces the name.
func (s Span) Name(name string) {
	if s.span != nil {
		s.span.SetName(name)
	}
}

// Fail marks the span as failed. reason is a short stable name, never the text of an error, which
// may quote what a client sent.
func (s Span) Fail(reason string) {
	if s.span != nil {
		s.span.SetStatus(codes.Error, reason)
		s.span.SetAttributes(attribute.String("error.type", reason))
	}
}

// End ends the span.
func (s Span) End() {
	if s.span != nil {
		s.span.End()
	}
}

// Sampled reports whether the span will be sent.
func (s Span) Sampled() bool { return s.span != nil && s.span.SpanContext().IsSampled() }

// TraceOf returns the span in ctx, zero unless it is sampled.
func TraceOf(ctx context.Context) event.Trace {
	c := trace.SpanContextFromContext(ctx)
	if !c.IsValid() || !c.IsSampled() {
		return event.Trace{}
	}
	return event.Trace{ID: c.TraceID(), Span: c.SpanID(), Sampled: true}
}

// Current returns the span in ctx, which does nothing if there is none.
func Current(ctx context.Context) Span { return Span{trace.SpanFromContext(ctx)} }

// Under makes the span in from, if there is one, the parent of spans under ctx.
func Under(ctx, from context.Context) context.Context {
	if s := trace.SpanFromContext(from); s.SpanContext().IsValid() {
		return trace.ContextWithSpan(ctx, s)
	}
	return ctx
}

// Without returns the context without a span of another program, for where tracing is off.
func Without(ctx context.Context) context.Context {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return trace.ContextWithSpanContext(ctx, trace.SpanContext{})
}

// withTrace makes a remote span the parent of spans under the context.
func withTrace(ctx context.Context, t event.Trace) context.Context {
	var flags trace.TraceFlags
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: t.ID, SpanID: t.Span, TraceFlags: flags.WithSampled(t.Sampled), Remote: true,
	}))
}

// FromHeader makes the span that a request names, if it names one, the parent of spans under the
// context. A header that cannot be read is ignored.
func FromHeader(ctx context.Context, h http.Header) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(h))
}

// ToHeader names the span in ctx, if there is one, in a request to another program.
func ToHeader(ctx context.Context, h http.Header) {
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(h))
}
