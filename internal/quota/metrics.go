package quota

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct{ unrecorded prometheus.Counter }

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{unrecorded: promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "orgcast_quota_unrecorded_total",
		Help: "Connections admitted within a part of their organization's limit because Redis refused to record them.",
	})}
}
