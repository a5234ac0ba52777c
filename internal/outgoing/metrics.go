package outgoing

import (
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of all calls.
type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_outgoing_calls_total", Help: "HTTP calls to other programs, by purpose and result.",
		}, []string{"purpose", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "orgcast_outgoing_call_seconds", Help: "Duration of HTTP calls to other programs, including the wait for their turn.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"purpose"}),
	}
	if r != nil {
		r.MustRegister(m.calls, m.seconds)
	}
	return m
}

func (m *metrics) observe(purpose, result string, took time.Duration) {
	m.calls.WithLabelValues(purpose, result).Inc()
	m.seconds.WithLabelValues(purpose).Observe(took.Seconds())
}

// resultOf returns the metric label of what came of a call.
func resultOf(a Answer, err error) string {
	switch {
	case err == nil && a.Status < http.StatusInternalServerError:
		return "answered"
	case err == nil:
		return "server_error"
	case errors.Is(err, ErrCircuitOpen):
		return "circuit_open"
	case errors.Is(err, ErrBusy):
		return "busy"
	case errors.Is(err, ErrTimeout):
		return "timeout"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	case errors.Is(err, ErrPrivateAddress):
		return "private_address"
	case errors.Is(err, ErrAbandoned):
		return "abandoned"
	default:
		return "unreachable"
	}
}
