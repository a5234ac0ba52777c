package tracing

import (
	"encoding/hex"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// The types below are ExportTraceServiceRequest of OTLP 1, in its JSON form: ids in hexadecimal,
// 64-bit numbers as text.
type request struct {
	ResourceSpans []resourceSpans `json:"resourceSpans"`
}

type resourceSpans struct {
	Resource   resourceOf   `json:"resource"`
	ScopeSpans []scopeSpans `json:"scopeSpans"`
}

type resourceOf struct {
	Attributes []keyValue `json:"attributes"`
}

type scopeSpans struct {
	Scope struct {
		Name string `json:"name"`
	} `json:"scope"`
	Spans []span `json:"spans"`
}

type span struct {
	TraceID    string     `json:"traceId"`
	SpanID     string     `json:"spanId"`
	ParentID   string     `json:"parentSpanId,omitempty"`
	Flags      uint32     `json:"flags"`
	Name       string     `json:"name"`
	Kind       int        `json:"kind"`
	Start      string     `json:"startTimeUnixNano"`
	End        string     `json:"endTimeUnixNano"`
	Attributes []keyValue `json:"attributes,omitempty"`
	Dropped    int        `json:"droppedAttributesCount,omitempty"`
	Events     []spanMark `json:"events,omitempty"`
	Status     status     `json:"status"`
}

type spanMark struct {
	Time       string     `json:"timeUnixNano"`
	Name       string     `json:"name"`
	Attributes []keyValue `json:"attributes,omitempty"`
}

type status struct {
	Message string `json:"message,omitempty"`
	Code    int    `json:"code,omitempty"`
}

type keyValue struct {
	Key   string `json:"key"`
	Value value  `json:"value"`
}

// value is one of its fields.
type value struct {
	Text   *string  `json:"stringValue,omitempty"`
	Bool   *bool    `json:"boolValue,omitempty"`
	Int    *string  `json:"intValue,omitempty"`
	Double *float64 `json:"doubleValue,omitempty"`
}

// Flags of a span besides those of W3C: whether it is known that the parent is remote, and that it
// is.
const (
	flagRemoteKnown = 0x100
	flagRemote      = 0x200
)

// requestOf returns spans, which all have one resource and one scope, as a request.
func requestOf(spans []sdktrace.ReadOnlySpan) request {
	var of scopeSpans
	of.Scope.Name = scope
	for _, s := range spans {
		of.Spans = append(of.Spans, spanOf(s))
	}
	return request{ResourceSpans: []resourceSpans{{
		Resource:   resourceOf{Attributes: valuesOf(spans[0].Resource().Attributes())},
		ScopeSpans: []scopeSpans{of},
	}}}
}

func spanOf(s sdktrace.ReadOnlySpan) span {
	id, span64 := s.SpanContext().TraceID(), s.SpanContext().SpanID()
	out := span{
		TraceID: hex.EncodeToString(id[:]), SpanID: hex.EncodeToString(span64[:]), Name: s.Name(),
		Flags: uint32(s.SpanContext().TraceFlags()) | flagRemoteKnown, Kind: int(s.SpanKind()),
		Start: nanoseconds(s.StartTime()), End: nanoseconds(s.EndTime()),
		Attributes: valuesOf(s.Attributes()), Dropped: s.DroppedAttributes(), Status: statusOf(s.Status()),
	}
	if p := s.Parent(); p.SpanID().IsValid() {
		out.ParentID = p.SpanID().String()
		if p.IsRemote() {
			out.Flags |= flagRemote
		}
	}
	for _, e := range s.Events() {
		out.Events = append(out.Events, spanMark{Time: nanoseconds(e.Time), Name: e.Name, Attributes: valuesOf(e.Attributes)})
	}
	return out
}

func nanoseconds(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// statusOf returns the status with the numbers of OTLP, which are not those of the SDK.
func statusOf(s sdktrace.Status) status {
	switch s.Code {
	case codes.Ok:
		return status{Code: 1}
	case codes.Error:
		return status{Code: 2, Message: s.Description}
	default:
		return status{}
	}
}

func valuesOf(list []attribute.KeyValue) (out []keyValue) {
	for _, a := range list {
		out = append(out, keyValue{Key: string(a.Key), Value: valueOf(a.Value)})
	}
	return out
}

func valueOf(v attribute.Value) (out value) {
	switch v.Type() {
	case attribute.BOOL:
		b := v.AsBool()
		out.Bool = &b
	case attribute.INT64:
		n := strconv.FormatInt(v.AsInt64(), 10)
		out.Int = &n
	case attribute.FLOAT64:
		f := v.AsFloat64()
		out.Double = &f
	default: // the gateway sets no lists
		text := v.String()
		out.Text = &text
	}
	return out
}
