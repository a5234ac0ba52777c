package webhook_test

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/outgoing"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
	"orgcast/internal/webhook"
)

const master = "the master key of these tests, of 32 bytes or more"

// delivery is one call that reached the receiver.
type delivery struct {
	ID, Body, Signature string
	Header              http.Header
	Type                webhook.Type
	Organization        string
	User, Conn          string
	Group, Cause        string
	Answered            int
}

// receiver is a real HTTP server that remembers all calls.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	calls  []delivery
	answer func(d *delivery, n int) int // the n-th call; default 200
}

func newReceiver(tb testing.TB) *receiver {
	tb.Helper()
	r := new(receiver)
	r.Server = httptest.NewServer(r)
	tb.Cleanup(r.Close)
	return r
}

// newTLSReceiver is a receiver for URLs of organizations.
func newTLSReceiver(tb testing.TB) *receiver {
	tb.Helper()
	r := new(receiver)
	r.Server = httptest.NewTLSServer(r)
	tb.Cleanup(r.Close)
	return r
}

// answers sets how calls are answered from now on.
func (r *receiver) answers(answer func(d *delivery, n int) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	text, _ := io.ReadAll(request.Body)
	d := delivery{ID: request.Header.Get("Webhook-Id"), Body: string(text), Signature: request.Header.Get("Webhook-Signature"), Header: request.Header}
	var b struct {
		Type webhook.Type
		Data struct {
			Organization string `json:"organization_id"`
			User         string `json:"user_id"`
			Conn         string `json:"connection_id"`
			Group, Cause string
		}
	}
	_ = json.Unmarshal(text, &b)
	d.Type, d.Organization, d.User, d.Conn, d.Group, d.Cause = b.Type, b.Data.Organization, b.Data.User, b.Data.Conn, b.Data.Group, b.Data.Cause
	r.mu.Lock()
	answer, n := r.answer, len(r.calls)
	r.mu.Unlock()
	d.Answered = http.StatusOK
	if answer != nil {
		d.Answered = answer(&d, n)
	}
	r.mu.Lock()
	r.calls = append(r.calls, d)
	r.mu.Unlock()
	w.WriteHeader(d.Answered)
}

// all returns the calls so far.
func (r *receiver) all() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]delivery(nil), r.calls...)
}

// accepted returns the calls that were answered with 200, each id once.
func (r *receiver) accepted() (list []delivery) {
	seen := make(map[string]bool)
	for _, d := range r.all() {
		if d.Answered == http.StatusOK && !seen[d.ID] {
			seen[d.ID] = true
			list = append(list, d)
		}
	}
	return list
}

// of returns the accepted calls of a type.
func (r *receiver) of(kind webhook.Type) (list []delivery) {
	for _, d := range r.accepted() {
		if d.Type == kind {
			list = append(list, d)
		}
	}
	return list
}

// node is one gateway, as far as webhooks go.
type node struct {
	tb       testing.TB
	client   redis.Cmdable // of the test, which outlives the node's
	recorder *webhook.Recorder
	metrics  *prometheus.Registry
	targets  *webhook.Targets

	mu      sync.Mutex
	present map[event.Group]bool

	stop func() // in order; idempotent
}

// setup is what a test changes of a node.
type setup struct {
	client   redis.Cmdable
	state    redis.Cmdable // default client
	url      string
	timeout  time.Duration // of a call, default 2 s
	own      bool
	calls    *outgoing.Client
	recorder webhook.RecorderOptions
	deliver  webhook.DelivererOptions
	silent   bool // it delivers nothing
	final    time.Duration
}

