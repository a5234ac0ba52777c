package tracing

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// DefaultRatio is the share of traces that are sampled by default, of those that begin here. Traces
// that another program began are sampled as that program decided.
const DefaultRatio = 0.01

// Options are the settings of OpenTelemetry. The zero Options make no spans.
type Options struct {
	// Endpoint is the URL that takes spans, or empty.
	Endpoint string
	Headers  []Pair
	Gzip     bool
	Timeout  time.Duration
	TLS      *tls.Config // nil: as the system has it
	// Attributes describe this process, its service name among them.
	Attributes []Pair
	// Queue bounds the spans that wait. They leave in batches, at the latest after Delay.
	Queue, Batch int
	Delay        time.Duration

	sampler sdktrace.Sampler
}

// Pair is a header or an attribute.
type Pair struct{ Name, Value string }

// maxQueue bounds OTEL_BSP_MAX_QUEUE_SIZE: 64 times the default.
const maxQueue = 1 << 17

// environment reads variables and collects mistakes.
type environment struct {
	get  func(string) string
	errs []error
}

// FromEnvironment returns the options in the variables that OpenTelemetry defines. Without an
// endpoint it looks at nothing else. Errors name the variables, and never quote their values, which
// may be secret.
func FromEnvironment(getenv func(string) string) (Options, error) {
	e := &environment{get: func(name string) string { return strings.TrimSpace(getenv(name)) }}
	o := Options{Endpoint: e.endpoint()}
	exporter := e.get("OTEL_TRACES_EXPORTER")
	if o.Endpoint == "" || strings.EqualFold(e.get("OTEL_SDK_DISABLED"), "true") || exporter == "none" {
		return Options{}, errors.Join(e.errs...)
	}
	if exporter != "" && exporter != "otlp" {
		e.fail("OTEL_TRACES_EXPORTER", "must be otlp or none")
	}
	e.protocol()
	o.Headers = e.pairs(e.either("HEADERS"))
	for i, h := range o.Headers {
		o.Headers[i].Name = textproto.CanonicalMIMEHeaderKey(h.Name)
	}
	o.Gzip = e.compressed()
	o.Timeout = e.milliseconds(e.either("TIMEOUT"), 10*time.Second)
	o.TLS = e.tls()
	o.Attributes = e.attributes()
	o.Queue = e.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, maxQueue)
	o.Batch = min(e.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, maxQueue), o.Queue)
	o.Delay = e.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5*time.Second)
	o.sampler = e.sampler()
	if len(e.errs) > 0 {
		return Options{}, errors.Join(e.errs...)
	}
	return o, nil
}

func (e *environment) fail(name, problem string) {
	e.errs = append(e.errs, fmt.Errorf("%s: %s", name, problem))
}

// either returns the name of the variable for traces if it is set, else that for all signals.
func (e *environment) either(name string) string {
	if traces := "OTEL_EXPORTER_OTLP_TRACES_" + name; e.get(traces) != "" {
		return traces
	}
	return "OTEL_EXPORTER_OTLP_" + name
}

// endpoint returns the URL that takes spans.
func (e *environment) endpoint() string {
	name, path := e.either("ENDPOINT"), ""
	text := e.get(name)
	if text == "" {
		return ""
	}
	if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
		path = "v1/traces"
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		e.fail(name, "must be a URL that begins with http:// or https://")
		return ""
	}
	if path == "" {
		return u.String()
	}
	return u.JoinPath(path).String()
}

// protocol refuses gRPC. Collectors that take protobuf over HTTP take JSON at the same address.
func (e *environment) protocol() {
	name := e.either("PROTOCOL")
	switch e.get(name) {
	case "", "http/json", "http/protobuf":
	default:
		e.fail(name, "must be http/json: spans are sent as JSON over HTTP, to port 4318 of most collectors")
	}
}

func (e *environment) compressed() bool {
	name := e.either("COMPRESSION")
	switch e.get(name) {
	case "", "none":
		return false
	case "gzip":
		return true
	}
	e.fail(name, "must be none or gzip")
	return false
}

