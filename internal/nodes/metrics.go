package nodes

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Results of questions of other nodes.
const (
	resultAnswered  = "answered"
	resultFailed    = "failed"
	resultDropped   = "dropped"
	resultMalformed = "malformed"
)

type metrics struct {
	questions *prometheus.CounterVec
	listening prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	m := &metrics{
		questions: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_questions_total", Help: "Questions of other nodes, by result.",
		}, []string{"result"}),
		listening: f.NewGauge(prometheus.GaugeOpts{Name: "orgcast_questions_up", Help: "1 while questions of other nodes reach this node."}),
	}
	for _, result := range []string{resultAnswered, resultFailed, resultDropped, resultMalformed} {
		m.questions.WithLabelValues(result)
	}
	return m
}
