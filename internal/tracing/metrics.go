package tracing

import "github.com/prometheus/client_golang/prometheus"

// Reasons for dropped spans.
const (
	dropQueueFull = "queue_full"    // the collector takes them slower than they come
	dropExport    = "export_failed" // the collector refused them, or did not answer
	dropShutdown  = "shutdown"      // the process ended first
	dropOpen      = "too_many_open" // too many deliveries are under way
)

type metrics struct {
	exported prometheus.Counter
	dropped  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		exported: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_trace_spans_exported_total", Help: "Spans that the OpenTelemetry collector took.",
		}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_trace_spans_dropped_total", Help: "Spans that were not sent, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{dropQueueFull, dropExport, dropShutdown, dropOpen} {
		m.dropped.WithLabelValues(reason)
	}
	if reg != nil {
		reg.MustRegister(m.exported, m.dropped)
	}
	return m
}

func (m *metrics) drop(reason string, n int) { m.dropped.WithLabelValues(reason).Add(float64(n)) }
