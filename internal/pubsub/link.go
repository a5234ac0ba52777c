package pubsub

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"time"

	"orgcast/internal/event"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

const (
	// maxBatch is the most names in one command: enough to make the round trips of a mass join
	// few, and little enough (some 100 kB at the longest names) to leave other commands room.
	maxBatch = 512
	// maxUnconfirmed is the most names sent and not yet confirmed. Redis ends a subscriber whose
	// unread answers pass 32 MB, which a million names in one go would do.
	maxUnconfirmed = 16 * maxBatch
	// watchSteps is how often within LinkTimeout the link is looked at.
	watchSteps = 5
)

// Kinds of commands and of their confirmations, as Redis names them.
const (
	kindSubscribe   = "subscribe"
	kindUnsubscribe = "unsubscribe"
)

// state is where a subscription stands on the present link. One command at most is under way for
// a channel; what was asked for meanwhile is settled when its confirmation comes. So every order
// of Subscribe and Unsubscribe converges.
type state int

const (
	stateOff   state = iota
	stateOn          // confirmed
	stateSent        // SUBSCRIBE is under way
	stateUnset       // UNSUBSCRIBE is under way
)

// subscription is one group that is wanted, or was until a moment ago. Redis.mu guards it.
type subscription struct {
	group   event.Group
	channel string
	meter   *meter // of its organisation

	count     int           // Subscribe calls less Unsubscribe calls: it is wanted if positive
	state     state         // on the present link; off while there is none
	queued    time.Time     // when it went into the link's queue, zero while it is not there
	missed    bool          // was on when a link broke or it was paused: it has to catch up
	confirmed chan struct{} // closed exactly while the state is on or it is paused

	paused   bool          // its organisation exceeds its budget; only while there is a link
	pause    time.Duration // without jitter, known when the state is off, as is resumeAt
	resumeAt time.Time     // at the earliest

	place place // in its history
}

// wanted reports whether it is to be on.
func (s *subscription) wanted() bool { return s.count > 0 && !s.paused }

// settled reports whether the state is what is wanted.
func (s *subscription) settled() bool { return s.wanted() == (s.state == stateOn) }

// command is one name of a command that Redis has not confirmed yet.
type command struct {
	kind string
	sub  *subscription
	at   time.Time
}

// canary is a numbered message that Redis accepted and the link has not brought yet.
type canary struct {
	number   int
	accepted time.Time
}

// link is one subscription connection, from its opening to its loss. Redis answers on it in order.
type link struct {
	pubsub *redis.PubSub
	nonce  string        // marks this link's canaries
	wake   chan struct{} // for reconcile; capacity 1: one wake-up covers all that came before it
	fetch  chan struct{} // for catchUp; likewise

	// Guarded by Redis.mu.
	queue        fifo[*subscription] // to be brought in line, oldest first
	sent         fifo[command]       // to be confirmed, in the order of their sending
	paused       []*subscription     // in the order of their pausing
	behind       fifo[lagging]       // to catch up
	lastReceived time.Time           // of anything at all
	lastCanary   time.Time           // arrival
	pinged       time.Time           // when the PING under way was sent, zero without one
	answeredPing time.Time           // when the last PING that was answered was sent
	sending      canary              // the last canary, with the moment of its sending
	returned     int                 // number of the last canary that arrived
	accepted     []canary            // not returned, oldest first
}

// newLink returns a link that is not connected yet. The kind of subscription connection is chosen
// here and in open, send and ping, and nowhere else.
func newLink(ctx context.Context, client redis.UniversalClient) *link {
	return &link{pubsub: client.Subscribe(ctx), nonce: rand.Text(), wake: make(chan struct{}, 1), fetch: make(chan struct{}, 1)}
}

// open connects and subscribes to the canary channel. It returns when Redis has confirmed that:
// a server that refuses password or rights is found out here.
func (l *link) open(ctx context.Context, channel string, timeout time.Duration) error {
	dialling, cancel := context.WithTimeout(context.WithValue(ctx, linkKey{}, l), timeout)
	defer cancel()
	if err := l.pubsub.Subscribe(dialling, channel); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	received, err := l.pubsub.ReceiveTimeout(endedContext(ctx), timeout)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if m, ok := received.(*redis.Subscription); !ok || m.Kind != kindSubscribe || m.Channel != channel {
		return fmt.Errorf("open: %w: %v", errUnexpected, received)
	}
	l.lastReceived = time.Now()
	return nil
}

