package tracing_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
	"orgcast/internal/tracing"
)

// options returns those that variables give.
func options(t *testing.T, env map[string]string) tracing.Options {
	t.Helper()
	o, err := tracing.FromEnvironment(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// total returns the value of a metric, summed over a label.
func total(t *testing.T, reg *prometheus.Registry, name, label string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && strings.Contains(m.String(), label) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// TestOffCostsNothing: without an endpoint there is no tracer, and a tracer that is none allocates
// nothing, whatever an event says of its trace.
func TestOffCostsNothing(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"no endpoint": {"OTEL_TRACES_SAMPLER": "sometimes"},
		"disabled":    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "True"},
		"none":        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"},
	} {
		t.Run(name, func(t *testing.T) {
			none := tracing.New(options(t, env), tracing.Parts{})
			if none != nil {
				t.Fatal("got a tracer, want none")
			}
			e, trace := traced(t)
			ctx := t.Context()
			if n := testing.AllocsPerRun(100, func() {
				ctx, span := none.Start(ctx, "x", tracing.Server)
				span.Text("organization_id", "acme")
				span.Number("n", 1)
				span.Fail("reason")
				span.End()
				none.Watch(e, trace)
				e.Alone().Wrote(time.Now())
				_ = tracing.TraceOf(ctx)
			}); n != 0 {
				t.Errorf("got %v allocations, want 0", n)
			}
			if err := none.Close(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// traced returns an event and the trace of its head.
func traced(t *testing.T) (*event.Event, event.Trace) {
	t.Helper()
	org, err := orgctx.ParseID("acme")
	if err != nil {
		t.Fatal(err)
	}
	g, err := event.NewGroup(org, "all")
	if err != nil {
		t.Fatal(err)
	}
	payload := "~traceparent=" + parent + ` {"type":"note","organization_id":"acme"}`
	head, _ := event.CutHead(payload)
	e, err := event.Decode(g, payload, 1000, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return e, head.Trace
}

// TestUnsampledEventsCostNothing: while tracing is on, an event whose trace is not sampled takes
// neither memory nor a lock.
func TestUnsampledEventsCostNothing(t *testing.T) {
	on := tracing.New(options(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}), tracing.Parts{})
	defer on.Close(context.Background())
	e, trace := traced(t)
	trace.Sampled = false
	if n := testing.AllocsPerRun(100, func() { on.Watch(e, trace); on.Watch(e, event.Trace{}); e.Offered(1); e.Alone().Wrote(time.Now()) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// sink is a collector that counts requests, and holds them up while it is told to.
type sink struct {
	*httptest.Server

	mu     sync.Mutex
	bodies []string
}

func newSink(t *testing.T, status int) *sink {
	t.Helper()
	s := new(sink)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := new(strings.Builder)
		buf := make([]byte, 4096)
		for {
			n, err := r.Body.Read(buf)
			b.Write(buf[:n])
			if err != nil {
				break
			}
		}
		s.mu.Lock()
		s.bodies = append(s.bodies, b.String())
		s.mu.Unlock()
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s
}

// TestDeliveryThatEndsInNothing: an event that is offered to nobody has a span that says why, and one
// whose browsers never answer has one at the end of the process.
func TestDeliveryThatEndsInNothing(t *testing.T) {
	s, reg := newSink(t, 200), prometheus.NewRegistry()
	on := tracing.New(options(t, map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": s.URL + "/own/path"}), tracing.Parts{Registerer: reg})
	dropped, trace := traced(t)
	on.Watch(dropped, trace)
	dropped.Dropped("no_members")
	waits, trace := traced(t)
	on.Watch(waits, trace)
	waits.Offered(2)
	waits.Alone().Wrote(time.Now())
	lost, trace := traced(t)
	on.Watch(lost, trace)
	lost.Offered(1)
	lost.Lost()
	if err := on.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.Join(s.bodies, "")
	for _, want := range []string{
		`{"key":"orgcast.dropped","value":{"stringValue":"no_members"}}`, `{"key":"orgcast.waiting","value":{"intValue":"1"}}`, `{"key":"orgcast.lost","value":{"intValue":"1"}}`,
	} {
		if strings.Count(all, want) != 1 {
			t.Errorf("got %s, want %s in it once", all, want)
		}
	}
	if got := total(t, reg, "orgcast_trace_spans_exported_total", ""); got != 4 {
		t.Errorf("got %v spans exported, want 4", got)
	}
}

// TestDropsAreCounted: of spans that a collector refuses, each is counted, and so are those after the
// end.
func TestDropsAreCounted(t *testing.T) {
	s, reg := newSink(t, 503), prometheus.NewRegistry()
	on := tracing.New(options(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": s.URL, "OTEL_TRACES_SAMPLER": "always_on", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2",
	}), tracing.Parts{Registerer: reg})
	for range 5 {
		_, span := on.Start(t.Context(), "x", tracing.Internal)
		span.End()
	}
	_, late := on.Start(t.Context(), "late", tracing.Internal)
	if err := on.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	late.End()
	if got := total(t, reg, "orgcast_trace_spans_dropped_total", `"export_failed"`); got != 5 {
		t.Errorf("got %v spans refused, want 5", got)
	}
}

// TestMistakesInVariables: each names its variable and no value.
func TestMistakesInVariables(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "secret", "OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
		"OTEL_EXPORTER_OTLP_HEADERS": "secret", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=%zz", "OTEL_RESOURCE_ATTRIBUTES": "=x",
		"OTEL_EXPORTER_OTLP_TIMEOUT": "soon", "OTEL_BSP_MAX_QUEUE_SIZE": "-1", "OTEL_BSP_SCHEDULE_DELAY": "1s", "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd",
		"OTEL_TRACES_SAMPLER": "secret", "OTEL_TRACES_SAMPLER_ARG": "2", "OTEL_EXPORTER_OTLP_CERTIFICATE": "/secret", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/secret",
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", name: value}
			_, err := tracing.FromEnvironment(func(n string) string { return env[n] })
			if err == nil || !strings.Contains(err.Error(), name+": ") && !strings.Contains(err.Error(), name+" and ") && !strings.Contains(err.Error(), " and "+name) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want an error that names %s", err, name)
			}
		})
	}
}

// TestHeaders: a traceparent goes from a request to a call of another program.
func TestHeaders(t *testing.T) {
	in, out := http.Header{"Traceparent": {parent}}, http.Header{}
	ctx := tracing.FromHeader(t.Context(), in)
	tracing.ToHeader(ctx, out)
	if got := out.Get("Traceparent"); got != parent {
		t.Errorf("got %q, want %q", got, parent)
	}
	if got := tracing.TraceOf(ctx).String(); got != parent {
		t.Errorf("got %q, want %q", got, parent)
	}
	if got := tracing.TraceOf(tracing.Without(ctx)); !got.IsZero() {
		t.Errorf("got %v, want none", got)
	}
	if got := tracing.TraceOf(tracing.Under(t.Context(), ctx)).String(); got != "" && got != parent {
		t.Errorf("got %q, want the remote parent or none", got)
	}
	testkit.ExpectNoLeaks(t)
}
