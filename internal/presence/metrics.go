package presence

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	refused, shown, written, swept, malformed, failures prometheus.Counter
	listening                                           prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer, r *Room) *metrics {
	f := promauto.With(registerer)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "orgcast_presence_groups", Help: "Groups in which users of this node are present.",
	}, func() float64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return float64(len(r.machine.groups))
	})
	return &metrics{
		refused:   counter("orgcast_presence_refused_total", "Connections that do not count as present, because their organization has used up its bytes."),
		shown:     counter("orgcast_presence_frames_total", "Frames about presence, counted for each receiver."),
		written:   counter("orgcast_presence_written_total", "Fields of users that were written to Redis."),
		swept:     counter("orgcast_presence_swept_total", "Fields of users that nodes without a lease had left, and that this node removed."),
		malformed: counter("orgcast_presence_malformed_total", "Messages about presence that were ignored."),
		failures:  counter("orgcast_presence_failures_total", "Writes and reads of presence that failed; they are repeated."),
		listening: f.NewGauge(prometheus.GaugeOpts{Name: "orgcast_presence_up", Help: "1 while presence of other nodes reaches this node."}),
	}
}
