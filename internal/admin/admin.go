// Package admin is the private listener: it tells whether the process is alive and whether events
// flow, gives metrics and profiles, and passes on what back ends ask of the API. It answers also
// when the public port is full, and must never be reachable from outside.
package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check says why the process is not ready, or nil.
type Check func(ctx context.Context) error

// Options configure the private listener.
type Options struct {
	// Ready holds the checks of readiness by name. The process is ready if all return nil.
	Ready map[string]Check
	// Metrics is what /metrics shows. New registers orgcast_ready there.
	Metrics *prometheus.Registry
	// API handles the paths below /v1/ and /metrics/; nil leaves them out.
	API http.Handler
	// Console handles the paths below /console/; nil leaves them out.
	Console http.Handler
}

// checkTimeout bounds readiness: a check that takes longer has failed.
const checkTimeout = 2 * time.Second

// route is a path of the private listener, in the form of [http.ServeMux].
type route struct {
	pattern string
	handler http.Handler
}

// New returns the handler of the private listener.
func New(o Options) http.Handler {
	registerReady(o.Metrics, o.Ready)
	mux := http.NewServeMux()
	for _, r := range o.routes() {
		mux.Handle(r.pattern, r.handler)
	}
	return mux
}

// routes returns all paths.
func (o *Options) routes() []route {
	list := []route{
		{"GET /healthz", http.HandlerFunc(alive)},
		{"GET /readyz", http.HandlerFunc(o.ready)},
		{"GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{})},
		// Not cmdline: settings given as flags, secrets among them, stand there.
		{"GET /debug/pprof/", http.HandlerFunc(pprof.Index)},
		{"GET /debug/pprof/profile", http.HandlerFunc(pprof.Profile)},
		{"GET /debug/pprof/symbol", http.HandlerFunc(pprof.Symbol)},
		{"GET /debug/pprof/trace", http.HandlerFunc(pprof.Trace)},
	}
	if o.API != nil {
		list = append(list, route{"/v1/", o.API}, route{"/metrics/", o.API})
	}
	if o.Console != nil {
		toConsole := http.RedirectHandler("/console/", http.StatusFound)
		list = append(list, route{"/console/", http.StripPrefix("/console/", o.Console)}, route{"GET /console", toConsole}, route{"GET /{$}", toConsole})
	}
	return list
}

// alive answers GET /healthz.
func alive(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{"status": "alive"})
}

// ready answers GET /readyz.
func (o *Options) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	status := http.StatusOK
	report := map[string]string{}
	for name, check := range o.Ready {
		report[name] = "ok"
		if err := check(ctx); err != nil {
			report[name] = err.Error() // operators read this, not browsers
			status = http.StatusServiceUnavailable
		}
	}
	answer(w, status, report)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