// startNode starts a node. Times are short, and long enough for a busy machine where a test depends
// on them.
func startNode(tb testing.TB, s setup) *node {
	tb.Helper()
	n := &node{tb: tb, client: s.client, metrics: prometheus.NewRegistry(), present: make(map[event.Group]bool)}
	if s.calls == nil {
		s.calls = outgoing.New(outgoing.Options{})
		tb.Cleanup(s.calls.Close)
	}
	if s.state == nil {
		s.state = s.client
	}
	keys := testkit.Keys(tb)
	var err error
	n.targets, err = webhook.NewTargets(s.state, keys, s.calls, webhook.TargetsOptions{URL: s.url, Own: s.own, Timeout: cmp.Or(s.timeout, 2*time.Second)})
	if err != nil {
		tb.Fatal(err)
	}
	n.targets.SetMasters([]string{master})
	r := s.recorder
	r.Targets, r.Present, r.Registerer = n.targets, n.isPresent, n.metrics
	if r.Types == nil {
		r.Types, _ = webhook.ParseTypes(webhook.Types())
	}
	if r.Groups == nil {
		r.Groups = webhook.Patterns{"room.*"}
	}
	if r.Linger == 0 {
		r.Linger = 10 * time.Millisecond
	}
	if r.Beat == 0 { // on a busy machine, no node takes another one for dead
		r.Beat, r.Dead = 50*time.Millisecond, testkit.Patience
	}
	n.recorder = webhook.NewRecorder(s.client, keys, r)
	d := s.deliver
	d.Targets, d.Registerer = n.targets, n.metrics
	if d.Backoff == 0 {
		d.Backoff, d.MaxBackoff = 10*time.Millisecond, 100*time.Millisecond
	}
	if d.Poll == 0 {
		d.Poll = 20 * time.Millisecond
	}
	if d.Drain == 0 {
		d.Drain = 100 * time.Millisecond
	}
	deliverer := webhook.NewDeliverer(s.client, keys, d)
	recording, stopRecording := context.WithCancel(context.Background())
	delivering, stopDelivering := context.WithCancel(context.Background())
	var running [2]sync.WaitGroup
	if s.final == 0 {
		s.final = testkit.Patience
	}
	running[0].Go(func() { n.recorder.Run(recording, s.final) })
	if !s.silent {
		running[1].Go(func() { deliverer.Run(delivering, n.recorder.Written()) })
	}
	n.stop = sync.OnceFunc(func() {
		stopRecording()
		running[0].Wait()
		stopDelivering()
		running[1].Wait()
	})
	tb.Cleanup(func() { n.stop() })
	return n
}

func (n *node) isPresent(g event.Group) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.present[g]
}

// comes and leaves are what a hub would say.
func (n *node) comes(g event.Group)  { n.set(g, true) }
func (n *node) leaves(g event.Group) { n.set(g, false) }

func (n *node) set(g event.Group, present bool) {
	n.mu.Lock()
	n.present[g] = present
	n.mu.Unlock()
	n.recorder.Changed(g)
}

// conn returns a connection.
func conn(tb testing.TB, org, user, id string) webhook.Connection {
	tb.Helper()
	return webhook.Connection{Organization: testkit.Org(tb, org), UserID: user, ID: id}
}

// metric returns the sum of a metric.
func (n *node) metric(name, label string) (sum float64) {
	n.tb.Helper()
	families, err := n.metrics.Gather()
	if err != nil {
		n.tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() == label {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func redisClient(tb testing.TB) *redis.Client {
	tb.Helper()
	return redistest.NewClient(tb, redistest.Start(tb))
}

// server is a Redis that a test stops.
type server struct {
	*redistest.Server

	client *redis.Client
}

// redisServer starts one that keeps its data.
func redisServer(tb testing.TB) *server {
	tb.Helper()
	s := redistest.StartServer(tb, "--appendonly", "yes", "--appendfsync", "always")
	return &server{s, redistest.NewClient(tb, s.Addr)}
}

// receiveAt starts a receiver at an address.
func receiveAt(tb testing.TB, addr string) *receiver {
	tb.Helper()
	var listening net.ListenConfig
	l, err := listening.Listen(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	r := new(receiver)
	r.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}}
	r.Start()
	tb.Cleanup(r.Close)
	return r
}

// groupsInRedis returns how many groups Redis counts for a node.
func (n *node) groupsInRedis() int {
	return int(n.client.SCard(context.Background(), testkit.Keys(n.tb).WebhookGroups(n.recorder.Node())).Val())
}

// expectCounts waits until Redis has forgotten a node.
func expectCounts(tb testing.TB, client redis.Cmdable, what string, n *node) {
	tb.Helper()
	testkit.Eventually(tb, what, func() bool {
		for _, key := range []string{"beats", "since", "written"} {
			name := strings.TrimSuffix(testkit.Keys(tb).WebhookRing(), "ring") + key
			if key == "beats" && client.ZScore(context.Background(), name, n.recorder.Node()).Err() == nil {
				return false
			}
			if key != "beats" && client.HExists(context.Background(), name, n.recorder.Node()).Val() {
				return false
			}
		}
		return true
	})
}
