package hub

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	groups  *atomic.Int64
	dropped prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	m := &metrics{
		groups: new(atomic.Int64),
		dropped: f.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_intake_dropped_total", Help: "Events dropped because too many of their organization were waiting; their groups were told of a gap.",
		}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "orgcast_groups", Help: "Groups with members on this node."},
		func() float64 { return float64(m.groups.Load()) })
	return m
}
