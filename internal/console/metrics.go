package console

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// codeOK is the label of what succeeded.
const codeOK = "ok"

// newResults returns the counter of what became of requests. It has every label from the start.
func newResults(reg prometheus.Registerer) *prometheus.CounterVec {
	results := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_console_requests_total",
		Help: "Requests of the page for organizations' administrators, by code.",
	}, []string{"code"})
	results.WithLabelValues(codeOK)
	for _, p := range problems() {
		results.WithLabelValues(p.code)
	}
	return results
}
