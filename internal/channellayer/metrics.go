package channellayer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"orgcast/internal/channellayer/wire"
	"orgcast/internal/event"
)

type metrics struct {
	received   prometheus.Counter
	dropped    *prometheus.CounterVec
	gaps       prometheus.Counter
	reconnects prometheus.Counter
}

// newMetrics creates the metrics and registers them with reg unless reg is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		received: f.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_channel_layer_messages_total",
			Help: "Messages received from the channel layer of a Django site.",
		}),
		dropped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_channel_layer_dropped_total",
			Help: "Messages of the channel layer that were dropped, by reason.",
		}, []string{"reason"}),
		gaps: f.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_channel_layer_gaps_total",
			Help: "Gaps that groups were told of because events of the channel layer may have been lost.",
		}),
		reconnects: f.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_channel_layer_reconnects_total",
			Help: "Times the connection to the channel layer was opened again after a loss.",
		}),
	}
	// Start each reason at 0, or the first drop would not raise an alert.
	for _, err := range append(event.DecodeErrors(), wire.ErrToken, wire.ErrMalformed, wire.ErrNotJSON, wire.ErrTooLarge) {
		reason := wire.Reason(err)
		if reason == "" {
			reason = event.Reason(err)
		}
		m.dropped.WithLabelValues(reason)
	}
	m.dropped.WithLabelValues(reasonRate)
	m.dropped.WithLabelValues(reasonUnwanted)
	return m
}

// registerGroups registers how many groups there are.
func (m *metrics) registerGroups(reg prometheus.Registerer, count func() int) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "orgcast_channel_layer_groups",
		Help: "Groups of the channel layer that this node wants to be a member of.",
	}, func() float64 { return float64(count()) })
}

func (m *metrics) drop(reason string) { m.dropped.WithLabelValues(reason).Inc() }
