// Package nodes lets the gateways of one installation know of each other, and ask each other
// questions. Private listeners are loopback addresses by default, so questions and answers go
// through Redis, and only programs with rights there can ask or answer.
//
// Each node has a lease in Redis, under its own key. A node that was killed stays listed until its
// lease ends, and does not answer meanwhile: it is [Silent].
//
// A question goes to all nodes on one channel. Each node pushes its answer to a list that belongs to
// the question and expires soon. Everything is bounded: the bytes of a question and of an answer, how
// long the asker waits, how many questions a node has under way, and how many wait for it. While
// nobody asks, a node costs one renewal in two seconds and one idle subscription.
//
// What can be asked is a closed set of topics. Each has types for its question and its answer, and a
// question says by itself whether it is valid.
package nodes

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/keyspace"
	"orgcast/internal/subconn"
)

const (
	// DefaultLease is how long a killed node stays listed. A node renews its lease three times in
	// that time. Its users stay present for as long, and some seconds more (package presence).
	DefaultLease = 5 * time.Second
	// DefaultPatience is how long an asker waits for the nodes.
	DefaultPatience = 2 * time.Second
	// timeout bounds each round trip to Redis, which normally takes a millisecond.
	timeout = 2 * time.Second
)

// Options are the options of [New]. The zero Options work.
type Options struct {
	// ID names the node, and satisfies [orgctx.ValidID]. No two nodes may have the same. Default:
	// the name of the machine and something random.
	ID string
	// Version is the version of the program, for people.
	Version string
	// Lease is how long a killed node stays listed. Default [DefaultLease].
	Lease time.Duration
	// Patience is how long an asker waits for the nodes. Default [DefaultPatience].
	Patience time.Duration
	// Log gets failed renewals and lost subscriptions. Registerer gets the metrics. They may be nil.
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// Nodes is this node among the others. It is safe for concurrent use.
type Nodes struct {
	// Fixed after construction.
	client  redis.Cmdable
	keys    keyspace.Keyspace
	opt     Options
	log     *zap.Logger
	self    Node
	dialer  *subconn.Dialer
	single  bool // one server, not a Cluster
	metrics *metrics
	topics  map[string]handler // complete before Run
	lapsed  func()             // nil if nobody has to know; set before Run
	// heard holds questions of other nodes until their turn. Nobody closes it.
	heard chan question
	// asking has a slot for each question of this node that is under way.
	asking chan struct{}
}

// Node is what is known of a registered node.
type Node struct {
	ID        string    `json:"node"`
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
}

const (
	// maxHeard is how many questions wait for a node's turn. Further ones are dropped, and their
	// askers see a silent node.
	maxHeard = 16
	// maxAsking is how many questions of one node are under way. Each holds as many answers in
	// memory as there are nodes.
	maxAsking = 4
)

func (o Options) withDefaults() Options {
	if o.ID == "" {
		o.ID = newID()
	}
	o.Lease, o.Patience = cmp.Or(o.Lease, DefaultLease), cmp.Or(o.Patience, DefaultPatience)
	o.Log = cmp.Or(o.Log, zap.NewNop())
	return o
}

// New returns this node. It is listed and hears questions while [Nodes.Run] runs. The client needs
// ContextTimeoutEnabled, and still belongs to the caller.
func New(client redis.Cmdable, keys keyspace.Keyspace, o Options) *Nodes {
	o = o.withDefaults()
	dialer := subconn.NewDialer(client, nil)
	return &Nodes{
		client: client, keys: keys, opt: o, log: o.Log.Named("nodes"),
		self:   Node{ID: o.ID, Version: o.Version, StartedAt: time.Now().UTC().Truncate(time.Millisecond)},
		dialer: dialer, single: !dialer.Cluster(), metrics: newMetrics(o.Registerer),
		topics: make(map[string]handler), heard: make(chan question, maxHeard), asking: make(chan struct{}, maxAsking),
	}
}

// Self returns this node.
func (n *Nodes) Self() Node { return n.self }

// Run keeps this node listed and answers questions until ctx ends, and then returns nil. It survives
// every failure of Redis.
func (n *Nodes) Run(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { n.stayListed(ctx); return nil })
	running.Go(func() error { n.listen(ctx); return nil })
	running.Go(func() error { n.answerAll(ctx); return nil })
	return running.Wait()
}

// unnameable is what a node's ID cannot contain.
var unnameable = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// newID returns an ID by which people recognize the machine. Every start has its own, so a node never
// writes where its predecessor did.
func newID() string {
	host, _ := os.Hostname() // without a name, the random part is enough
	host = strings.Trim(unnameable.ReplaceAllString(host, "-"), "-")
	return fmt.Sprintf("%.40s-%s", cmp.Or(host, "gateway"), strings.ToLower(rand.Text()[:8]))
}
