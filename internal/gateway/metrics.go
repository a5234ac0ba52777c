package gateway

import (
	"strconv"
	"sync/atomic"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Why an event did not reach a connection that had joined its group.
const dropTooSlow = "too_slow"

type metrics struct {
	connections prometheus.Gauge
	refused     *prometheus.CounterVec
	closed      *prometheus.CounterVec
	deliveries  prometheus.Counter
	drops       *prometheus.CounterVec
	violations  *atomic.Uint64
	latency     prometheus.Histogram
	frames      prometheus.Counter
	panics      prometheus.Counter
	queuedBytes gauge
}

// gauge is a counter that many writers move; a prometheus.Gauge costs a loop over floats.
type gauge struct{ n *atomic.Int64 }

func (g gauge) add(n int) { g.n.Add(int64(n)) }

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	m := &metrics{
		connections: f.NewGauge(prometheus.GaugeOpts{Name: "orgcast_connections", Help: "Open connections."}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_connections_refused_total", Help: "Requests refused before the upgrade, by reason.",
		}, []string{"reason"}),
		closed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_connections_closed_total", Help: "Connections ended, by close code.",
		}, []string{"code"}),
		deliveries: f.NewCounter(prometheus.CounterOpts{Name: "orgcast_deliveries_total", Help: "Events written to connections."}),
		drops: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_deliveries_dropped_total", Help: "Events not written to a connection that had joined their group, by reason.",
		}, []string{"reason"}),
		violations: new(atomic.Uint64),
		latency: f.NewHistogram(prometheus.HistogramOpts{
			Name: "orgcast_delivery_seconds", Help: "Time from the arrival of an event at this node to its write to a connection; of events written together, the oldest.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
		frames:      f.NewCounter(prometheus.CounterOpts{Name: "orgcast_frames_received_total", Help: "Frames received from browsers."}),
		panics:      f.NewCounter(prometheus.CounterOpts{Name: "orgcast_hook_panics_total", Help: "Panics in hooks; each ended one connection."}),
		queuedBytes: gauge{n: new(atomic.Int64)},
	}
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "orgcast_isolation_violations_total",
		Help: "Events of another organization stopped by the last comparison before writing. Anything but 0 is a fault of the gateway.",
	}, func() float64 { return float64(m.violations.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "orgcast_queue_bytes", Help: "Bytes queued for connections."},
		func() float64 { return float64(m.queuedBytes.n.Load()) })
	return m
}

// closeLabel names a close code.
func closeLabel(code websocket.StatusCode) string { return strconv.Itoa(int(code)) }

// Violations returns how many foreign events the last comparison has stopped. It stays 0.
func (s *Server) Violations() uint64 { return s.metrics.violations.Load() }
