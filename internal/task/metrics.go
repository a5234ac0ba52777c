package task

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type dispatchMetrics struct {
	dispatched *prometheus.CounterVec
}

// newDispatchMetrics makes the metrics and registers them with reg unless that is nil.
func newDispatchMetrics(reg prometheus.Registerer) *dispatchMetrics {
	return &dispatchMetrics{dispatched: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_tasks_dispatched_total",
		Help: "Tasks that this process dispatched, by result.",
	}, []string{"result"})}
}

// The kinds are those that a worker has handlers for, so there are few.
type workerMetrics struct {
	attempts  *prometheus.CounterVec
	ended     *prometheus.CounterVec
	refused   *prometheus.CounterVec
	takenOver *prometheus.CounterVec
	running   *prometheus.GaugeVec
	seconds   *prometheus.HistogramVec
}

// newWorkerMetrics makes the metrics and registers them with reg unless that is nil.
func newWorkerMetrics(reg prometheus.Registerer, kinds map[string]Kind) *workerMetrics {
	f := promauto.With(reg)
	m := &workerMetrics{
		attempts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_task_attempts_total",
			Help: "Runs of handlers, by how they ended.",
		}, []string{"kind", "result"}),
		ended: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_tasks_ended_total",
			Help: "Tasks that this worker brought to an end, by outcome.",
		}, []string{"kind", "outcome"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_tasks_refused_total",
			Help: "Entries that were dead-lettered without running, by reason.",
		}, []string{"kind", "reason"}),
		takenOver: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_tasks_taken_over_total",
			Help: "Entries claimed again: retries that are due, and those of workers that are gone.",
		}, []string{"kind"}),
		running: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "orgcast_tasks_running",
			Help: "Handlers that run now.",
		}, []string{"kind"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "orgcast_task_seconds",
			Help:    "Time of each run of a handler.",
			Buckets: []float64{.01, .1, 1, 10, 60, 300, 1800},
		}, []string{"kind"}),
	}
	// There from the start, or the first failure and the first refusal would raise no alert.
	for kind := range kinds {
		m.ended.WithLabelValues(kind, "failed")
		for _, reason := range []string{"no_organization", "organization_unknown", "organization_suspended", "malformed"} {
			m.refused.WithLabelValues(kind, reason)
		}
	}
	return m
}
