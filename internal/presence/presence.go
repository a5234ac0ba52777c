// Package presence knows which users are in which group, on all nodes together, and tells the
// connections that want to see it.
//
// A user is present in a group while one of their connections has joined it. The gateway says which
// connections count ([Room.Attend]), and how each of them ended ([Room.Leave]): a user who left or
// was shut out is gone with the next tick, and one whose connection was lost has [Grace] to come
// back, to any node.
//
// # Between nodes
//
// Each group has a hash in Redis. A node writes one field for each of its users there, and one for
// itself with the number of its last write. It writes differences only, in one pipeline for all
// groups at each [Tick], so joining waits for nothing. Each write goes out on the group's channel,
// too, with its number and that of the write before. A node that watches a group hears the channel,
// and reads the hash when it begins and when it has missed a number.
//
// The lease of a node (package nodes) decides whether its fields count. Nodes that watch the group
// remove the fields of a node without a lease, unless that has written something meanwhile. When a
// node's own lease has lapsed, when the subscription connection was replaced, and now and then
// anyway, a node compares what it has written with the hash, and writes what is missing.
//
// # Bounds
//
// Each organization has a budget of bytes for the groups and users that a node holds for it, another one for
// the bytes and frames per second that its connections get, and a number of fields that it may write
// at each tick. States of a user are written once in [StatePause] at most.
//
// The decisions are made in a state machine without I/O, locks and clock (machine); [Room] is the
// thin loop around it.
package presence

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/nodes"
	"orgcast/internal/subconn"
)

const (
	// Tick is the time over which changes are collected before they are shown and written.
	Tick = 250 * time.Millisecond
	// Grace is how long a user stays present after a connection was lost: enough for a reload, and
	// for a client that a stopping node has told to go elsewhere.
	Grace = 5 * time.Second
	// StatePause is the least time between two states of a user in a group. Of those that come
	// faster, the last one counts.
	StatePause = time.Second
	// MaxState is the longest state, in bytes of compact JSON.
	MaxState = 256
	// DefaultMostListed is how many users of a group are listed. Of more, only the number is told.
	DefaultMostListed = 1000
	// DefaultBytesPerOrganization bounds what a node holds for one organization.
	DefaultBytesPerOrganization = 16 << 20
)

var (
	// ErrFull is returned if the organization holds as much as it may.
	ErrFull = errors.New("presence: too many groups, users and states in this organization")
	// ErrState is returned for a state that is not a JSON object of at most [MaxState] bytes, or null.
	ErrState = errors.New("presence: not a JSON object of at most 256 bytes")
	// ErrAbsent is returned for a connection that does not attend the group.
	ErrAbsent = errors.New("presence: the connection does not attend the group")
)

// Member is one connection. Members are compared with ==.
type Member interface {
	// Show passes a frame of a group that the member watches. It must not block. A frame may still
	// come after the member has left.
	Show(f *Frame)
}

// Departure is how a connection left a group.
type Departure uint8

// The departures.
const (
	// Lost: the connection broke, or the page reloads: the user has [Grace] to come back.
	Lost Departure = iota
	// Closed: the page left. The user is gone, unless another connection was lost just before.
	Closed
	// Ended: the user may not stay.
	Ended
)

// Lister says which gateways there are. [nodes.Nodes] does.
type Lister interface {
	Self() nodes.Node
	List(ctx context.Context) ([]nodes.Node, error)
	// OnLapse sets a function that is called whenever this node's lease had ended before it was
	// renewed. It is called before Run.
	OnLapse(lapsed func())
}

// Options are the options of [New]. The zero Options work.
type Options struct {
	// MostListed is how many users are listed. Default [DefaultMostListed].
	MostListed int
	// BytesPerOrganization bounds the groups and users that are held for one organization, in bytes. Default
	// [DefaultBytesPerOrganization].
	BytesPerOrganization int
	// Log and Registerer may be nil.
	Log        *zap.Logger
	Registerer prometheus.Registerer
}

// Room knows who is present. It is safe for concurrent use.
type Room struct {
	client  redis.UniversalClient // nil if there are no other nodes
	keys    keyspace.Keyspace
	nodes   Lister
	dialer  *subconn.Dialer
	single  bool // one server, not a Cluster
	log     *zap.Logger
	metrics *metrics
	// wanted wakes the link when groups have to be subscribed or unsubscribed. Capacity 1; nobody
	// closes it.
	wanted chan struct{}
	stop   context.CancelFunc // ends Run, after the users were said to be on their way
	ended  chan struct{}      // closed when Run has ended

	mu      sync.Mutex // never held during I/O
	machine *machine
}

