// Package redislink keeps a subscription connection to Redis that is known to work.
//
// A subscription can stop working without an error: the server hangs, or it was deposed and no
// publisher uses it anymore. The client library would reconnect by itself, and an unseen loss
// cannot be reported. So a link is opened, used until anything about it is wrong, and closed. Then
// another one is opened after a jittered pause.
//
// # What a link must show
//
// The node regularly publishes a numbered message to itself, a canary, through the client's other
// connections. It also asks the link's server for its role, on the link itself (package subconn).
// The link is dropped if
//
//   - the connection breaks, or the server changes a subscription by itself,
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
	DefaultTimeout    = 2500 * time.Millisecond // two and a half canaries
	DefaultMinBackoff = 50 * time.Millisecond
	DefaultMaxBackoff = 2 * time.Second
)

// calmPeriod is how long a link must have lasted so that the backoff starts again at the minimum. A
// link that opens and breaks at once, as with missing permissions, never does.
const calmPeriod = 10 * time.Second

// Reasons why a link is dropped or not healthy.
var (
	// ErrNoCanary says that no message of this node to itself arrived recently.
	ErrNoCanary = errors.New("no canary arrived in time")
	// ErrUnexpected says that the server changed a subscription without being asked.
	ErrUnexpected = errors.New("unexpected subscription change")

	errSilent      = errors.New("the connection is silent")
	errNoneAtAll   = errors.New("no canary arrived in time") // perhaps none was accepted either
	errUnconfirmed = errors.New("a subscription was not confirmed in time")
)

// Options are the options of [Keep]. Publish and Log are required.
type Options struct {
	// Publish sends a canary through the client's other connections.
	Publish func(ctx context.Context, channel, payload string) error
	// Interval is the mean pause between two canaries. Default [DefaultInterval].
	Interval time.Duration
	// Timeout is how long a canary, an answer, opening a link, and each write may take before the
	// link is dropped. Default [DefaultTimeout].
	Timeout time.Duration
	// MinBackoff and MaxBackoff bound the pause before another link is opened. The pause doubles
	// from one to the other, with jitter. Default [DefaultMinBackoff] and [DefaultMaxBackoff].
	MinBackoff, MaxBackoff time.Duration
	// Strict drops a link if no canary arrived within Timeout, for whatever reason, even if none
	// could be published or the link is busy.
	Strict bool
	// AnyRole accepts a replica too, and never asks for the role. It needs Strict, because without
	// questions a link cannot be found silent or deaf.
	AnyRole bool
	// Others dials the client's other connections, which are closed when a link shows that they may
	// lead to the wrong server. It is nil in a Cluster.
	Others *subconn.Dialer
	// Log gets losses of links, at most one line in LogInterval (default [loglimit.Interval]) of
	// each kind, with the message Lost.
	Log         *zap.Logger
	LogInterval time.Duration
	Lost        string
	// Reopened is called when a link is opened after another one or after a failed attempt.
	// Returned is called when a canary arrives, with the time that it took. OnLoss is called when a
	// link is lost. They may be nil and must not block.
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

// Connection holds the settings of a link's connection.
type Connection struct {
	Dialer *subconn.Dialer
	// Subscribe is the subscription command, in lower case.
	Subscribe string
	// Canary is the canary channel. Channels are further channels to subscribe to.
	Canary   string
	Channels []string
	// Check is called for everything that arrives, including the link's own traffic, before
	// anything else. An error ends the link. It may be nil.
	Check func(ctx context.Context, received any) error
}

// User uses one link. Opened is called once, if the link could be opened, and Closed in any case.
// One goroutine calls the other methods in between, and reads the link only while none of them
// runs.
type User interface {
	// Opened gets a link whose channels are subscribed. work runs a function until the link ends.
	// If the function returns an error, the link ends with that error.
	Opened(l *Link, work func(func(ctx context.Context) error))
	// Message gets a message on any channel except the canary's.
	Message(m *redis.Message, now time.Time)
	// Subscription gets a confirmation, or a change that the server made by itself. An error ends
	// the link.
	Subscription(m *redis.Subscription, now time.Time) error
	// Refused gets an error that Redis answered, and reports whether the link continues.
	Refused(err error, now time.Time) bool
	// UnconfirmedSince returns when the oldest unconfirmed command was sent, zero if there is none.
	// It may be called by any goroutine.
	UnconfirmedSince() time.Time
	// Closed is called when the link and everything that used it has ended, or when the link could
	// not be opened.
	Closed()
}

// Keep opens a link, and another one whenever it is lost, until ctx ends. start returns the
// settings and the user of each link. If start fails, that counts as a loss.
func Keep(ctx context.Context, o Options, start func(ctx context.Context) (Connection, User, error)) {
	o = o.withDefaults()
	lost := loglimit.Limiter{Interval: o.LogInterval}
	backoff := o.MinBackoff
	for before := (past{}); ; before.opened = true {
		started := time.Now()
		err := runLink(ctx, o, start, &before)
		if ctx.Err() != nil {
			return // the end was requested, so errors on the way do not matter
		}
		// If an accepted canary did not come, another server accepted it. A hung server may wake up
		// after it has been replaced.
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
		// A jittered pause keeps nodes from reconnecting all at once.
		select {
		case <-time.After(backoff/2 + mathrand.N(backoff/2+1)): //nolint:gosec // jitter is no secret
		case <-ctx.Done():
			return
		}
		backoff = min(2*backoff, o.MaxBackoff)
	}
}

// past is what is known from earlier links.
type past struct {
	opened bool   // there was another link, or an attempt to open one
	astray bool   // the last link led to a replica, a hung server, or elsewhere than Others
	remote string // the address to which the last opened link led
}

// leave closes or retires connections of the client that were dialed before a link was opened and
// may lead elsewhere.
func (p *past) leave(others *subconn.Dialer, remote string, started time.Time) {
	switch {
	case others == nil:
	case p.astray || p.remote != "" && p.remote != remote:
		// Earlier connections may still lead to the former master. Its history has all events that
		// were delivered to groups, and none of those that they missed, so they would not be told
		// of a gap.
		others.CloseOthers(started)
	case p.opened:
		others.RetireOthers(started) // a proxy may have led them elsewhere too
	}
	p.remote = remote
}
