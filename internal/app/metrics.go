package app

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Results of a reload.
const (
	reloadOK     = "ok"
	reloadFailed = "failed"
)

func newReloadCounter(reg prometheus.Registerer) *prometheus.CounterVec {
	count := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_reloads_total", Help: "Reloads of certificates, keys and passwords after SIGHUP, by result.",
	}, []string{"result"})
	for _, result := range []string{reloadOK, reloadFailed} {
		count.WithLabelValues(result) // exported from the start, or the first failure would raise no alert
	}
	return count
}

// newAskedMetric returns what counts the cookies that the web application is asked about.
func newAskedMetric(reg prometheus.Registerer) func(cookies int) {
	asked := promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "orgcast_session_cookies_asked_total", Help: "Cookies that the web application was asked about, with --session-store=http.",
	})
	return func(cookies int) { asked.Add(float64(cookies)) }
}
