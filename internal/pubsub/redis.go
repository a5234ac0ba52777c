package pubsub

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/subconn"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// calmPeriod is how long a link must have lasted for the next loss to start with the shortest
// back-off again. A link that opens and breaks at once, as with missing rights, never gets there.
const calmPeriod = 10 * time.Second

// Why a node is not healthy or a link was given up.
var (
	// ErrNoLink says that there is no subscription connection, or not yet.
	ErrNoLink = errors.New("pubsub: no subscription connection")
	// ErrNoCanary says that no message of this node to itself arrived lately.
	ErrNoCanary = errors.New("pubsub: no canary arrived in time")
	// ErrUnconfirmed says that Redis did not confirm a subscription in time.
	ErrUnconfirmed = errors.New("pubsub: a subscription was not confirmed in time")

	errSilent     = errors.New("pubsub: the connection is silent")
	errUnexpected = errors.New("pubsub: unexpected subscription change")
)

// Redis is a bus through Redis pub/sub: a [Publisher], [Histories], and a receiver. The receiver keeps a list of
// the groups that are wanted and one connection, the link, that it brings in line with the list; in a Redis
// Cluster one to each master. It never relies on go-redis to reconnect: that goes unseen, and what goes unseen
// cannot be reported as a gap.
//
// Its methods are safe for concurrent use.
type Redis struct {
	*Publisher
	*Histories

	// Fixed after construction.
	keys    keyspace.Keyspace
	opt     Options
	log     *zap.Logger
	metrics *metrics
	decoder *decoder
	tariff  tariff
	shards  *shards         // nil unless the server is a Cluster
	dialer  *subconn.Dialer // of the client; nil if the server is a Cluster

	running atomic.Bool

	delivery sync.Mutex // held during calls of the Sink, which must not overlap; before mu

	mu     sync.Mutex // never held during I/O or calls of the Sink
	subs   map[string]*subscription
	meters map[orgctx.ID]*meter // of the organizations that have subscriptions
	links  map[string]*link     // by the address of their server, "" if there is one; those that are open
}

// NewRedis returns a bus that does nothing yet: events flow while [Redis.Run] runs. The client
// stays the caller's; it is a single node's, Sentinel's, or a [redis.ClusterClient]. It needs ContextTimeoutEnabled:
// without that go-redis heeds its own timeouts only, and a server that hangs holds Publish, and the
// end of Run, for as long as those. A client that retries (MaxRetries) may publish an event twice
// when the answer of Redis got lost. It gets a hook, which opens the link's connection, and closes the
// others when the link turns out to lead to a replica.
func NewRedis(client redis.UniversalClient, keys keyspace.Keyspace, opt Options) *Redis {
	opt = opt.withDefaults()
	var cluster *shards
	var dialer *subconn.Dialer
	if c, ok := client.(*redis.ClusterClient); ok {
		cluster = newShards(c)
	} else {
		dialer = subconn.NewDialer(client, newSocket)
	}
	m := newMetrics(opt.Registerer)
	return &Redis{
		Publisher: NewPublisher(client, keys, opt),
		Histories: newHistories(client, keys, opt, m),

		keys:    keys,
		opt:     opt,
		log:     opt.Logger.Named("pubsub"),
		metrics: m,
		decoder: newDecoder(opt, m),
		tariff:  newTariff(opt.EventsPerSecond, opt.BytesPerSecond),
		shards:  cluster,
		dialer:  dialer,
		subs:    make(map[string]*subscription),
		meters:  make(map[orgctx.ID]*meter),
		links:   make(map[string]*link),
	}
}

// slot returns that of a name in a Cluster, else 0.
func (r *Redis) slot(name string) uint16 {
	if r.shards == nil {
		return 0
	}
	return keyspace.Slot(name)
}

// Subscribe asks for the group's events and returns when Redis has confirmed that they will
// arrive, however many links that takes, or with ctx's error when ctx ends first; it then counts
// for nothing. Calls are counted: see [Redis.Unsubscribe]. A group that is paused counts as
// confirmed: a gap follows before its next event.
func (r *Redis) Subscribe(ctx context.Context, g event.Group) error {
	if g.IsZero() {
		return event.ErrInvalidGroup
	}
	channel := r.keys.GroupChannel(g)

	r.mu.Lock()
	s := r.subs[channel]
	if s == nil {
		s = &subscription{group: g, channel: channel, slot: r.slot(channel), meter: r.meterOf(g), confirmed: make(chan struct{})}
		r.subs[channel] = s
	}
	s.count++
	s.joined++
	if s.count == 1 {
		r.metrics.groups.Inc()
	}
	r.settle(s)
	confirmed := s.confirmed
	r.mu.Unlock()

	select {
	case <-confirmed: // the usual case, in which the context need not be touched
		return nil
	default:
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.opt.SubscribeTimeout, ErrUnconfirmed)
	defer cancel()
	select {
	case <-confirmed:
		return nil
	case <-ctx.Done():
		r.Unsubscribe(g)
		return fmt.Errorf("subscribe to %s: %w", g, context.Cause(ctx))
	}
}

