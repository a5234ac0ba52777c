package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// sentSpan is a span as a collector gets it.
type sentSpan struct {
	TraceID, SpanID, ParentSpanID, Name string
	Kind, Flags                         int
	StartTimeUnixNano, EndTimeUnixNano  json.Number
	Attributes                          []struct {
		Key   string
		Value struct{ StringValue, IntValue string }
	}
	service string
}

// attribute returns the text of an attribute, empty if there is none.
func (s sentSpan) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.StringValue + a.Value.IntValue
		}
	}
	return ""
}

// collector takes spans as OTLP in JSON.
type collector struct {
	*httptest.Server

	mu    sync.Mutex
	spans []sentSpan
	raw   strings.Builder
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	c := new(collector)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			ResourceSpans []struct {
				Resource struct {
					Attributes []struct {
						Key   string
						Value struct{ StringValue string }
					}
				}
				ScopeSpans []struct{ Spans []sentSpan }
			}
		}
		var body json.RawMessage
		if r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("X-Key") != "a b" ||
			json.NewDecoder(r.Body).Decode(&body) != nil || json.Unmarshal(body, &request) != nil {
			t.Errorf("got %s %s, want a request of OTLP with its header", r.Method, r.URL.Path)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(body)
		for _, of := range request.ResourceSpans {
			service := ""
			for _, a := range of.Resource.Attributes {
				if a.Key == "service.name" {
					service = a.Value.StringValue
				}
			}
			for _, scope := range of.ScopeSpans {
				for _, s := range scope.Spans {
					s.service = service
					c.spans = append(c.spans, s)
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// all returns the spans so far with a name, of one service or of all.
func (c *collector) all(service, name string) (list []sentSpan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Name == name && (service == "" || s.service == service) {
			list = append(list, s)
		}
	}
	return list
}

// one waits for a span.
func (c *collector) one(t *testing.T, service, name string) sentSpan {
	t.Helper()
	testkit.Eventually(t, "a span "+name+" of "+service, func() bool { return len(c.all(service, name)) > 0 })
	return c.all(service, name)[0]
}

// tracing returns the environment of a node that sends every span that is sampled.
func (c *collector) environment(service string) environment {
	return environment{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b", "OTEL_SERVICE_NAME": service, "OTEL_BSP_SCHEDULE_DELAY": "20",
	}
}

// publishTraced publishes over HTTP, under a span of the caller's.
func (s *serving) publishTraced(traceparent, body string) {
	s.tb.Helper()
	r, err := http.NewRequestWithContext(s.tb.Context(), http.MethodPost, "http://"+s.private+"/v1/publish", strings.NewReader(body))
	if err != nil {
		s.tb.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+testPublishKey)
	r.Header.Set("Traceparent", traceparent)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.tb.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		s.tb.Fatalf("got %d, want 200", answer.StatusCode)
	}
}

const (
	callersTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	callersSpan   = "00f067aa0ba902b7"
	callersParent = "00-" + callersTrace + "-" + callersSpan + "-01"
)

// TestTraceEndToEnd: one trace leads from a publisher's own span over the node that publishes, Redis,
// and another node to the writes, for transient and recorded events.
func TestTraceEndToEnd(t *testing.T) {
	for name, fields := range map[string]string{"transient": "", "recorded": `,"record":true,"idempotency_key":"k"`} {
		t.Run(name, func(t *testing.T) {
			redisAddr, c := redistest.Start(t), startCollector(t)
			near, far := spawnServe(t, redisAddr, c.environment("near")), spawnServe(t, redisAddr, c.environment("far"))
			var pages []*testkit.Client
			for range 3 {
				pages = append(pages, far.subscribe(testkit.DialTCP(far.public), "ada", "acme"))
			}
			near.publishTraced(callersParent, `{"organization_id":"acme","group":"all","event":{"type":"note","text":"secret"}`+fields+`}`)
			for _, page := range pages {
				page.Expect(t, `{"organization_id":"acme","type":"note","text":"secret"}`)
			}
			request, publish := c.one(t, "near", "POST /v1/publish"), c.one(t, "near", "publish")
			redis, deliver, write := c.one(t, "near", "redis"), c.one(t, "far", "deliver"), c.one(t, "far", "write")
			for _, s := range []struct {
				span         sentSpan
				parent       string
				kind, remote int
			}{
				{request, callersSpan, 2, 0x200},
				{publish, request.SpanID, 4, 0},
				{redis, publish.SpanID, 3, 0},
				{deliver, publish.SpanID, 5, 0x200},
				{write, deliver.SpanID, 1, 0},
			} {
				got := s.span
				if got.TraceID != callersTrace || got.ParentSpanID != s.parent || got.Kind != s.kind || got.Flags != 0x101|s.remote || got.StartTimeUnixNano > got.EndTimeUnixNano {
					t.Errorf("%s: got %+v, want trace %s, parent %s, kind %d, flags %#x", got.Name, got, callersTrace, s.parent, s.kind, 0x101|s.remote)
				}
			}
			for key, want := range map[string]string{
				"organization_id": "acme", "group": "all", "orgcast.offered": "3", "orgcast.written": "3", "orgcast.lost": "0", "orgcast.waiting": "0",
			} {
				if got := deliver.attribute(key); got != want {
					t.Errorf("%s of the delivery: got %q, want %q", key, got, want)
				}
			}
			if got := deliver.attribute("messaging.message.id") != ""; got != (fields != "") {
				t.Errorf("the delivery has a position: got %t, want %t", got, fields != "")
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if strings.Contains(c.raw.String(), "secret") || strings.Contains(c.raw.String(), "ada") {
				t.Errorf("got %s, want neither payloads nor users", c.raw.String())
			}
		})
	}
}

// TestTraceparentThatDoesNotCount: events whose traceparent is not sampled or cannot be read arrive
// like any other and have no spans of the delivery.
func TestTraceparentThatDoesNotCount(t *testing.T) {
	redisAddr, c := redistest.Start(t), startCollector(t)
	env := c.environment("node")
	env["OTEL_TRACES_SAMPLER"], env["OTEL_TRACES_SAMPLER_ARG"] = "parentbased_traceidratio", "0"
	s := spawnServe(t, redisAddr, env)
	page := s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	client := redistest.NewClient(t, redisAddr)
	const object = `{"type":"note","organization_id":"acme"}`
	for _, head := range []string{
		"", "~traceparent=00-" + callersTrace + "-" + callersSpan + "-00 ", "~traceparent=no ", "~traceparent= ", "~future=1 ",
		"~traceparent=00-00000000000000000000000000000000-" + callersSpan + "-01 ", "1-1 ~x ", "1-2 #0123456789abcdef ~x=y ~z ",
	} {
		if err := client.Publish(t.Context(), "orgcast:{acme}:group:all", head+object).Err(); err != nil {
			t.Fatal(err)
		}
		page.Expect(t, object)
	}
	s.publishTraced("nonsense", `{"organization_id":"acme","group":"all","event":{"type":"note"}}`)
	page.Expect(t, `{"organization_id":"acme","type":"note"}`)
	// A sampled one comes last. Spans leave in order.
	if err := client.Publish(t.Context(), "orgcast:{acme}:group:all", "~unknown=1 ~traceparent="+callersParent+" "+object).Err(); err != nil {
		t.Fatal(err)
	}
	page.Expect(t, object)
	if got := c.one(t, "node", "deliver"); got.TraceID != callersTrace || got.ParentSpanID != callersSpan {
		t.Errorf("got %+v, want the trace of the publisher", got)
	}
	if got := len(c.all("", "deliver")); got != 1 {
		t.Errorf("got %d deliveries with spans, want 1", got)
	}
}

// TestTraceOfHandshake: a handshake and its question have spans under one root, whatever the browser
// sends, and end even when the handshake is refused.
func TestTraceOfHandshake(t *testing.T) {
	redisAddr, c := redistest.Start(t), startCollector(t)
	env := c.environment("node")
	env["OTEL_TRACES_SAMPLER"] = "parentbased_always_on"
	s := spawnServe(t, redisAddr, env)
	user := s.mint("ada", "acme")
	user.Header.Set("Traceparent", callersParent)
	testkit.Connect(t, testkit.DialTCP(s.public), user)
	handshake, question := c.one(t, "node", "handshake"), c.one(t, "node", "identify")
	if handshake.TraceID == callersTrace || handshake.ParentSpanID != "" || question.ParentSpanID != handshake.SpanID || handshake.attribute("connection_id") == "" {
		t.Errorf("got %+v and %+v, want a trace of the node's own", handshake, question)
	}
	user.Header.Set("Cookie", "orgcast_session=forged")
	if _, answer := testkit.Try(t, testkit.DialTCP(s.public), user); answer.Status != http.StatusUnauthorized {
		t.Fatalf("got %d, want 401", answer.Status)
	}
	testkit.Eventually(t, "a span of the refusal", func() bool {
		return slices.ContainsFunc(c.all("node", "handshake"), func(s sentSpan) bool { return s.attribute("error.type") == "unauthenticated" })
	})
}

// TestCollectorThatIsAway: a collector that hangs, refuses or is missing costs nothing but its spans,
// which are counted, and holds up neither events nor the end of the process.
func TestCollectorThatIsAway(t *testing.T) {
	t.Parallel()
	redisAddr := redistest.Start(t)
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hung.Close() })
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }))
	t.Cleanup(refusing.Close)
	for name, tt := range map[string]struct{ url, reason string }{
		"hung": {"http://" + hung.Addr().String(), "queue_full"}, "missing": {"http://127.0.0.1:1", "export_failed"}, "refusing": {refusing.URL, "export_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spawnServe(t, redisAddr, environment{
				"OTEL_EXPORTER_OTLP_ENDPOINT": tt.url, "OTEL_BSP_MAX_QUEUE_SIZE": "4", "OTEL_BSP_SCHEDULE_DELAY": "1", "OTEL_EXPORTER_OTLP_TIMEOUT": "600000",
			})
			page := s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
			testkit.Eventually(t, "spans dropped", func() bool {
				s.publishTraced(callersParent, `{"organization_id":"acme","group":"all","event":{"type":"note"}}`)
				page.Expect(t, `{"organization_id":"acme","type":"note"}`)
				return s.metric("orgcast_trace_spans_dropped_total", `"`+tt.reason+`"`) > 0
			})
			s.expectReady()
			s.spawned.signal(syscall.SIGTERM)
			s.spawned.expectExit(0)
			if log := s.log.String(); strings.Count(log, `"msg":"last spans not sent"`) > 1 {
				t.Errorf("got %s", log)
			}
		})
	}
}

