package api

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// codeOK is the label of what succeeded.
const codeOK = "ok"

// codeBadRequest is the code of a request that is not in the form of its call.
const codeBadRequest = "bad_request"

// newResults returns the counter of what became of requests and their parts. It has every label of
// the paths from the start, so that the first failure shows as an increase.
func newResults(reg prometheus.Registerer, calls []call, shown []view) *prometheus.CounterVec {
	results := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_api_results_total",
		Help: "Results of requests to the HTTP API, one for each event of a request, by path and code.",
	}, []string{"path", "code"})
	for _, c := range calls {
		results.WithLabelValues(c.path, codeOK)
		for _, p := range append(doors(c.access), c.problems...) {
			results.WithLabelValues(c.path, p.code)
		}
	}
	for _, v := range shown {
		results.WithLabelValues(v.path, codeOK)
		for _, p := range append(doors(v.access()), v.problems()...) {
			results.WithLabelValues(v.path, p.code)
		}
	}
	return results
}