// pairs reads a list of NAME=VALUE, comma-separated and percent-encoded.
func (e *environment) pairs(name string) (list []Pair) {
	for part := range strings.SplitSeq(e.get(name), ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		key, value, ok := strings.Cut(part, "=")
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if key = strings.TrimSpace(key); !ok || key == "" || err != nil || strings.ContainsAny(key+decoded, "\r\n\x00") {
			e.fail(name, "must be a comma-separated list of NAME=VALUE, with other characters percent-encoded")
			return nil
		}
		list = append(list, Pair{key, decoded})
	}
	return list
}

// attributes returns what describes this process.
func (e *environment) attributes() []Pair {
	list, service := e.pairs("OTEL_RESOURCE_ATTRIBUTES"), e.get("OTEL_SERVICE_NAME")
	named := false
	for i := range list {
		if list[i].Name != "service.name" {
			continue
		}
		if named = true; service != "" {
			list[i].Value = service
		}
	}
	if !named {
		if service == "" {
			service = "orgcast"
		}
		list = append(list, Pair{"service.name", service})
	}
	return list
}

func (e *environment) number(name string, fallback, most int) int {
	text := e.get(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		e.fail(name, fmt.Sprintf("must be an integer from 1 to %d", most))
		return fallback
	}
	return n
}

func (e *environment) milliseconds(name string, fallback time.Duration) time.Duration {
	return time.Duration(e.number(name, int(fallback.Milliseconds()), int(time.Hour.Milliseconds()))) * time.Millisecond
}

// tls returns the settings for a collector with a private authority, or that wants a certificate.
func (e *environment) tls() *tls.Config {
	authority, certificate, key := e.either("CERTIFICATE"), e.either("CLIENT_CERTIFICATE"), e.either("CLIENT_KEY")
	if e.get(authority) == "" && e.get(certificate) == "" && e.get(key) == "" {
		return nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := e.get(authority); file != "" {
		pem, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if c.RootCAs = x509.NewCertPool(); err != nil || !c.RootCAs.AppendCertsFromPEM(pem) {
			e.fail(authority, "must name a readable file with certificates (PEM)")
		}
	}
	if e.get(certificate) != "" || e.get(key) != "" {
		pair, err := tls.LoadX509KeyPair(e.get(certificate), e.get(key))
		if err != nil {
			e.fail(certificate+" and "+key, "must name readable files with a certificate and its key (PEM)")
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// sampler returns what decides which traces are sampled.
func (e *environment) sampler() sdktrace.Sampler {
	name, parent := strings.CutPrefix(e.get("OTEL_TRACES_SAMPLER"), "parentbased_")
	if name == "" && !parent {
		name, parent = "traceidratio", true
	}
	var s sdktrace.Sampler
	switch name {
	case "always_on":
		s = sdktrace.AlwaysSample()
	case "always_off":
		s = sdktrace.NeverSample()
	case "traceidratio":
		s = sdktrace.TraceIDRatioBased(e.ratio())
	default:
		e.fail("OTEL_TRACES_SAMPLER", "must be one of always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio")
		return sdktrace.NeverSample()
	}
	if parent {
		return sdktrace.ParentBased(s)
	}
	return s
}

// ratio returns the share of traces that are sampled. OpenTelemetry's own default for a sampler that
// is named without one is 1.
func (e *environment) ratio() float64 {
	text := e.get("OTEL_TRACES_SAMPLER_ARG")
	switch {
	case text == "" && e.get("OTEL_TRACES_SAMPLER") != "":
		return 1
	case text == "":
		return DefaultRatio
	}
	ratio, err := strconv.ParseFloat(text, 64)
	if err != nil || ratio < 0 || ratio > 1 || ratio != ratio { //nolint:gocritic // NaN
		e.fail("OTEL_TRACES_SAMPLER_ARG", "must be a number from 0 to 1")
	}
	return ratio
}
