package subconn

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// errRetired is the error that the client's pool gets when it checks a retired connection.
var errRetired = errors.New("subconn: the connection was retired")

// connKey marks the context in which a Conn is dialed.
type connKey struct{}

// subscriber is a [redis.PubSub].
type subscriber interface {
	Subscribe(ctx context.Context, channels ...string) error
	Unsubscribe(ctx context.Context, channels ...string) error
	SSubscribe(ctx context.Context, channels ...string) error
	SUnsubscribe(ctx context.Context, channels ...string) error
	ReceiveTimeout(ctx context.Context, timeout time.Duration) (any, error)
	Close() error
}

// Dialer opens subscription connections of a client, and tracks its other connections. It is a hook
// of that client, and must not be added to another one.
type Dialer struct {
	cluster   bool
	subscribe func(ctx context.Context) subscriber
	wrap      func(net.Conn) (net.Conn, error) // nil: do not wrap

	mu     sync.Mutex // never held during I/O
	others map[*other]struct{}
}

var _ redis.Hook = (*Dialer)(nil)

// NewDialer returns a Dialer and adds it to the client as a hook. wrap, which may be nil, wraps
// each connection that was dialed for a subscription. A Cluster client runs no such hooks, so use
// the client of a single member there.
//
// The client is a [redis.UniversalClient]. Callers that do not name that type compile ten times
// faster, because the compiler makes all methods of the clients once more in each package that
// names them.
//
//go:noinline
func NewDialer(universal redis.Cmdable, wrap func(net.Conn) (net.Conn, error)) *Dialer {
	client := universal.(redis.UniversalClient) //nolint:forcetypeassert,errcheck // as the comment says
	_, cluster := client.(*redis.ClusterClient)
	d := &Dialer{cluster: cluster, wrap: wrap, others: make(map[*other]struct{})}
	d.subscribe = func(ctx context.Context) subscriber { return client.Subscribe(ctx) }
	client.AddHook(d)
	return d
}

// Plain returns a function that opens subscription connections of a client, and whether it is one of a
// Cluster. They are the library's own: it opens a lost one again without a word. The client is as
// with [NewDialer].
//
//go:noinline
func Plain(universal redis.Cmdable) (open func(ctx context.Context) *redis.PubSub, cluster bool) {
	client := universal.(redis.UniversalClient) //nolint:forcetypeassert,errcheck // as the comment says
	_, cluster = client.(*redis.ClusterClient)
	return func(ctx context.Context) *redis.PubSub { return client.Subscribe(ctx) }, cluster
}

// Cluster reports whether the client is one of a Cluster.
func (d *Dialer) Cluster() bool { return d.cluster }

// Subscribe returns a subscription connection of the client. The first [Conn.Send] opens it.
func (d *Dialer) Subscribe(ctx context.Context) *Conn {
	return &Conn{dialer: d, pubsub: d.subscribe(ctx)}
}

// CloseOthers closes all connections of the client, except subscriptions, that were dialed before a
// moment. Commands in progress fail, and later ones dial.
//
// If a subscription turns out to lead to a replica, the client's other connections may lead there
// too, behind a proxy that keeps them. Publications would not reach anyone there, and reads would
// be stale: a session that has ended would still be found.
func (d *Dialer) CloseOthers(before time.Time) {
	for _, o := range d.dialedBefore(before) {
		_ = o.Close() // nothing is lost
	}
}

// RetireOthers makes the client stop using all connections, except subscriptions, that were dialed
// before a moment. Commands in progress finish. The client notices when it checks a connection
// before reuse. It does not check connections with TLS, so those stay in use.
func (d *Dialer) RetireOthers(before time.Time) {
	for _, o := range d.dialedBefore(before) {
		o.retired.Store(true)
	}
}

// dialedBefore returns the connections that were dialed before a moment.
func (d *Dialer) dialedBefore(moment time.Time) (list []*other) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for o := range d.others {
		if o.dialed.Before(moment) {
			list = append(list, o)
		}
	}
	return list
}

// DialHook implements [redis.Hook].
func (d *Dialer) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		started := time.Now()
		c, err := next(ctx, network, address)
		if err != nil {
			return nil, err
		}
		s, subscribes := ctx.Value(connKey{}).(*Conn)
		if !subscribes {
			return d.track(c, started), nil
		}
		if s.dialer != d {
			return c, nil // dialed for another Dialer of the same client
		}
		if d.wrap != nil {
			if c, err = d.wrap(c); err != nil {
				return nil, err
			}
		}
		s.raw.Store(&c)
		return c, nil
	}
}

// ProcessHook implements [redis.Hook].
func (d *Dialer) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements [redis.Hook].
func (d *Dialer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// other is a connection that is not a subscription.
type other struct {
	net.Conn
	dialer  *Dialer
	dialed  time.Time // when dialing began
	retired atomic.Bool
}

// otherSocket is an other that the client's pool can check before reuse.
type otherSocket struct {
	*other
	socket syscall.Conn
}

// SyscallConn is called by the pool's check.
func (o otherSocket) SyscallConn() (syscall.RawConn, error) {
	if o.retired.Load() {
		return nil, errRetired
	}
	return o.socket.SyscallConn()
}

// wrapped is a connection that encrypts another one. The client checks the inner connection for
// received data, such as the reason why a server refuses the connection.
type wrapped interface{ NetConn() net.Conn }

// otherWrapped is an other that encrypts another connection.
type otherWrapped struct {
	*other
	wrapped
}

// track remembers a connection until it is closed.
func (d *Dialer) track(c net.Conn, dialed time.Time) net.Conn {
	o := &other{Conn: c, dialer: d, dialed: dialed}
	d.mu.Lock()
	d.others[o] = struct{}{}
	d.mu.Unlock()
	switch c := c.(type) {
	case syscall.Conn:
		return otherSocket{o, c}
	case wrapped:
		return otherWrapped{o, c}
	default:
		return o
	}
}

// Close implements net.Conn.
func (o *other) Close() error {
	o.dialer.mu.Lock()
	delete(o.dialer.others, o)
	o.dialer.mu.Unlock()
	return o.Conn.Close()
}
