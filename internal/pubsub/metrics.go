package pubsub

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"orgcast/internal/event"
)

// Reasons of orgcast_events_dropped_total in addition to those of event.Reason.
const (
	reasonUnwanted = "unwanted" // its group is no longer wanted on this node
	reasonPanic    = "panic"    // decoding panicked
	// reasonRate: the organization publishes more than this node takes from one organization.
	reasonRate = "organization_rate"
	// reasonRepeated: it was delivered before, under the same idempotency key and another position.
	reasonRepeated = "repeated"
)

type metrics struct {
	received   prometheus.Counter
	dropped    *prometheus.CounterVec
	unwanted   prometheus.Counter // a counter of dropped, like shed and repeated, as these can be many
	shed       prometheus.Counter
	repeated   prometheus.Counter
	reconnects prometheus.Counter
	caughtUp   prometheus.Counter
	gaps       prometheus.Counter
	paused     prometheus.Gauge
	groups     prometheus.Gauge
	canary     prometheus.Gauge
}

// newMetrics creates the metrics and registers them with reg unless reg is nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		received: f.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_events_received_total",
			Help: "Events received from the bus and handed to the hub.",
		}),
		dropped: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_events_dropped_total",
			Help: "Payloads received from the bus and dropped, by reason.",
		}, []string{"reason"}),
		reconnects: f.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_bus_reconnects_total",
			Help: "Times the subscription connection was opened again after a loss.",
		}),
		caughtUp: f.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_bus_caught_up_total",
			Help: "Events missed on the subscription connection and read from histories instead.",
		}),
		gaps: f.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_bus_gaps_total",
			Help: "Gaps that groups were told of because events may have been lost for good.",
		}),
		groups: f.NewGauge(prometheus.GaugeOpts{
			Name: "orgcast_bus_groups",
			Help: "Groups that this node wants to be subscribed to.",
		}),
		paused: f.NewGauge(prometheus.GaugeOpts{
			Name: "orgcast_bus_paused_groups",
			Help: "Groups that are not subscribed for a while because their organization publishes too much.",
		}),
		canary: f.NewGauge(prometheus.GaugeOpts{
			Name: "orgcast_bus_canary_seconds",
			Help: "Last round trip of a message from this node through the bus to itself.",
		}),
	}
	// Start each reason at 0. A counter that first appears with 1 shows no increase, so the first
	// drop would not raise an alert.
	for _, err := range event.DecodeErrors() {
		m.dropped.WithLabelValues(event.Reason(err))
	}
	m.dropped.WithLabelValues(reasonPanic)
	m.unwanted = m.dropped.WithLabelValues(reasonUnwanted)
	m.shed = m.dropped.WithLabelValues(reasonRate)
	m.repeated = m.dropped.WithLabelValues(reasonRepeated)
	return m
}

// publishMetrics are the metrics of a [Publisher].
type publishMetrics struct {
	published, failed prometheus.Counter
	refused           map[string]prometheus.Counter // by reason
	seconds           prometheus.Histogram
}

// newPublishMetrics creates the metrics and registers them with reg unless reg is nil.
func newPublishMetrics(reg prometheus.Registerer) *publishMetrics {
	f := promauto.With(reg)
	m := &publishMetrics{
		published: f.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_events_published_total",
			Help: "Events that this process published.",
		}),
		failed: f.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_events_publish_failed_total",
			Help: "Events that this process tried to publish and Redis did not confirm.",
		}),
		refused: make(map[string]prometheus.Counter),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "orgcast_publish_seconds",
			Help:    "Time that Redis took to publish the events of one call.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5},
		}),
	}
	refused := f.NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_events_publish_refused_total",
		Help: "Events that this process did not publish because they are invalid, by reason.",
	}, []string{"reason"})
	for _, err := range append(event.DecodeErrors(), event.ErrInvalidIdempotencyKey) {
		m.refused[event.Reason(err)] = refused.WithLabelValues(event.Reason(err))
	}
	return m
}

// count counts one event, with the error of its publication.
func (m *publishMetrics) count(err error) {
	switch refused := m.refused[event.Reason(err)]; {
	case err == nil:
		m.published.Inc()
	case refused != nil:
		refused.Inc()
	default:
		m.failed.Inc()
	}
}
