// Package api is the HTTP API on the private listener. Back ends publish events and revoke the right
// to be connected, and operators see what all nodes have. Every call and every view is authenticated,
// bounded, answered and logged here, in one way; a file for each says what it means and does.
//
// Callers get stable codes, each with a sentence that says what to do, and never the text of an
// error.
package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"orgcast/internal/nodes"
	"orgcast/internal/tail"
	"orgcast/internal/tracing"
	"orgcast/internal/usage"
)

// Options are the parts that the API serves. Publisher, Revoker and Log are required.
type Options struct {
	// PublishKey and AdminKey are what callers show as bearer tokens. Without a publish key, nobody
	// publishes or revokes. Without an admin key, paths that need it answer only programs on this
	// machine.
	PublishKey, AdminKey *Key
	// Local says that the listener is a loopback address.
	Local bool
	// Publisher does what POST /v1/publish asks for.
	Publisher Publisher
	// Revoker does what POST /v1/revoke asks for.
	Revoker Revoker
	// Nodes are asked by the views of all nodes. Without them, these do not exist.
	Nodes *nodes.Nodes
	// Histories are read by GET /v1/history, which does not exist without them, and by
	// GET /v1/explain.
	Histories Histories
	// Presence is read by GET /v1/presence, which does not exist without it.
	Presence Presence
	// Usage is read by GET /v1/usage. Nil if nothing is kept.
	Usage *usage.Redis
	// Tails serve GET /v1/tail.
	Tails *tail.Tails
	// Census is what GET /metrics/organizations shows, of OrganizationMetrics organizations at most.
	// With 0, the path does not exist.
	Census              Census
	OrganizationMetrics int
	// Tasks are counted by GET /v1/tasks. Without them, the path does not exist.
	Tasks Tasks
	// Webhooks are shown by GET /v1/webhooks, and retried by POST /v1/webhooks/retry, which do not
	// exist without them.
	Webhooks Webhooks
	// Reloader does what POST /v1/reload asks for. Without it, the path does not exist.
	Reloader Reloader
	Log      *zap.Logger
	// Tracer makes a span of each POST. It may be nil.
	Tracer *tracing.Tracer
	// Registerer takes the metrics.
	Registerer prometheus.Registerer
}

// call is what one path does.
type call struct {
	path   string
	access access
	// maxBody is the largest body, in bytes.
	maxBody int64
	// problems lists why a request or a part of it can come to nothing. Any other error is
	// [unavailable].
	problems []problem
	// do serves a request. It returns what became of its parts, or of the whole, and the worst
	// error; without results, the error is about the whole.
	do func(ctx context.Context, body []byte) ([]result, error)
	// list says that the answer is {"results":[…]}; else it is the one result.
	list bool
}

// result is what became of a request, or of one part of it.
type result struct {
	Status string `json:"status"`
	// ID is the position of an event that is recorded.
	ID string `json:"id,omitempty"`
	// Nodes is how many nodes Redis passed a published event on to.
	Nodes *int64 `json:"nodes,omitempty"`
	// Repeated says that nothing was published, because its idempotency key had been used.
	Repeated bool `json:"repeated,omitempty"`
	// Code is the stable name of what went wrong. Message says what to do.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Retried is how many dead letters are tried again.
	Retried *int `json:"retried,omitempty"`
	// Changed, Settings and Mistakes say more about a reload: which settings have another value,
	// which of them need a restart, and what is wrong.
	Changed  []string `json:"changed,omitempty"`
	Settings []string `json:"settings,omitempty"`
	Mistakes []string `json:"mistakes,omitempty"`
}

// New returns the handler of the paths below /v1/ and /metrics/.
func New(o Options) http.Handler {
	log := o.Log.Named("api")
	mux := http.NewServeMux()
	calls, shown := o.paths()
	results := newResults(o.Registerer, calls, shown)
	g := &gate{publish: o.PublishKey, admin: o.AdminKey, local: o.Local}
	if g.publish == nil {
		g.publish = NewKey("")
	}
	if g.admin == nil {
		g.admin = NewKey("")
	}
	methods := make(map[string]string)
	open := func(path string) door {
		return door{path: path, gate: g, log: log, results: results.MustCurryWith(prometheus.Labels{"path": path})}
	}
	for _, c := range calls {
		methods[c.path] = http.MethodPost
		mux.Handle("POST "+c.path, &handler{door: open(c.path), call: c, tracer: o.Tracer})
	}
	for _, v := range shown {
		methods[v.path] = http.MethodGet
		mux.Handle("GET "+v.path, &viewer{door: open(v.path), view: v})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p := notFound
		if method, known := methods[r.URL.Path]; known {
			w.Header().Set("Allow", method)
			p = wrongMethod
		}
		send(w, p.status, p.result())
	})
	return mux
}

