package gateway

import (
	"net/http"

	"orgcast/internal/consumer"
	"orgcast/internal/tracing"
)

// traced begins the span of a handshake, and returns the request with it. A traceparent of the
// request does not count: strangers must not decide what is sampled.
func (h *host) traced(r *http.Request, route *consumer.Route) (*http.Request, tracing.Span) {
	t := h.options.Tracer
	if t == nil {
		return r, tracing.Span{}
	}
	ctx, span := t.Start(r.Context(), "handshake", tracing.Server)
	span.Text("http.route", route.Pattern)
	return r.WithContext(ctx), span
}

// admitted names in the span of a handshake who was admitted.
func admitted(span tracing.Span, c *conn) {
	span.Text("organization_id", c.identity.Organization.String())
	span.Text("connection_id", c.id)
}
