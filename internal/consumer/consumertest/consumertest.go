// Package consumertest lets consumers be tested without a gateway. It has a [Conn] that records
// what a consumer does with it, and [Services] that record their calls.
package consumertest

import (
	"context"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// Conn is the connection of one user. Set its exported fields before use. Its methods are safe for
// concurrent use.
type Conn struct {
	Who     session.Identity
	Params  map[string]string
	Request url.Values
	Speaks  string // the subprotocol
	// History contains recorded events, by the name of the group.
	History map[string][]*event.Event
	// Groups is how many groups may be joined. 0 means no limit.
	Groups int

	mu     sync.Mutex
	tree   []func(ctx context.Context) error // functions passed to Go
	sent   []string
	joined []string
	ended  error
}

var _ consumer.Conn = (*Conn)(nil)

// New returns the connection of a user in an organization.
func New(tb testing.TB, organization, user string) *Conn {
	tb.Helper()
	org, err := orgctx.ParseID(organization)
	if err != nil {
		tb.Fatal(err)
	}
	return &Conn{Who: session.Identity{UserID: user, Organization: org}, History: make(map[string][]*event.Event)}
}

// Context returns the context that a gateway would give the hooks.
func (c *Conn) Context(parent context.Context) context.Context {
	return orgctx.WithUser(orgctx.With(parent, c.Who.Organization), orgctx.User(c.Who.UserID))
}

// Event returns an event of the connection's organization, with the given fields, a JSON object. n
// counts the events of the history, and dates them, one each second. 0 makes a transient event.
func (c *Conn) Event(tb testing.TB, group, fields string, n uint64) *event.Event {
	tb.Helper()
	g, err := event.NewGroup(c.Who.Organization, group)
	if err != nil {
		tb.Fatal(err)
	}
	payload, err := event.WithOrganization(g.Organization(), []byte(fields))
	if err != nil {
		tb.Fatal(err)
	}
	const began, second = 1_700_000_000_000, 1000
	text := string(payload)
	if n > 0 {
		text = event.NewPosition(began+(n-1)*second, 0).String() + " " + text
	}
	e, err := event.Decode(g, text, event.DefaultMaxSize, time.Time{})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// Deliver delivers a live event like a gateway, if its group is joined.
func (c *Conn) Deliver(ctx context.Context, to consumer.OrganizationAwareConsumer, e *event.Event) {
	if !slices.Contains(c.Joined(), e.Group().Name()) {
		return
	}
	if h, ok := to.(consumer.EventHandler); ok && !h.HandleEvent(ctx, c, e) {
		return
	}
	c.record(c.live(e))
}

// live returns the frame of a live event.
func (c *Conn) live(e *event.Event) string {
	shape := event.Plain
	if c.Protocol() == consumer.ProtocolV1 {
		shape = event.Enveloped
	}
	return string(e.AppendText(nil, shape))
}

// Sent runs the functions that the consumer passed to Go, to their end, and returns the frames that
// were sent since the last call.
func (c *Conn) Sent() []string {
	c.mu.Lock()
	for len(c.tree) > 0 {
		fn := c.tree[0]
		c.tree = c.tree[1:]
		c.mu.Unlock()
		if err := fn(c.Context(context.Background())); err != nil {
			c.End(err)
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	sent := c.sent
	c.sent = nil
	return sent
}

// Joined returns the groups in the order of joining.
func (c *Conn) Joined() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.joined)
}

// Ended returns the cause with which the consumer ended the connection, if it did.
func (c *Conn) Ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

func (c *Conn) record(frame string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, frame)
}

// ID implements [consumer.Conn].
func (c *Conn) ID() string { return "connection" }

// Identity implements [consumer.Conn].
func (c *Conn) Identity() session.Identity { return c.Who }

// Param implements [consumer.Conn].
func (c *Conn) Param(name string) string { return c.Params[name] }

// Query implements [consumer.Conn].
func (c *Conn) Query() url.Values { return c.Request }

// Protocol implements [consumer.Conn].
func (c *Conn) Protocol() string { return c.Speaks }

// Join implements [consumer.Conn].
func (c *Conn) Join(ctx context.Context, name string) error {
	if _, err := event.NewGroup(c.Who.Organization, name); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case slices.Contains(c.joined, name):
	case c.Groups > 0 && len(c.joined) >= c.Groups:
		return consumer.ErrTooManyGroups
	default:
		c.joined = append(c.joined, name)
	}
	return nil
}

// JoinWithHistory implements [consumer.Conn].
func (c *Conn) JoinWithHistory(ctx context.Context, name string, n int, first func([]*event.Event) error) error {
	if err := c.Join(ctx, name); err != nil {
		return err
	}
	history := c.History[name]
	if err := first(history[max(0, len(history)-n):]); err != nil {
		c.Leave(name)
		return err
	}
	return nil
}

// Leave implements [consumer.Conn].
func (c *Conn) Leave(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined = slices.DeleteFunc(c.joined, func(joined string) bool { return joined == name })
}

// Send implements [consumer.Conn].
func (c *Conn) Send(v any) error {
	if e, ok := v.(*event.Event); ok {
		c.record(c.live(e))
		return nil
	}
	b, err := event.Marshal(v)
	if err != nil {
		return err
	}
	if c.Protocol() == consumer.ProtocolV1 {
		if err := consumer.CheckFrame(v, b); err != nil {
			return err
		}
	}
	c.record(string(b))
	return nil
}

// Go implements [consumer.Conn]. fn runs when [Conn.Sent] is called, so that tests see one order.
func (c *Conn) Go(fn func(ctx context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tree = append(c.tree, fn)
}

// End implements [consumer.Conn].
func (c *Conn) End(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended == nil {
		c.ended = cause
	}
}
