package journal

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Register adds the counters of dropped lines to reg.
func (w *Writer) Register(reg prometheus.Registerer) {
	for reason, n := range map[string]*atomic.Uint64{
		"full":    &w.full,    // the reader is slow or stuck
		"failed":  &w.failed,  // the reader has exited, or the disk is full
		"sampled": &w.sampled, // one organization caused too many for one reason
	} {
		promauto.With(reg).NewCounterFunc(prometheus.CounterOpts{
			Name: "orgcast_log_dropped_total", Help: "Log lines that were not written, by reason.",
			ConstLabels: prometheus.Labels{"reason": reason},
		}, func() float64 { return float64(n.Load()) })
	}
}
