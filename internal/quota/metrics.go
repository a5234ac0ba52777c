package quota

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct{ unrecorded prometheus.Counter }

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{unrecorded: promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "orgcast_quota_unrecorded_total",
		Help: "Connections admitted although Redis refused to record them.",
	})}
}

// newRefused creates the counter of refusals and registers it with reg unless reg is nil.
func newRefused(reg prometheus.Registerer) *prometheus.CounterVec {
	refused := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_member_bytes_refused_total",
		Help: "Messages from browsers refused because the byte limit of their organization or user was reached, by bucket.",
	}, []string{"bucket"})
	for _, bucket := range []string{"organization", "user"} {
		refused.WithLabelValues(bucket) // a counter that first appears with 1 raises no alert
	}
	return refused
}
