// Package redislink keeps a subscription connection to Redis that is known to work.
//
// A subscription can stop working without an error: the server hangs, or was deposed and nobody
// publishes there anymore. The client library reconnects by itself, and what goes unseen cannot be
// reported as lost. So a link is opened, used until anything about it is wrong, and closed. Then
// another one is opened after a jittered pause.
//
// # What a link must show
//
// The node publishes a numbered message to itself, a canary, again and again, through the client's
// other connections. It also asks the link's server for its role, on the link itself (package
// subconn). The link is given up when
//
//   - the connection breaks, or the server changes a subscription unasked,
//   - the server is a replica,
//   - the link is silent: an answer is overdue and nothing at all has arrived for as long,
//   - the link is deaf: a canary that the server accepted is overdue, or the confirmation of a
//     command, although a later question was answered. Answers come in order, so a link that merely
//     has much to carry is not deaf.
package redislink

import (
	"cmp"
	"context"
	"errors"
	mathrand "math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/loglimit"
	"orgcast/internal/subconn"
)

// Defaults of [Options].
const (
	DefaultInterval   = time.Second
	DefaultTimeout    = 2500 * time.Millisecond // two canaries and a half
	DefaultMinBackoff = 50 * time.Millisecond
	DefaultMaxBackoff = 2 * time.Second
)

// calmPeriod is how long a link must have lasted for the next loss to start with the shortest
// back-off again. A link that opens and breaks at once, as with missing rights, never gets there.
const calmPeriod = 10 * time.Second

// Why a link is given up or not healthy.
var (
	// ErrNoCanary says that no message of this node to itself arrived lately.
	ErrNoCanary = errors.New("no canary arrived in time")
	// ErrUnexpected says that the server changed a subscription that nobody asked it to change.
	ErrUnexpected = errors.New("unexpected subscription change")

	errSilent      = errors.New("the connection is silent")
	errNoneAtAll   = errors.New("no canary arrived in time") // and perhaps none was accepted
	errUnconfirmed = errors.New("a subscription was not confirmed in time")
)

// Options of [Keep]. Publish must be given.
type Options struct {
	// Publish sends a canary through the client's other connections.
	Publish func(ctx context.Context, channel, payload string) error
	// Interval is the mean pause between two canaries. Default [DefaultInterval].
	Interval time.Duration
	// Timeout is how long a canary, an answer, opening a link and each write may take before the
	// link is given up. Default [DefaultTimeout].
	Timeout time.Duration
	// MinBackoff and MaxBackoff bound the pause before another link is opened. It doubles from one
	// to the other, with jitter. Default [DefaultMinBackoff] and [DefaultMaxBackoff].
	MinBackoff, MaxBackoff time.Duration
	// Strict gives a link up on which no canary arrived within Timeout, for whatever reason: also
	// if none could be published, and if the link has much to carry.
	Strict bool
	// AnyRole takes a link to a replica as well, and does not ask. It needs Strict, because no
	// question is answered.
	AnyRole bool
	// Others are the client's other connections, to be left when a link shows that they may lead to
	// the wrong server; nil in a Cluster.
	Others *subconn.Dialer
	// Log takes losses of links, at most one line in LogInterval (default [loglimit.Interval]) of
	// each kind. Lost is their message. Log must be given.
	Log         *zap.Logger
	LogInterval time.Duration
	Lost        string
	// Reopened, Returned and OnLoss are called when a link is opened after another one or the
	// attempt to open one, when a canary arrived, with the time that it took, and when a link is
	// lost. They may be nil and must not block.
	Reopened func()
	Returned func(took time.Duration)
	OnLoss   func(err error)
}

func (o Options) withDefaults() Options {
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.MinBackoff = cmp.Or(o.MinBackoff, DefaultMinBackoff)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, DefaultMaxBackoff)
	if o.Reopened == nil {
		o.Reopened = func() {}
	}
	if o.Returned == nil {
		o.Returned = func(time.Duration) {}
	}
	if o.OnLoss == nil {
		o.OnLoss = func(error) {}
	}
	return o
}

