package lease

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// How the Keeper learned that a connection must end: label by of orgcast_leases_ended_total.
const (
	byAnnouncement = "announcement"
	byCheck        = "check"
	byDeadline     = "deadline"
)

// Labels of orgcast_control_messages_total for payloads that are not messages.
const (
	labelUnknown   = "unknown"
	labelMalformed = "malformed"
)

type metrics struct {
	endings     *prometheus.CounterVec
	endTime     prometheus.Histogram
	confirmed   prometheus.Counter
	unavailable prometheus.Counter
	seconds     prometheus.Gauge
	messages    *prometheus.CounterVec
	up          prometheus.Gauge
	reconnects  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	checks := f.NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_lease_checks_total",
		Help: "Open connections that session store and directory were asked about again, by result.",
	}, []string{"result"})
	messages := f.NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_control_messages_total",
		Help: "Messages received on the control channel, by type.",
	}, []string{"type"})
	messages.WithLabelValues(labelMalformed) // start at 0, so that the first raises an alert
	endings := f.NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_leases_ended_total",
		Help: "Connections ended because they may not stay, by reason and by how that was found out.",
	}, []string{"reason", "by"})
	for _, by := range []string{byAnnouncement, byCheck} {
		for _, cause := range []error{ErrSessionEnded, ErrSwitched, ErrNotAllowed, ErrRoleChanged} {
			endings.WithLabelValues(reasonOf(cause), by)
		}
	}
	endings.WithLabelValues(reasonOf(ErrSessionStale), byCheck)
	endings.WithLabelValues(reasonOf(UnconfirmedError{}), byDeadline)
	return &metrics{
		messages: messages,
		endings:  endings,
		endTime: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "orgcast_lease_end_seconds",
			Help:    "Time from when the node learned that a connection must end to its closed socket.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}),
		confirmed:   checks.WithLabelValues("confirmed"),
		unavailable: checks.WithLabelValues("unavailable"),
		seconds: f.NewGauge(prometheus.GaugeOpts{
			Name: "orgcast_lease_check_seconds",
			Help: "Time that the last batch of such questions took.",
		}),
		up: f.NewGauge(prometheus.GaugeOpts{
			Name: "orgcast_control_up",
			Help: "1 while announcements on the control channel reach this node.",
		}),
		reconnects: f.NewCounter(prometheus.CounterOpts{
			Name: "orgcast_control_reconnects_total",
			Help: "Times the connection to the control channel was opened again after a loss.",
		}),
	}
}

// ended counts a connection that is being ended.
func (m *metrics) ended(cause error, by string) { m.endings.WithLabelValues(reasonOf(cause), by).Inc() }

// reasonOf returns the label of a cause.
func reasonOf(cause error) string {
	switch {
	case errors.Is(cause, ErrSessionEnded):
		return "session_ended"
	case errors.Is(cause, ErrSessionStale):
		return "session_stale"
	case errors.Is(cause, ErrSwitched):
		return "switched"
	case errors.Is(cause, ErrNotAllowed):
		return "not_allowed"
	case errors.Is(cause, ErrRoleChanged):
		return "role_changed"
	default:
		return "unconfirmed"
	}
}

// closed notes that a connection's socket is closed, some time after it was clear that it must end.
func (m *metrics) closed(took time.Duration) { m.endTime.Observe(took.Seconds()) }