// TestLastSpansAreSent: spans that wait when a process is told to end are sent first.
func TestLastSpansAreSent(t *testing.T) {
	c := startCollector(t)
	env := c.environment("node")
	env["OTEL_BSP_SCHEDULE_DELAY"] = "3600000"
	s := spawnServe(t, redistest.Start(t), env)
	s.publishTraced(callersParent, `{"organization_id":"acme","group":"all","event":{"type":"note"}}`)
	s.spawned.signal(syscall.SIGTERM)
	s.spawned.expectExit(0)
	if got := c.all("node", "publish"); len(got) != 1 {
		t.Errorf("got %d spans, want 1", len(got))
	}
}

// TestTracingSettings: mistakes in the variables of OpenTelemetry are reported by name, without their
// values.
func TestTracingSettings(t *testing.T) {
	s := newServing(t, "127.0.0.1:1", environment{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_HEADERS": "secret", "OTEL_TRACES_SAMPLER": "sometimes", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
	})
	_, errOut, err := execute(t, s.env, "", "check")
	for _, want := range []string{"OTEL_EXPORTER_OTLP_HEADERS: ", "OTEL_TRACES_SAMPLER: ", "OTEL_EXPORTER_OTLP_PROTOCOL: "} {
		if err == nil || strings.Count(errOut, want) != 1 || strings.Contains(errOut, "secret") {
			t.Errorf("got %v and %q, want %q once and no value", err, errOut, want)
		}
	}
}

// TestTraceOfTask: an attempt at a task has a span.
func TestTraceOfTask(t *testing.T) {
	redisAddr, c := redistest.Start(t), startCollector(t)
	env := c.environment("worker")
	env["OTEL_TRACES_SAMPLER"] = "always_on"
	s := newServing(t, redisAddr, env)
	out := new(testkit.SyncBuffer)
	p := spawn(t, s.env, nil, out, "worker")
	testkit.Eventually(t, "at work", func() bool { return strings.Contains(out.String(), `"msg":"working"`) })
	task := []any{"XADD", "orgcast:tasks:echo", "*", "organization_id", "acme", "kind", "echo", "id", "t1", "group", "all", "payload", `{"text":"secret"}`}
	if err := redistest.NewClient(t, redisAddr).Do(t.Context(), task...).Err(); err != nil {
		t.Fatal(err)
	}
	if got := c.one(t, "worker", "task echo"); got.attribute("organization_id") != "acme" || got.attribute("orgcast.attempt") != "1" || got.ParentSpanID != "" {
		t.Errorf("got %+v, want a span of the first attempt", got)
	}
	p.signal(syscall.SIGTERM)
	p.expectExit(0)
}