// New returns a Room for the nodes that share a Redis. Connections see something of it while
// [Room.Run] runs. The client needs ContextTimeoutEnabled, and still belongs to the caller.
func New(client redis.UniversalClient, keys keyspace.Keyspace, n Lister, o Options) *Room {
	r := newRoom(n.Self().ID, o)
	r.client, r.keys, r.nodes = client, keys, n
	r.dialer = subconn.NewDialer(client, nil)
	r.single = !r.dialer.Cluster()
	n.OnLapse(r.reconcile)
	return r
}

// NewAlone returns a Room of a node without Redis, which knows its own connections only.
func NewAlone(o Options) *Room {
	r := newRoom("alone", o)
	r.machine.alone = true
	return r
}

func newRoom(node string, o Options) *Room {
	o.Log = cmp.Or(o.Log, zap.NewNop())
	m := newMachine(node, cmp.Or(o.MostListed, DefaultMostListed), cmp.Or(o.BytesPerOrganization, DefaultBytesPerOrganization))
	r := &Room{log: o.Log.Named("presence"), wanted: make(chan struct{}, 1), ended: make(chan struct{}), machine: m}
	r.metrics = newMetrics(o.Registerer, r)
	return r
}

// SetBytes replaces [Options].BytesPerOrganization. Users that are held stay.
func (r *Room) SetBytes(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.machine.bytesPerOrganization = n
}

// Attend makes the user of a member present in a group. With watch, the member gets frames about the
// group, the first of which lists all users. Attending again only adds the watching. The error is
// [ErrFull]; then nothing has changed.
func (r *Room) Attend(g event.Group, user string, m Member, watch bool) error {
	r.mu.Lock()
	err := r.machine.attend(g, user, m, watch, time.Now())
	r.mu.Unlock()
	if err != nil {
		r.metrics.refused.Inc()
	}
	r.signal()
	return err
}

// Leave undoes Attend. It does nothing if the member does not attend the group.
func (r *Room) Leave(g event.Group, m Member, how Departure) {
	r.mu.Lock()
	r.machine.leave(g, m, how, time.Now())
	r.mu.Unlock()
	r.signal()
}

// Set shows a state of the member's user, instead of the one before. null shows none. Errors are
// [ErrState], [ErrAbsent] and [ErrFull].
func (r *Room) Set(g event.Group, m Member, state json.RawMessage) error {
	text, err := compactState(state)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.machine.set(g, m, text, time.Now())
}

// signal wakes the link if groups have to be subscribed or unsubscribed.
func (r *Room) signal() {
	r.mu.Lock()
	changed := len(r.machine.rewanted) > 0
	r.mu.Unlock()
	if changed {
		select {
		case r.wanted <- struct{}{}:
		default:
		}
	}
}

// reconcile compares everything that this node has written with Redis.
func (r *Room) reconcile() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.machine.reconcile()
}

// Run shows and writes changes until ctx ends or [Room.Close] is called, and then returns nil. It is
// called once. It survives every failure of Redis.
func (r *Room) Run(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	r.mu.Lock()
	r.stop = stop
	r.mu.Unlock()
	defer close(r.ended)
	running.Go(func() error { r.show(ctx); return nil })
	if r.client != nil {
		running.Go(func() error { r.synchronize(ctx); return nil })
		running.Go(func() error { r.followNodes(ctx); return nil })
		running.Go(func() error { r.listen(ctx); return nil })
	}
	return running.Wait()
}

// Close ends [Room.Run], and tells the other nodes that the users of this one may come back
// elsewhere. It is called after the last connection has left, and before the node gives up its
// lease. If Redis does not answer, the users are gone from the other nodes when the lease ends.
func (r *Room) Close(ctx context.Context) error {
	r.mu.Lock()
	stop := r.stop
	r.mu.Unlock()
	if stop == nil { // Run was not called
		return nil
	}
	stop()
	<-r.ended
	if r.client == nil {
		return nil
	}
	r.mu.Lock()
	r.machine.farewell(time.Now())
	r.mu.Unlock()
	for more := true; more; {
		if err := r.write(ctx); err != nil {
			return err
		}
		r.mu.Lock()
		more = len(r.machine.unsaved) > 0
		r.mu.Unlock()
	}
	return nil
}

// show shows changes at each tick until ctx ends.
func (r *Room) show(ctx context.Context) {
	ticker := time.NewTicker(Tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		out := r.machine.tick(time.Now())
		r.mu.Unlock()
		r.deliver(out)
		r.signal()
	}
}

const (
	// deliverRun is how many members get a frame without a pause, and deliverPause the pause after
	// them. Without it, a group of thousands would keep a processor busy for long enough to delay the
	// events of other organizations.
	deliverRun   = 32
	deliverPause = time.Millisecond
)

// deliver shows frames to their receivers, little by little.
func (r *Room) deliver(list []delivery) {
	n := 0
	for _, d := range list {
		for _, m := range d.to {
			m.Show(d.frame)
			if n++; n%deliverRun == 0 {
				time.Sleep(deliverPause)
			}
		}
		r.metrics.shown.Add(float64(len(d.to)))
	}
}
