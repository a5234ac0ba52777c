// Package subconn is one subscription connection to Redis whose server can be asked for its role.
//
// A server that was deposed keeps its subscribers: it answers them, and takes what is published to
// it, but nobody publishes there any more. Behind a proxy that keeps connections even a canary shows
// nothing, because the publisher's connections stayed there too. Only the server itself can tell,
// and only on the connection in question, since any other may lead elsewhere.
//
// HELLO is the one command for it: RESP3 allows it on a subscribed connection, no right on keys is
// needed, and no server refuses it because it cannot save (MISCONF, which it also answers to PING),
// is out of memory (OOM), or runs a script (BUSY).
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
	// ErrReplica says that the server is a replica, on which nobody publishes.
	ErrReplica = errors.New("the server is a replica")
	// ErrNoRole says that the server does not tell its role on this connection.
	ErrNoRole = errors.New("the server does not tell its role on a subscription connection: RESP3 is needed, so Redis 6 or later, and no protocol=2 in the URL")

	errNotOpen = errors.New("the subscription connection is not open")
)

// hello is HELLO 3 and not HELLO alone, which says the same, because Redis 6.0 wants the number. The
// connection speaks RESP3 already.
const hello = "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"

// Role is what a server says it is.
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

// Conn is one subscription connection, from its first command to its loss. It never connects again.
// Send and Ask are safe for concurrent use; Receive is for one goroutine.
type Conn struct {
	dialer *Dialer
	pubsub *redis.PubSub
	raw    atomic.Pointer[net.Conn] // nil until it is dialed

	writing sync.Mutex // held while a command is written; both ways of writing end in raw
}

// Send writes one of the commands of subscriptions, in lower case. The first one connects, and ctx
// bounds that; later ones heed its deadline alone, and do not connect again.
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
		return fmt.Errorf("subconn: %q is not a command of subscriptions", command)
	}
}

// Ask asks the server for its role. Receive returns the answer, in the order of all answers.
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

// Receive returns what comes next: a [redis.Message], a [redis.Subscription], both as pointers, or a
// [Role]. A timeout of 0 means none. After an error that is not an answer of Redis the connection is
// of no use any more.
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

// Close ends the connection, and with it a Receive under way.
func (c *Conn) Close() error { return c.pubsub.Close() }

// unsupported is how the client library begins the error that it makes of an answer to a command
// which its subscriptions do not know. The answer itself, a map, follows in the form of %#v.
const unsupported = "redis: unsupported pubsub message: map["

// parseRole finds the role in the answer to HELLO, which is "" if it has none.
func parseRole(text string) (role Role, ok bool) {
	answer, ok := strings.CutPrefix(text, unsupported)
	if !ok {
		return "", false
	}
	// Keys stand in their order. Modules, which may say anything, come before the role.
	const key = `"role":"`
	at := strings.LastIndex(answer, key)
	if at < 0 {
		return "", true
	}
	value, _, _ := strings.Cut(answer[at+len(key):], `"`)
	return Role(value), true
}

// refusedHello reports whether a server refused HELLO: for RESP2, for its rights, or as unknown.
func refusedHello(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer) && strings.Contains(strings.ToLower(answer.Error()), "hello")
}
