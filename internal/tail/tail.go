// Package tail shows operators the events of one organization as they pass.
//
// A tail has its own subscription connection to Redis, so it hears what back ends publish, whichever
// nodes the members are connected to and whether there are any, and takes nothing from the node's own
// subscriptions. While nobody tails, it costs nothing.
//
// A tail of one group hears that group. A tail of an organization hears the groups that have members
// on any node, and looks for further ones all [refreshInterval]: Redis has no list of groups, and its
// users may not subscribe to patterns.
//
// Nothing waits for the reader. What does not fit into the queue of a tail is skipped, and the reader
// is told how much.
package tail

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/subconn"
)

const (
	// MaxTails is how many tails a node serves at a time. Each has a connection to Redis and a queue.
	MaxTails = 4
	// MaxGroups is how many groups a tail of an organization hears.
	MaxGroups = 1000
	// refreshInterval is how often a tail of an organization looks for groups.
	refreshInterval = 2 * time.Second
	// Heartbeat is how often a reader gets something, if only an empty list of lines, so that both
	// sides notice when the other is gone.
	Heartbeat = 5 * time.Second
)

var (
	// ErrBusy is returned if the node serves as many tails as it can.
	ErrBusy = errors.New("tail: too many tails at a time")
	// ErrStopped is returned when the node stops.
	ErrStopped = errors.New("tail: the node stops")
)

// Query says what to tail.
type Query struct {
	Organization orgctx.ID
	Group        string // "" means all groups that have members
	Payloads     bool
}

// The kinds of lines.
const (
	// KindFollowing: from here on, the tail hears what is published to so many groups.
	KindFollowing = "following"
	// KindEvent: an event.
	KindEvent = "event"
	// KindRefused: a payload that is not an event. Nodes drop it, for the reason.
	KindRefused = "refused"
	// KindMissed: the reader was too slow for so many events.
	KindMissed = "missed"
	// KindInterrupted: Redis was lost, for the reason. Events may be missing until the tail follows
	// again.
	KindInterrupted = "interrupted"
)

// Line is one thing that a tail shows.
type Line struct {
	Kind  string    `json:"kind"`
	Time  time.Time `json:"time"`
	Group string    `json:"group,omitempty"`
	Type  string    `json:"type,omitempty"`
	// ID is the position of a recorded event.
	ID     string `json:"id,omitempty"`
	Bytes  int    `json:"bytes,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Groups are followed. More says that there are others, for which there is no room.
	Groups int  `json:"groups,omitempty"`
	More   bool `json:"more,omitempty"`
	// Events is how many were missed.
	Events int `json:"events,omitempty"`
	// Payload is the event, if payloads are wanted.
	Payload json.RawMessage `json:"payload,omitempty"`
}

// Options are the options of [New]. Groups is required.
type Options struct {
	// Groups returns the names of the groups of an organization that have members on any node, at
	// most limit, and whether there are more.
	Groups func(ctx context.Context, org orgctx.ID, limit int) (names []string, more bool, err error)
	// MaxEventSize returns the size of the largest event that nodes deliver, which a reload may change.
	// Default [event.DefaultMaxSize].
	MaxEventSize func() int
	Log          *zap.Logger
}

// Tails are the tails of one node. It is safe for concurrent use.
type Tails struct {
	open    func(ctx context.Context) *redis.PubSub
	keys    keyspace.Keyspace
	sharded bool // a Cluster
	opt     Options
	log     *zap.Logger
	slots   chan struct{}
	stopped chan struct{} // closed by Run when the node stops
}

// New returns tails. The client needs ContextTimeoutEnabled, and still belongs to the caller.
func New(client redis.Cmdable, keys keyspace.Keyspace, o Options) *Tails {
	if o.MaxEventSize == nil {
		o.MaxEventSize = func() int { return event.DefaultMaxSize }
	}
	o.Log = cmp.Or(o.Log, zap.NewNop())
	open, cluster := subconn.Plain(client)
	return &Tails{
		open: open, keys: keys, sharded: cluster, opt: o, log: o.Log.Named("tail"),
		slots: make(chan struct{}, MaxTails), stopped: make(chan struct{}),
	}
}

// Run lets tails be until ctx ends, and then ends them all. It is called once.
func (t *Tails) Run(ctx context.Context) error {
	<-ctx.Done()
	close(t.stopped)
	return nil
}

// Follow passes lines to write until ctx ends, the node stops or write fails, and returns why. It
// never returns nil. At least once per [Heartbeat], it calls write, if need be without lines. write
// may take its time: other lines are skipped meanwhile.
func (t *Tails) Follow(ctx context.Context, q Query, write func(lines []Line) error) error {
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	default:
		return ErrBusy
	}
	running, ctx := errgroup.WithContext(ctx)
	lines := newQueue()
	running.Go(func() error { return t.hear(ctx, q, lines) })
	running.Go(func() error { return t.pass(ctx, lines, write) })
	return running.Wait()
}

// pass passes lines on.
func (t *Tails) pass(ctx context.Context, lines *queue, write func(lines []Line) error) error {
	heartbeat := time.NewTicker(Heartbeat)
	defer heartbeat.Stop()
	for {
		select {
		case <-lines.filled:
		case <-heartbeat.C:
		case <-t.stopped:
			return ErrStopped
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := write(lines.take(time.Now())); err != nil {
			return err
		}
	}
}

// lineOf returns what a tail shows of a payload.
func (t *Tails) lineOf(q Query, g event.Group, payload string, now time.Time) Line {
	line := Line{Kind: KindEvent, Time: now.UTC(), Group: g.Name()}
	head, object := event.CutHead(payload)
	line.Bytes = len(object)
	e, err := event.DecodeObject(g, head, object, t.opt.MaxEventSize(), now)
	if err != nil {
		line.Kind, line.Reason = KindRefused, event.Reason(err)
		return line // its payload could be that of another organization
	}
	line.Type = e.Type()
	if !e.Position().IsZero() {
		line.ID = e.Position().String()
	}
	if q.Payloads {
		line.Payload = e.Payload()
	}
	return line
}
