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

// New returns the handler of the private listener.
func New(o Options) http.Handler {
	registerReady(o.Metrics, o.Ready)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
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
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	// Not cmdline: settings given as flags, secrets among them, stand there.
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	if o.API != nil {
		mux.Handle("/v1/", o.API)
		mux.Handle("/metrics/", o.API)
	}
	if o.Console != nil {
		mux.Handle("/console/", http.StripPrefix("/console/", o.Console))
		mux.Handle("GET /console", http.RedirectHandler("/console/", http.StatusFound))
		mux.Handle("GET /{$}", http.RedirectHandler("/console/", http.StatusFound))
	}
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
