package gateway

import (
	"math/bits"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"orgcast/internal/socket"
)

// metrics of the delivery path are plain atomic counters, because every delivery adds to them. They
// are collected when the metrics are read.
type metrics struct {
	connections prometheus.Gauge
	accepted    prometheus.Histogram
	refused     *prometheus.CounterVec
	closed      *prometheus.CounterVec
	frames      prometheus.Counter
	panics      prometheus.Counter
	turnedAway  *prometheus.CounterVec
	httpErrors  *prometheus.CounterVec
	factory     promauto.Factory

	historyWaiting prometheus.Gauge
	historyWait    prometheus.Histogram

	deliveries atomic.Uint64
	violations atomic.Uint64
	latency    latency
	intakeFull atomic.Uint64

	// Frames from browsers that no consumer handled: the time for them ran out, or the connection
	// was ended.
	framesOverdue, framesEnded atomic.Uint64

	// dropped counts events that did not reach a connection, by what happened instead.
	dropped [dropReasons]atomic.Uint64
}

func newMetrics(r prometheus.Registerer, queued, received func() float64) *metrics {
	f := promauto.With(r)
	m := &metrics{
		connections: f.NewGauge(prometheus.GaugeOpts{Name: "orgcast_connections", Help: "Open connections."}),
		accepted: f.NewHistogram(prometheus.HistogramOpts{
			Name: "orgcast_handshake_seconds", Help: "Time from an accepted request to its served connection.",
			Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_connections_refused_total", Help: "Requests refused before the upgrade, by reason.",
		}, []string{"reason"}),
		closed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "orgcast_connections_closed_total", Help: "Connections ended, by close code.",
		}, []string{"code"}),
		frames: f.NewCounter(prometheus.CounterOpts{Name: "orgcast_frames_received_total", Help: "Frames received from browsers."}),
		panics: f.NewCounter(prometheus.CounterOpts{Name: "orgcast_hook_panics_total", Help: "Panics in hooks; each ended one connection."}),
	}
	m.factory = f
	m.turnedAway = f.NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_sockets_closed_total",
		Help: "Sockets of the public listener closed before they became connections, because the open files for it were used up.",
	}, []string{"reason"})
	m.httpErrors = f.NewCounterVec(prometheus.CounterOpts{
		Name: "orgcast_http_errors_total", Help: "Failures on the public listener outside handshakes: TLS, accept, panics outside hooks.",
	}, []string{"reason"})
	m.historyWaiting = f.NewGauge(prometheus.GaugeOpts{Name: "orgcast_history_waiting", Help: "Connections that wait for their turn to read a history."})
	m.historyWait = f.NewHistogram(prometheus.HistogramOpts{
		Name: "orgcast_history_wait_seconds", Help: "Time that connections waited for their turn to read a history.",
		Buckets: []float64{0.001, 0.01, 0.1, 1, 10, 60},
	})
	for _, reason := range []string{"full", "gave_way"} {
		m.turnedAway.WithLabelValues(reason)
	}
	for _, reason := range []string{"tls", "accept", "panic", "other"} {
		m.httpErrors.WithLabelValues(reason)
	}
	for _, c := range causes {
		m.refused.WithLabelValues(c.refusal().name) // there from the start, or the first one would raise no alert
	}
	counter := func(name, help string, labels prometheus.Labels, n *atomic.Uint64) {
		f.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(n.Load()) })
	}
	for reason, n := range map[string]*atomic.Uint64{"timeout": &m.framesOverdue, "ended": &m.framesEnded} {
		counter("orgcast_frames_dropped_total",
			"Frames received from browsers and not handled: --hook-timeout ran out after the browser had left, or the connection was ended first.",
			prometheus.Labels{"reason": reason}, n)
	}
	counter("orgcast_deliveries_total", "Events written to connections.", nil, &m.deliveries)
	for reason := range dropReasons {
		counter("orgcast_deliveries_dropped_total",
			"Events not written to a connection that had joined their group, by the policy that applied; too_slow counts the connections ended.",
			prometheus.Labels{"reason": reason.String()}, &m.dropped[reason])
	}
	counter("orgcast_isolation_violations_total",
		"Events, frames and console rows of another organization stopped by the last comparison. Anything but 0 is a fault of the gateway.", nil, &m.violations)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "orgcast_queue_bytes", Help: "Bytes queued for connections."}, queued)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "orgcast_receive_bytes", Help: "Bytes of messages from browsers that consumers have not handled yet."}, received)
	counter("orgcast_receive_refused_total", "Connections closed because their organization's receive budget was used up.", nil, &m.intakeFull)
	if r != nil {
		r.MustRegister(&m.latency)
	}
	return m
}

// strangers shows how many sockets are not connections.
func (m *metrics) strangers(count func() float64) {
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "orgcast_handshake_sockets", Help: "Sockets of the public listener that are not connections, or not yet.",
	}, count)
}

// wrote counts events that were written to one connection together. took is the time since the
// arrival of the oldest.
func (m *metrics) wrote(events int, took time.Duration) {
	m.deliveries.Add(uint64(events)) //nolint:gosec // it is not negative
	m.latency.observe(took)
}

// latency is a histogram with powers of two as bounds, so that an observation is one addition.
type latency struct {
	counts [latencyBuckets + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

const (
	latencyBuckets = 20
	latencyShift   = 14 // the first bound is 2^14 ns, about 16 µs; the last 2^33 ns, about 9 s
)

func (l *latency) observe(d time.Duration) {
	d = max(d, 0)
	i := bits.Len64(uint64(d) >> latencyShift)
	l.counts[min(i, latencyBuckets)].Add(1)
	l.sum.Add(int64(d))
}

// latencyDescription is made once, because a Desc is expensive to make.
var latencyDescription = prometheus.NewDesc("orgcast_delivery_seconds", //nolint:gochecknoglobals // constant
	"Time from the arrival of an event at this node to its write to a connection; of events written together, the oldest.", nil, nil)

// Describe implements prometheus.Collector.
func (*latency) Describe(ch chan<- *prometheus.Desc) { ch <- latencyDescription }

// Collect implements prometheus.Collector.
func (l *latency) Collect(ch chan<- prometheus.Metric) {
	buckets := make(map[float64]uint64, latencyBuckets)
	var total uint64
	for i := range latencyBuckets {
		total += l.counts[i].Load()
		buckets[float64(uint64(1)<<(latencyShift+i))/float64(time.Second)] = total
	}
	total += l.counts[latencyBuckets].Load()
	ch <- prometheus.MustNewConstHistogram(latencyDescription, total, time.Duration(l.sum.Load()).Seconds(), buckets)
}

// closeLabel names a close code.
func closeLabel(code socket.StatusCode) string { return strconv.Itoa(int(code)) }

// violated counts an isolation violation. All code that finds one must call it: readiness depends
// on the count.
func (h *host) violated() {
	if h.metrics.violations.Add(1) == 1 && h.options.Violated != nil {
		h.options.Violated()
	}
}

// Violated counts an isolation violation that another part of the node prevented.
func (s *Server) Violated() { s.now.Load().violated() }

// Violations returns how many foreign events, frames and rows the last comparisons have stopped. It
// stays 0.
func (s *Server) Violations() uint64 { return s.metrics.violations.Load() }
