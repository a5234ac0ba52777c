package webhook

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Where webhooks are dropped.
const (
	dropMemory = "memory" // on this node, while Redis takes none
	dropFull   = "full"   // the lines of the organization are full
)

type recorderMetrics struct {
	written *prometheus.CounterVec
	dropped *prometheus.CounterVec
}

func newRecorderMetrics(reg prometheus.Registerer) *recorderMetrics {
	m := &recorderMetrics{
		written: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_webhooks_total", Help: "Webhooks that this node has put into the lines of their organizations, by type.",
		}, []string{"type"}),
		dropped: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_webhooks_dropped_total", Help: "Webhooks that were dropped for want of room, by where.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{dropMemory, dropFull} {
		m.dropped.WithLabelValues(reason)
	}
	return m
}

// Results of deliveries.
const (
	resultDelivered = "delivered"
	resultFailed    = "failed" // and is tried again
	resultDead      = "dead"
)

type delivererMetrics struct {
	deliveries *prometheus.CounterVec
	seconds    prometheus.Histogram
}

func newDelivererMetrics(reg prometheus.Registerer) *delivererMetrics {
	m := &delivererMetrics{
		deliveries: promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_webhook_deliveries_total", Help: "Attempts of this node to deliver webhooks, by result.",
		}, []string{"result"}),
		seconds: promauto.With(reg).NewHistogram(prometheus.HistogramOpts{
			Name: "orgcast_webhook_delivery_seconds", Help: "Time from what a webhook tells of to its delivery.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 30, 300, 3600, 86400},
		}),
	}
	for _, result := range []string{resultDelivered, resultFailed, resultDead} {
		m.deliveries.WithLabelValues(result)
	}
	return m
}

// counts reads the numbers when the metrics are read.
type counts struct {
	*Deliverer

	webhooks, bytes *prometheus.Desc
}

func newCounts(d *Deliverer) *counts {
	return &counts{
		Deliverer: d,
		webhooks:  prometheus.NewDesc("orgcast_webhooks", "Webhooks of all nodes, by where they are: waiting, or dead.", []string{"state"}, nil),
		bytes:     prometheus.NewDesc("orgcast_webhooks_waiting_bytes", "Bytes of the webhooks that wait.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *counts) Describe(to chan<- *prometheus.Desc) { to <- c.webhooks; to <- c.bytes }

// Collect implements prometheus.Collector. While Redis does not answer, there are no counts.
func (c *counts) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countsTimeout)
	defer cancel()
	n, err := count(ctx, c.scripts.counts, c.client, c.ring)
	if err != nil {
		c.log("cannot count webhooks", err)
		return
	}
	to <- prometheus.MustNewConstMetric(c.webhooks, prometheus.GaugeValue, float64(n.Waiting), "waiting")
	to <- prometheus.MustNewConstMetric(c.webhooks, prometheus.GaugeValue, float64(n.Dead), "dead")
	to <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(n.WaitingBytes))
}

// countsTimeout bounds counting for metrics, so that a slow Redis does not suppress the others.
const countsTimeout = 2 * time.Second