// Unsubscribe takes one Subscribe of the group back. With the last one gone no more events of the
// group reach the Sink, save for one that is being handed over right now. It does not wait.
// Without a Subscribe to take back it does nothing.
func (r *Redis) Unsubscribe(g event.Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.subs[r.keys.GroupChannel(g)]
	if s == nil || s.count == 0 {
		return
	}
	s.count--
	if s.count == 0 {
		r.metrics.groups.Dec()
		s.missed = s.paused // whoever subscribes next had nothing else to miss
	}
	r.settle(s)
}

// Since is [Histories.Since], without what this node has shown under another position.
func (r *Redis) Since(ctx context.Context, g event.Group, after event.Position, limit int) (events []*event.Event, complete bool, err error) {
	events, complete, err = r.Histories.Since(ctx, g, after, limit)
	events, complete = r.unseen(g, after, events, complete)
	return events, complete, err
}

// Resume is [Histories.Resume], likewise.
func (r *Redis) Resume(ctx context.Context, g event.Group, after event.Mark, limit, bytes int) (events []*event.Event, complete bool, err error) {
	events, complete, err = r.Histories.Resume(ctx, g, after, limit, bytes)
	events, complete = r.unseen(g, after.Position, events, complete)
	return events, complete, err
}

// unseen leaves out of an answer what a browser that has seen everything up to a position has seen under another
// one, as far as this node knows. Unless it was at that other position itself, the browser may have come from a
// node that did not show it. Nothing is to be shown twice, so that is a gap, and the answer begins after it.
func (r *Redis) unseen(g event.Group, after event.Position, events []*event.Event, complete bool) ([]*event.Event, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.subs[r.keys.GroupChannel(g)]
	if s == nil {
		return events, complete
	}
	kept := events[:0]
	for _, e := range events {
		before := s.meter.shown.repeats(&s.shown, event.Head{Position: e.Position(), Key: e.Key()})
		switch {
		case before == nil || before.position.Compare(after) > 0:
			kept = append(kept, e)
		case before.position != after:
			kept, complete = kept[:0], false
		}
	}
	clear(events[len(kept):])
	return kept, complete
}

// Healthy returns nil if events really flow: a canary came through every link that there should be within
// LinkTimeout, and no wanted group has waited longer than that for its confirmation.
func (r *Redis) Healthy() error {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	servers := []string{""}
	if r.shards != nil {
		var err error
		if servers, err = r.shards.masters(); err != nil {
			return err
		}
	}
	for _, server := range servers {
		if err := r.links[server].healthy(now, r.opt.LinkTimeout); err != nil {
			return err
		}
	}
	return nil
}

// Run receives events and hands them to sink until ctx ends; then it returns nil, with everything
// that it started ended. It survives every failure of Redis: it opens a new link, subscribes again
// to what is wanted and reports the gaps. It returns [ErrRunning] if Run runs already.
func (r *Redis) Run(ctx context.Context, sink Sink) error {
	if !r.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer r.running.Store(false)
	if r.shards != nil {
		r.runShards(ctx, sink)
	} else {
		r.keepLink(ctx, "", sink)
	}
	return nil
}

// keepLink opens a link to a server, and another one whenever it is lost, until ctx ends.
func (r *Redis) keepLink(ctx context.Context, server string, sink Sink) {
	lost := logLimiter{interval: logInterval}
	backoff := r.opt.MinBackoff
	for before := (past{}); ; before.opened = true {
		started := time.Now()
		err := r.serve(ctx, server, sink, &before)
		if ctx.Err() != nil {
			return // the end was asked for; what broke on the way is no news
		}
		// A canary that was accepted and did not come was accepted by another server. A server that hung may
		// wake up when it has been replaced.
		before.astray = errors.Is(err, subconn.ErrReplica) || errors.Is(err, ErrNoCanary) || errors.Is(err, errSilent)
		switch {
		case r.shards != nil:
			r.shards.look() // the server may have been replaced
		case before.astray:
			r.dialer.CloseOthers(time.Now())
		}
		if time.Since(started) > calmPeriod {
			backoff = r.opt.MinBackoff
		}
		if suppressed, ok := lost.allow(time.Now()); ok {
			r.log.Warn("subscription connection lost", zap.String("server", server), zap.Error(err), zap.Int("suppressed", suppressed))
		}
		// A jittered pause keeps nodes from coming back all at once.
		select {
		case <-time.After(backoff/2 + mathrand.N(backoff/2+1)): //nolint:gosec // jitter is no secret
		case <-ctx.Done():
			return
		}
		backoff = min(2*backoff, r.opt.MaxBackoff)
	}
}

