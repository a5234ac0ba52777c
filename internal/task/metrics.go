package task

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"
)

type dispatchMetrics struct {
	dispatched *prometheus.CounterVec
}

// newDispatchMetrics creates the metrics and registers them with reg unless reg is nil.
func newDispatchMetrics(reg prometheus.Registerer) *dispatchMetrics {
	return &dispatchMetrics{dispatched: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_tasks_dispatched_total",
		Help: "Tasks that this process dispatched, by result.",
	}, []string{"result"})}
}

// counts reads the number of tasks of each kind when the metrics are read.
type counts struct {
	*Worker

	tasks, bytes *prometheus.Desc
}

// registerCounts registers the counts with reg unless reg is nil.
func (w *Worker) registerCounts(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	return reg.Register(&counts{
		Worker: w,
		tasks:  prometheus.NewDesc("orgcast_tasks", "Tasks of all workers, by where they are.", []string{"kind", "state"}, nil),
		bytes:  prometheus.NewDesc("orgcast_tasks_waiting_bytes", "Bytes of the tasks that wait in lines.", []string{"kind"}, nil),
	})
}

// Describe implements prometheus.Collector.
func (c *counts) Describe(to chan<- *prometheus.Desc) { to <- c.tasks; to <- c.bytes }

// Collect implements prometheus.Collector. While Redis does not answer, there are no counts.
func (c *counts) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countsTimeout)
	defer cancel()
	for kind := range c.kinds {
		n, err := countTasks(ctx, c.client, c.keys, kind)
		if err != nil {
			c.opt.Log.Warn("cannot count tasks", zap.String("kind", kind), zap.Error(err))
			return
		}
		to <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(n.WaitingBytes), kind)
		for state, number := range map[string]int64{Waiting: n.Waiting, Unread: max(n.Open-n.Held, 0), Held: n.Held, Dead: n.Dead} {
			to <- prometheus.MustNewConstMetric(c.tasks, prometheus.GaugeValue, float64(number), kind, state)
		}
	}
}

// countsTimeout bounds counting for metrics, so that a slow Redis does not suppress the other
// metrics.
const countsTimeout = 2 * time.Second

// The kinds are those for which a worker has handlers, so there are few.
type workerMetrics struct {
	attempts  *prometheus.CounterVec
	ended     *prometheus.CounterVec
	refused   *prometheus.CounterVec
	takenOver *prometheus.CounterVec
	running   *prometheus.GaugeVec
	seconds   *prometheus.HistogramVec
	waited    *prometheus.HistogramVec
}

// newWorkerMetrics creates the metrics and registers them with reg unless reg is nil.
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
		waited: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "orgcast_task_wait_seconds",
			Help:    "Time from the dispatch of a task to its first run, by the clocks of Redis and of this worker.",
			Buckets: []float64{.01, .05, .1, 1, 10, 60, 600, 3600, 86400},
		}, []string{"kind"}),
	}
	// Start these at 0, or the first failure and the first refusal would raise no alert.
	for kind := range kinds {
		m.ended.WithLabelValues(kind, "failed")
		for _, reason := range []string{"no_organization", "organization_unknown", "organization_suspended", "malformed"} {
			m.refused.WithLabelValues(kind, reason)
		}
	}
	return m
}