// Connection is what a link is made of.
type Connection struct {
	Dialer *subconn.Dialer
	// Subscribe is the command that subscribes, in lower case.
	Subscribe string
	// Canary is the channel of the canaries, Channels others that are subscribed with it.
	Canary   string
	Channels []string
	// Check is called for everything that arrives, the link's own traffic included, before anything
	// else. An error ends the link. It may be nil.
	Check func(ctx context.Context, received any) error
}

// User uses one link. Opened is called once, if the link could be opened, and Closed in any case.
// The others are called between them, by one goroutine, which waits for them: the link is not read
// meanwhile.
type User interface {
	// Opened takes a link whose channels are subscribed. work runs a function until the link ends;
	// if it returns an error, the link ends for it.
	Opened(l *Link, work func(func(ctx context.Context) error))
	// Message takes a message on any channel but that of the canaries.
	Message(m *redis.Message, now time.Time)
	// Subscription takes a confirmation, or a change that the server made of its own accord. An
	// error ends the link.
	Subscription(m *redis.Subscription, now time.Time) error
	// Refused takes an error that Redis answered, and reports whether the link goes on.
	Refused(err error, now time.Time) bool
	// UnconfirmedSince returns when the oldest command was sent that Redis has not confirmed, zero
	// without one. It may be called by any goroutine.
	UnconfirmedSince() time.Time
	// Closed is called when the link has ended, and with it everything that worked on it, or could
	// not be opened.
	Closed()
}

// Keep opens a link, and another one whenever it is lost, until ctx ends. start says what each is
// made of, and who uses it; an error of it counts as a loss.
func Keep(ctx context.Context, o Options, start func(ctx context.Context) (Connection, User, error)) {
	o = o.withDefaults()
	lost := loglimit.Limiter{Interval: o.LogInterval}
	backoff := o.MinBackoff
	for before := (past{}); ; before.opened = true {
		started := time.Now()
		err := runLink(ctx, o, start, &before)
		if ctx.Err() != nil {
			return // the end was asked for; what broke on the way is no news
		}
		// A canary that was accepted and did not come was accepted by another server. A server that
		// hung may wake up when it has been replaced.
		before.astray = errors.Is(err, subconn.ErrReplica) || errors.Is(err, ErrNoCanary) || errors.Is(err, errSilent)
		if o.Others != nil && before.astray {
			o.Others.CloseOthers(time.Now())
		}
		o.OnLoss(err)
		if time.Since(started) > calmPeriod {
			backoff = o.MinBackoff
		}
		if suppressed, ok := lost.Allow(time.Now()); ok {
			o.Log.Warn(o.Lost, zap.Error(err), zap.Int("suppressed", suppressed))
		}
		// A jittered pause keeps nodes from coming back all at once.
		select {
		case <-time.After(backoff/2 + mathrand.N(backoff/2+1)): //nolint:gosec // jitter is no secret
		case <-ctx.Done():
			return
		}
		backoff = min(2*backoff, o.MaxBackoff)
	}
}

// past is what came before a link.
type past struct {
	opened bool   // another link, or the attempt to open one
	astray bool   // it led to a replica, to a server that hung, or elsewhere than the client's other connections
	remote string // where the last one that was opened led to
}

// leave leaves connections of the client that were dialed before a link was opened, and may lead
// elsewhere.
func (p *past) leave(others *subconn.Dialer, remote string, started time.Time) {
	switch {
	case others == nil:
	case p.astray || p.remote != "" && p.remote != remote:
		// What was dialed earlier may still lead to the former master. Its history has all that
		// groups were handed, and nothing of what they have missed, so they would be told of no
		// gap.
		others.CloseOthers(started)
	case p.opened:
		others.RetireOthers(started) // likewise, behind a proxy
	}
	p.remote = remote
}