// past is what came before a link.
type past struct {
	opened bool   // another link, or the attempt to open one
	astray bool   // it led to a replica, to a server that hung, or elsewhere than the client's other connections
	remote string // where the last one that was opened led to
}

// serve opens a link, works on it until it breaks or ctx ends, and returns why it broke.
func (r *Redis) serve(ctx context.Context, server string, sink Sink, before *past) error {
	started := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	l := r.newLink(ctx, server)
	var wg sync.WaitGroup
	defer r.detach(l) // last: nobody may touch the subscriptions in the name of a link that is gone
	defer wg.Wait()
	defer cancel(nil)
	// PubSub ignores the end of a context while it reads: only closing it ends receive.
	wg.Go(func() {
		<-ctx.Done()
		l.close()
	})

	if r.shards != nil {
		r.mu.Lock()
		ok := r.shards.canary(l, r.keys, r.opt.NodeID)
		r.mu.Unlock()
		if !ok {
			return errNoSlots
		}
	}
	if err := l.open(ctx, r.opt.LinkTimeout); err != nil {
		return err
	}
	if before.opened {
		r.metrics.reconnects.Inc()
	}
	remote := l.conn.Remote()
	if r.dialer != nil && (before.astray || before.remote != "" && before.remote != remote) {
		// What was dialed earlier may still lead to the former master. Its history has all that groups
		// were handed, and nothing of what they have missed, so they would be told of no gap.
		r.dialer.CloseOthers(started)
	} else if r.dialer != nil && before.opened {
		r.dialer.RetireOthers(started) // likewise, behind a proxy
	}
	before.remote = remote
	r.attach(l)
	wg.Go(func() { cancel(r.reconcile(ctx, l)) })
	wg.Go(func() { r.sendCanaries(ctx, l) })
	wg.Go(func() { cancel(r.watch(ctx, l)) })
	wg.Go(func() { r.catchUp(ctx, l, sink) })
	cancel(r.receive(ctx, l, sink))
	return context.Cause(ctx) // the first of them to end knows why
}

// receive hands over what the link brings until the link fails. It waits for nothing but the
// socket, save for a word from a server that has just lost slots.
func (r *Redis) receive(ctx context.Context, l *link, sink Sink) error {
	ended := endedContext(ctx)
	for {
		received, err := l.conn.Receive(ended, 0)
		now := time.Now()
		if err != nil {
			if r.refused(l, err, now) {
				continue
			}
			return fmt.Errorf("receive: %w", err)
		}
		if m, ok := received.(*redis.Subscription); l.suspect && (!ok || m.Kind != shardedWords.off) {
			if err := l.mustLead(ctx, r.opt.LinkTimeout); err != nil {
				return err
			}
			l.suspect = false
		}
		switch m := received.(type) {
		case *redis.Message:
			head, object := event.CutHead(m.Payload)
			g, verdict := r.admit(l, m.Channel, head, object, now)
			switch verdict {
			case verdictTake:
			case verdictLost:
				r.gap(sink, g)
			case verdictCanary:
				r.canaryReturned(l, m.Payload, now)
				continue
			case verdictHeld, verdictKnown:
				continue
			case verdictDenied:
				r.gap(sink, g)
				fallthrough
			case verdictRepeated:
				r.metrics.repeated.Inc()
				continue
			case verdictUnwanted:
				r.metrics.unwanted.Inc()
				continue
			case verdictPause:
				r.logPause(g, now)
				fallthrough
			case verdictShed:
				r.metrics.shed.Inc()
				continue
			}
			r.take(sink, g, head, object, now)
		case *redis.Subscription:
			gap, err := r.confirm(l, m, now)
			if err != nil {
				return err
			}
			if !gap.IsZero() {
				r.gap(sink, gap)
			}
		case subconn.Role:
			if err := m.Err(); err != nil {
				return err
			}
			r.answered(l, now)
		}
	}
}

// take decodes an event and hands it over, or logs why it is dropped: for each reason and organization,
// since one that publishes nothing else must not hide what is wrong with another's. The log bounds
// that, and the organization's budget bounds what it costs here.
func (r *Redis) take(sink Sink, g event.Group, h event.Head, object string, now time.Time) {
	e, err := r.decoder.decode(g, h, object, now)
	if err != nil {
		r.decoder.logDropped(g, err)
		return
	}
	r.metrics.received.Inc()
	r.delivery.Lock()
	defer r.delivery.Unlock()
	sink.Deliver(e)
}

// gap tells the sink of one.
func (r *Redis) gap(sink Sink, g event.Group) {
	r.metrics.gaps.Inc()
	r.delivery.Lock()
	defer r.delivery.Unlock()
	sink.Gap(g)
}
