// Package subconn is one subscription connection to Redis whose server can be asked for its role.
//
// A deposed server keeps its subscribers. It answers them and accepts publications, but publishers
// have moved to another server. Behind a proxy that keeps connections, even a canary does not show
// this, because the publisher's connections still lead to the same server. Only the server itself
// can tell, and only on the connection in question, because any other may lead elsewhere.
//
// HELLO is the only suitable command. RESP3 allows it on a subscribed connection, and it needs no
// permissions on keys. A server does not refuse it because it cannot save (MISCONF, with which it
// refuses PING), is out of memory (OOM), or runs a script (BUSY).
package subconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

var (
	// ErrReplica says that the server is a replica, which publishers do not use.
	ErrReplica = errors.New("the server is a replica")
	// ErrNoRole says that the server does not report its role on this connection.
	ErrNoRole = errors.New("the server does not report its role on a subscription connection: RESP3 is required (Redis 6 or later, no protocol=2 in the URL)")

	errNotOpen = errors.New("the subscription connection is not open")
)

// hello is HELLO 3, because Redis 6.0 requires the number. The connection already uses RESP3, so it
// has no further effect.
const hello = "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"

// Role is the role that a server reports.
type Role string

// Err returns nil for the role of a master.
func (r Role) Err() error {
	switch r {
	case "master":
		return nil
	case "replica", "slave":
		return ErrReplica
	default:
		return ErrNoRole
	}
}

// Conn is one subscription connection, from its first command to its loss. It never reconnects.
// Send and Ask are safe for concurrent use. One goroutine at a time may call Receive.
type Conn struct {
	dialer *Dialer
	pubsub subscriber
	raw    atomic.Pointer[net.Conn] // nil until the connection is dialed

	writing sync.Mutex // held while a command is written: the library and Ask both write to raw
}

// Send writes a subscription command, given in lower case. The first Send connects, within ctx.
// Later ones obey only the deadline of ctx, and do not reconnect.
func (c *Conn) Send(ctx context.Context, command string, channels ...string) error {
	if c.raw.Load() == nil {
		ctx = context.WithValue(ctx, connKey{}, c)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	switch command {
	case "subscribe":
		return c.pubsub.Subscribe(ctx, channels...)
	case "unsubscribe":
		return c.pubsub.Unsubscribe(ctx, channels...)
	case "ssubscribe":
		return c.pubsub.SSubscribe(ctx, channels...)
	case "sunsubscribe":
		return c.pubsub.SUnsubscribe(ctx, channels...)
	default:
		return fmt.Errorf("subconn: %q is not a subscription command", command)
	}
}

// Ask asks the server for its role. Receive returns the answer in its turn.
func (c *Conn) Ask(timeout time.Duration) error {
	raw := c.raw.Load()
	if raw == nil {
		return errNotOpen
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := (*raw).SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	_, err := (*raw).Write([]byte(hello))
	return err
}

// Remote returns the address that the connection leads to, "" before it is open.
func (c *Conn) Remote() string {
	raw := c.raw.Load()
	if raw == nil {
		return ""
	}
	return (*raw).RemoteAddr().String()
}

// Receive returns the next message: a [redis.Message] or a [redis.Subscription], both as pointers,
// or a [Role]. A timeout of 0 means none. After an error that is not an answer of Redis, the
// connection is unusable.
func (c *Conn) Receive(ctx context.Context, timeout time.Duration) (any, error) {
	received, err := c.pubsub.ReceiveTimeout(ctx, timeout)
	if err == nil {
		return received, nil
	}
	if role, ok := parseRole(err.Error()); ok {
		return role, nil
	}
	if refusedHello(err) {
		return nil, fmt.Errorf("%w (%w)", ErrNoRole, err)
	}
	return nil, err
}

// Close closes the connection and ends a Receive in progress.
func (c *Conn) Close() error { return c.pubsub.Close() }

// unsupported is the start of the client library's error for an answer to a command that its
// subscriptions do not support. The answer, a map, follows in %#v form.
const unsupported = "redis: unsupported pubsub message: map["

// parseRole finds the role in the answer to HELLO. The role is "" if the answer has none.
func parseRole(text string) (role Role, ok bool) {
	answer, ok := strings.CutPrefix(text, unsupported)
	if !ok {
		return "", false
	}
	// Keys are sorted. Modules, which may contain any text, come before the role.
	const key = `"role":"`
	at := strings.LastIndex(answer, key)
	if at < 0 {
		return "", true
	}
	value, _, _ := strings.Cut(answer[at+len(key):], `"`)
	return Role(value), true
}

// refusedHello reports whether a server refused HELLO because of RESP2 or missing permissions, or
// does not know it.
func refusedHello(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && strings.Contains(strings.ToLower(answer.Error()), "hello")
}
