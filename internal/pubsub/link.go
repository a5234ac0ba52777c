package pubsub

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"orgcast/internal/subconn"

	"github.com/redis/go-redis/v9"
)

// words are what Redis calls a subscription's two commands, and their confirmations.
type words struct{ on, off string }

//nolint:gochecknoglobals // constants
var (
	plainWords   = words{on: "subscribe", off: "unsubscribe"}
	shardedWords = words{on: "ssubscribe", off: "sunsubscribe"}
)

// command is one name of a command that Redis has not confirmed yet.
type command struct {
	kind    string
	channel string
	sub     *subscription // nil for a channel of canaries
	batch   int           // the command's number; it may have more names
	at      time.Time
}

// numbered is a canary, a message with a number, that Redis accepted and the link has not brought yet.
type numbered struct {
	number   int
	accepted time.Time
}

// link is one subscription connection, from its opening to its loss. Redis answers on it in order.
type link struct {
	server string // address of the Cluster's member that it leads to; "" if there is one server
	words  words
	conn   *subconn.Conn
	node   *redis.Client // of the link alone, in a Cluster; else nil
	nonce  string        // marks this link's canaries
	wake   chan struct{} // for reconcile; capacity 1: one wake-up covers all that came before it
	fetch  chan struct{} // for catchUp; likewise

	suspect bool // owned by receive: the server has taken channels away, and may be no master any more

	// Guarded by Redis.mu.
	canary       string              // the channel of its canaries
	canaryOn     bool                // they arrive there
	canaryLost   bool                // they do not, and need another channel
	queue        fifo[*subscription] // to be brought in line, oldest first
	sent         fifo[command]       // to be confirmed, in the order of their sending
	batches      int                 // commands sent so far
	paused       []*subscription     // in the order of their pausing
	behind       fifo[lagging]       // to catch up
	lastReceived time.Time           // of anything at all
	lastCanary   time.Time           // arrival
	asked        time.Time           // when the question for the role under way was sent, zero without one
	answeredAsk  time.Time           // when the last one that was answered was sent
	sending      numbered            // the last canary, with the moment of its sending
	returned     int                 // number of the last canary that arrived
	accepted     []numbered          // not returned, oldest first
}

// newLink returns a link to a server that is not connected yet. The kind of subscription connection is
// chosen here and by its words, and nowhere else.
func (r *Redis) newLink(ctx context.Context, server string) *link {
	l := &link{
		server: server, words: plainWords, canary: r.keys.Canary(r.opt.NodeID),
		nonce: rand.Text(), wake: make(chan struct{}, 1), fetch: make(chan struct{}, 1),
	}
	if r.shards == nil {
		l.conn = r.dialer.Subscribe(ctx)
		return l
	}
	l.words = shardedWords
	l.node = r.shards.dial(server)
	l.conn = subconn.NewDialer(l.node, newSocket).Subscribe(ctx)
	return l
}

// open connects and subscribes to the canary channel. It returns when Redis has confirmed that, and
// has said that it is a master: a server that refuses password or rights is found out here, and so is
// a replica, which would take subscriptions as well.
//
// It is not the present link yet, so nobody else touches it.
func (l *link) open(ctx context.Context, timeout time.Duration) error {
	channel := l.canary
	dialing, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := l.conn.Send(dialing, l.words.on, channel); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	ended := endedContext(ctx)
	received, err := l.conn.Receive(ended, timeout)
	if err != nil {
		return fmt.Errorf("open: %s: %w", l.words.on, err) // Redis may not say which command it refuses
	}
	if m, ok := received.(*redis.Subscription); !ok || m.Kind != l.words.on || m.Channel != channel {
		return fmt.Errorf("open: %w: %v", errUnexpected, received)
	}
	if err := l.conn.Ask(timeout); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	for until := time.Now().Add(timeout); ; { // canaries of another node of this name may come first
		received, err := l.conn.Receive(ended, max(time.Until(until), 1)) // 0 would be no timeout
		if err != nil {
			return fmt.Errorf("open: %w", err)
		}
		if role, ok := received.(subconn.Role); ok {
			if err := role.Err(); err != nil {
				return fmt.Errorf("open: %w", err)
			}
			break
		}
	}
	l.canaryOn, l.lastReceived = true, time.Now()
	return nil
}

// mustLead returns an error unless the server, a member of a Cluster, says at once that it is a master.
// A replica brings most of the events.
func (l *link) mustLead(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	info, err := l.node.Info(ctx, "replication").Result()
	if err != nil {
		return fmt.Errorf("role of the server: %w", err)
	}
	if !strings.Contains(info, "role:master") {
		return subconn.ErrReplica
	}
	return nil
}

// send writes one command for the channels.
func (l *link) send(ctx context.Context, kind string, timeout time.Duration, channels []string) error {
	if len(channels) == 0 {
		return nil // without names UNSUBSCRIBE means all
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	cancel() // see endedContext; the deadline of the write stays
	return l.conn.Send(ctx, kind, channels...)
}

// close ends the connection and with it a Receive under way. Errors say that it was closed before.
func (l *link) close() {
	_ = l.conn.Close()
	if l.node != nil {
		_ = l.node.Close()
	}
}

// endedContext returns a context that has ended. On an open connection go-redis heeds only a
// context's deadline, but with a context that lives it answers a broken connection, or a server's
// request to move, by opening another one behind our back, and no gap would ever be reported.
func endedContext(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
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

// healthy returns nil if events flow on the link, which may be nil. Redis.mu is held.
func (l *link) healthy(now time.Time, timeout time.Duration) error {
	switch {
	case l == nil:
		return ErrNoLink
	case now.Sub(l.lastCanary) > timeout:
		return ErrNoCanary
	}
	if s, ok := l.queue.first(); ok && now.Sub(s.queued) > timeout && s.link == l && !s.queued.IsZero() {
		return ErrUnconfirmed
	}
	if c, ok := l.sent.first(); ok && now.Sub(c.at) > timeout {
		return ErrUnconfirmed
	}
	return nil
}
