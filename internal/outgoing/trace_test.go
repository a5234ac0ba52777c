package outgoing_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"orgcast/internal/outgoing"
	"orgcast/internal/tracing"
)

// TestCallCarriesItsSpan: the receiver is told the span of the call, within the caller's trace. With
// tracing off it is told nothing.
func TestCallCarriesItsSpan(t *testing.T) {
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	spans := make(chan string, 1)
	collector := receive(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		spans <- string(body)
	})
	told := make(chan string, 1)
	receiver := receive(t, func(_ http.ResponseWriter, r *http.Request) { told <- r.Header.Get("Traceparent") })
	o, err := tracing.FromEnvironment(func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	on := tracing.New(o, tracing.Parts{})
	ctx := tracing.FromHeader(t.Context(), http.Header{"Traceparent": {"00-" + trace + "-00f067aa0ba902b7-01"}})
	for name, tracer := range map[string]*tracing.Tracer{"on": on, "off": nil} {
		c := outgoing.New(outgoing.Options{Tracer: tracer})
		if _, err := newEndpoint(t, c, outgoing.EndpointOptions{URL: receiver.URL}).Post(ctx, outgoing.Call{ID: "m1", Body: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
		c.Close()
		got := <-told
		if tracer == nil {
			if got != "" {
				t.Errorf("%s: got %q, want no header", name, got)
			}
			continue
		}
		if err := on.Close(context.WithoutCancel(ctx)); err != nil {
			t.Fatal(err)
		}
		sent := <-spans
		parts := strings.Split(got, "-")
		if len(parts) != 4 || parts[1] != trace || !strings.Contains(sent, `"spanId":"`+parts[2]+`","parentSpanId":"00f067aa0ba902b7"`) || !strings.Contains(sent, `"name":"test","kind":3`) {
			t.Errorf("%s: got %q, and the collector %s, want the span of the call", name, got, sent)
		}
	}
}