// send writes one command for the channels.
func (l *link) send(ctx context.Context, kind string, timeout time.Duration, channels []string) error {
	if len(channels) == 0 {
		return nil // without names UNSUBSCRIBE means all
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	cancel() // see endedContext; the deadline of the write stays
	if kind == kindSubscribe {
		return l.pubsub.Subscribe(ctx, channels...)
	}
	return l.pubsub.Unsubscribe(ctx, channels...)
}

// ping asks the server for a sign of life on this connection.
func (l *link) ping(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	cancel() // see endedContext
	return l.pubsub.Ping(ctx)
}

// close ends the connection and with it a Receive under way. Errors say that it was closed before.
func (l *link) close() { _ = l.pubsub.Close() }

// endedContext returns a context that has ended. On an open connection go-redis heeds only a
// context's deadline, but with a context that lives it answers a broken connection, or a server's
// request to move, by opening another one behind our back, and no gap would ever be reported.
func endedContext(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}

// attach makes l the present link and queues all that is wanted.
func (r *Redis) attach(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.link = l
	for _, s := range r.subs {
		r.settle(s)
	}
}

// detach takes note that there is no link: nothing is subscribed any more.
func (r *Redis) detach() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.link = nil
	for _, s := range r.subs {
		switch {
		case s.paused: // the new link begins without pauses, but not with a new budget
			r.unpause(s)
		case s.state == stateOn:
			s.missed = s.count > 0
			s.confirmed = make(chan struct{})
		}
		s.state = stateOff
		s.queued = time.Time{}
		s.stopCatching()
		s.place.known = s.place.known && s.missed // where it would begin now is read again
		r.settle(s)
	}
}

// settle sees to it that the subscription becomes what is wanted: queues it, or forgets it if it is
// over. r.mu is held.
func (r *Redis) settle(s *subscription) {
	if !s.queued.IsZero() || s.state == stateSent || s.state == stateUnset {
		return // looked at again when its turn or its confirmation comes
	}
	if s.settled() {
		if s.count == 0 && !s.paused { // leaving and coming back does not end a pause
			r.forget(s)
		}
		return
	}
	if r.link == nil {
		return // attach will
	}
	s.queued = time.Now()
	r.link.queue.push(s)
	r.link.rouse()
}

// rouse makes reconcile look at the queue.
func (l *link) rouse() {
	select {
	case l.wake <- struct{}{}:
	default: // a wake-up is pending already
	}
}

// hasRoom reports whether a whole batch more may be unconfirmed; smaller ones would be many. r.mu
// is held.
func (l *link) hasRoom() bool { return l.sent.len() <= maxUnconfirmed-maxBatch }

