package app

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Results of a reload.
const (
	reloadOK     = "ok"
	reloadFailed = "failed"
)

// newBuildInfo registers a metric that says which build this is.
func newBuildInfo(reg prometheus.Registerer, b Build) {
	b = b.Complete()
	labels := prometheus.Labels{"version": b.Version, "revision": b.Revision, "go_version": runtime.Version()}
	promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "orgcast_build_info", Help: "Always 1. Its labels say which build this process runs.", ConstLabels: labels,
	}).Set(1)
}

// reloadMetrics count reloads by their result.
type reloadMetrics struct{ reloads, certificates *prometheus.CounterVec }

func newReloadMetrics(reg prometheus.Registerer) *reloadMetrics {
	count := func(name, help string) *prometheus.CounterVec {
		c := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"result"})
		for _, result := range []string{reloadOK, reloadFailed} {
			c.WithLabelValues(result) // start at 0, or the first failure would not raise an alert
		}
		return c
	}
	return &reloadMetrics{
		reloads:      count("orgcast_reloads_total", "Reloads of settings and files after SIGHUP or POST /v1/reload, by result."),
		certificates: count("orgcast_certificate_reloads_total", "Reloads of certificates because their files had changed, by result."),
	}
}

// newAskedMetric returns a function that counts the cookies about which the web application is
// asked.
func newAskedMetric(reg prometheus.Registerer) func(cookies int) {
	asked := promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "orgcast_session_cookies_asked_total", Help: "Cookies that the web application was asked about, with --session-store=http.",
	})
	return func(cookies int) { asked.Add(float64(cookies)) }
}

// newExpiryMetric registers when the certificate of the public listener expires.
func newExpiryMetric(reg prometheus.Registerer, expiry func() float64) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "orgcast_certificate_expiry_timestamp_seconds", Help: "When the certificate of the public listener expires, in Unix seconds.",
	}, expiry)
}