// paths returns the calls and the views that the options allow.
func (o *Options) paths() (calls []call, shown []view) {
	calls = []call{publishing(o.Publisher), revoking(o.Revoker)}
	if o.Reloader != nil {
		calls = append(calls, reloading(o.Reloader))
	}
	if o.Nodes != nil {
		shown = views(*o)
	}
	if o.Webhooks != nil {
		calls = append(calls, retryingWebhooks(o.Webhooks))
		shown = append(shown, showingWebhooks(o.Webhooks))
	}
	if o.Histories != nil {
		shown = append(shown, readingHistory(o.Histories))
	}
	if o.Presence != nil {
		shown = append(shown, showingPresence(o.Presence))
	}
	if o.Tasks != nil {
		shown = append(shown, countingTasks(o.Tasks))
	}
	return calls, shown
}

// door is what all paths have in common: who may use them, and what is counted and logged.
type door struct {
	path    string
	gate    *gate
	log     *zap.Logger
	results *prometheus.CounterVec // by code
}

// handler serves one call.
type handler struct {
	door

	call   call
	tracer *tracing.Tracer
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.gate.check(r, h.call.access); err != nil {
		p := h.call.problemOf(err)
		if p.status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		h.count(p.result())
		h.answer(w, r, p, nil, list(p.result()))
		return
	}
	ctx, span := h.traced(r.Context(), r.Header)
	defer span.End()
	var results []result
	body, err := readBody(w, r, h.call.maxBody)
	if err == nil {
		results, err = h.call.do(ctx, body)
	}
	done := problem{status: http.StatusOK}
	if err != nil {
		done = h.call.problemOf(err)
		if results == nil {
			results = []result{done.result()}
		}
	}
	span.Number("http.response.status_code", done.status)
	if done.status >= http.StatusInternalServerError {
		span.Fail(done.code)
	}
	h.count(results...)
	h.answer(w, r, done, err, h.call.body(results))
}

// traced begins the span of a call that was admitted. Its parent is the span that the caller names.
func (h *handler) traced(ctx context.Context, header http.Header) (context.Context, tracing.Span) {
	if h.tracer == nil {
		return ctx, tracing.Span{}
	}
	ctx, span := h.tracer.Start(tracing.FromHeader(ctx, header), "POST "+h.path, tracing.Server)
	span.Text("http.request.method", http.MethodPost)
	span.Text("http.route", h.path)
	return ctx, span
}

// count counts results.
func (h *door) count(results ...result) {
	for _, r := range results {
		h.results.WithLabelValues(cmp.Or(r.Code, codeOK)).Inc()
	}
}

// readBody reads a body of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadRequest, err)
	}
	return body, nil
}

// body returns what the answer to the call holds.
func (c call) body(results []result) any {
	if c.list {
		return list(results...)
	}
	return results[0]
}

// list returns the body of an answer that holds a list.
func list(results ...result) any {
	return struct {
		Results []result `json:"results"`
	}{results}
}

// answer sends the answer, and logs why if the request came to nothing.
func (h *door) answer(w http.ResponseWriter, r *http.Request, p problem, err error, body any) {
	send(w, p.status, body)
	switch {
	case p.status < http.StatusBadRequest:
	case p.status < http.StatusInternalServerError:
		h.note(r, zapcore.InfoLevel, "request refused", p)
	default:
		h.note(r, zapcore.WarnLevel, "request failed", p, zap.Error(err))
	}
}

// send sends an answer.
func send(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// note logs a request. The text of a refused one is the caller's own, and stays out of the log.
func (h *door) note(r *http.Request, level zapcore.Level, message string, p problem, more ...zap.Field) {
	h.log.Log(level, message, append(more,
		zap.String("path", h.path), zap.Int("status", p.status), zap.String("reason", p.code), zap.String("remote", r.RemoteAddr))...)
}