// reconcile sends the commands that bring the link in line with what is wanted, until ctx ends or
// a write fails.
func (r *Redis) reconcile(ctx context.Context, l *link) error {
	ticker := time.NewTicker(resumeInterval)
	defer ticker.Stop()
	for {
		var tick <-chan time.Time
		if r.resume(l, time.Now()) {
			tick = ticker.C
		}
		on, off := r.nextBatch(l)
		if len(on)+len(off) == 0 {
			select {
			case <-l.wake:
			case <-tick:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		r.locate(ctx, on)
		// In the order in which nextBatch expects the confirmations.
		if err := l.send(ctx, kindSubscribe, r.opt.LinkTimeout, on); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		if err := l.send(ctx, kindUnsubscribe, r.opt.LinkTimeout, off); err != nil {
			return fmt.Errorf("unsubscribe: %w", err)
		}
	}
}

// nextBatch takes up to maxBatch subscriptions from the queue and returns the channels to subscribe
// to and to unsubscribe from. It notes them as sent before they are: the confirmation may be faster
// than the writer.
func (r *Redis) nextBatch(l *link) (on, off []string) {
	now := time.Now()
	var offSubs []*subscription
	r.mu.Lock()
	defer r.mu.Unlock()
	if !l.hasRoom() {
		return nil, nil
	}
	for len(on)+len(off) < maxBatch {
		s, ok := l.queue.pop()
		if !ok {
			break
		}
		s.queued = time.Time{}
		switch {
		case s.settled():
			r.settle(s) // it was changed back meanwhile
		case s.wanted():
			s.state = stateSent
			on = append(on, s.channel)
			l.sent.push(command{kind: kindSubscribe, sub: s, at: now})
		default:
			s.state = stateUnset
			s.stopCatching()
			if !s.paused {
				s.confirmed = make(chan struct{})
				s.place.known = false // nobody follows it any more
			}
			off = append(off, s.channel)
			offSubs = append(offSubs, s)
		}
	}
	for _, s := range offSubs {
		l.sent.push(command{kind: kindUnsubscribe, sub: s, at: now})
	}
	return on, off
}

// confirm takes note of a confirmation. It returns the group whose Sink is to hear of a gap now,
// or the zero Group; a group that can catch up is left to catchUp. A confirmation of anything but the oldest command is the server's own doing,
// for example the loss of a slot: the link no longer is what we believe it to be.
func (r *Redis) confirm(l *link, m *redis.Subscription, now time.Time) (gap event.Group, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.lastReceived = now
	c, ok := l.sent.pop()
	if !ok || c.kind != m.Kind || c.sub.channel != m.Channel {
		return event.Group{}, fmt.Errorf("%w: %s", errUnexpected, m.Kind)
	}
	s := c.sub
	if c.kind == kindSubscribe {
		s.state = stateOn
		close(s.confirmed)
		switch {
		case s.missed && s.place.lost:
			s.missed = false
			gap = s.group
		case s.missed:
			s.startCatching(l)
		}
		s.place.lost = false
	} else {
		s.state = stateOff
		if s.paused {
			s.schedule(now, now.Sub(c.at))
		}
	}
	r.settle(s)
	if l.queue.len() > 0 && l.hasRoom() {
		l.rouse() // reconcile may have waited for room
	}
	return gap, nil
}

// sendCanaries publishes a numbered message to this node's canary channel through the ordinary
// client, again and again, until ctx ends.
func (r *Redis) sendCanaries(ctx context.Context, l *link) {
	trouble := logLimiter{interval: logInterval}
	for number := 1; ; number++ {
		r.mu.Lock()
		l.sending = canary{number: number, accepted: time.Now()}
		r.mu.Unlock()

		deadline, cancel := context.WithTimeout(ctx, r.opt.LinkTimeout)
		err := r.client.Publish(deadline, r.canary, l.nonce+":"+strconv.Itoa(number)).Err()
		cancel()
		switch {
		case err == nil:
			r.canaryAccepted(l, number)
		case ctx.Err() == nil:
			// The link may be sound though publishing is not: Healthy tells, but giving up the
			// link would only add gaps.
			if suppressed, ok := trouble.allow(time.Now()); ok {
				r.log.Warn("publish canary", zap.Error(err), zap.Int("suppressed", suppressed))
			}
		}

		pause := r.opt.CanaryInterval*4/5 + mathrand.N(r.opt.CanaryInterval*2/5+1) //nolint:gosec // jitter is no secret
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (r *Redis) canaryAccepted(l *link, number int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if number > l.returned {
		l.accepted = append(l.accepted, canary{number: number, accepted: time.Now()})
	}
}

// canaryReturned takes note of a canary. Those of earlier links and of nodes of the same name do
// not count.
func (r *Redis) canaryReturned(l *link, payload string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.lastReceived = now
	nonce, text, _ := strings.Cut(payload, ":")
	number, err := strconv.Atoi(text)
	if nonce != l.nonce || err != nil || number <= l.returned || number > l.sending.number {
		return
	}
	l.lastCanary = now
	l.returned = number
	for len(l.accepted) > 0 && l.accepted[0].number <= number {
		l.accepted = l.accepted[1:]
	}
	if number == l.sending.number {
		r.metrics.canary.Set(now.Sub(l.sending.accepted).Seconds())
	}
}

// answered takes note of a PONG.
func (r *Redis) answered(l *link, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.lastReceived = now
	l.answeredPing, l.pinged = l.pinged, time.Time{}
}

// watch looks at the link at short intervals until ctx ends, and returns why the link must be given
// up if it must.
func (r *Redis) watch(ctx context.Context, l *link) error {
	ticker := time.NewTicker(r.opt.LinkTimeout / watchSteps)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		ping, err := r.inspect(l, time.Now())
		if err != nil {
			return err
		}
		if !ping {
			continue
		}
		if err := l.ping(ctx, r.opt.LinkTimeout); err != nil {
			return fmt.Errorf("ping: %w", err)
		}
	}
}

// inspect judges the link. It reports whether a PING is due, which it notes as sent.
//
// A link is lost when it is silent although it was asked for an answer: the server hangs or is
// gone. It is deaf when a canary that the server accepted, or a confirmation, is overdue and yet a
// PING sent later was answered: a master that was deposed, for example. The answers come in order,
// so a link that merely has much to carry, its canary waiting in line behind a burst of events, is
// neither; giving up that one would add lost events to the load.
func (r *Redis) inspect(l *link, now time.Time) (ping bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	overdue := func(since time.Time) bool {
		return now.Sub(since) > r.opt.LinkTimeout && l.answeredPing.After(since)
	}
	if !l.pinged.IsZero() && now.Sub(l.pinged) > r.opt.LinkTimeout && now.Sub(l.lastReceived) > r.opt.LinkTimeout {
		return false, errSilent
	}
	if len(l.accepted) > 0 && overdue(l.accepted[0].accepted) {
		return false, ErrNoCanary
	}
	if c, ok := l.sent.first(); ok && overdue(c.at) {
		return false, ErrUnconfirmed
	}
	if !l.pinged.IsZero() {
		return false, nil
	}
	l.pinged = now
	return true, nil
}

// fifo is a queue.
type fifo[T any] struct {
	items []T
	head  int // items before it are taken
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(item T) {
	if len(q.items) == cap(q.items) && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

func (q *fifo[T]) first() (item T, ok bool) {
	if q.len() == 0 {
		return item, false
	}
	return q.items[q.head], true
}

func (q *fifo[T]) pop() (item T, ok bool) {
	if q.len() == 0 {
		return item, false
	}
	item = q.items[q.head]
	clear(q.items[q.head : q.head+1])
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return item, true
}
