package gateway

import (
	"net/url"
	"runtime/debug"

	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/outbox"
	"orgcast/internal/session"
)

// host is what connections need of the server around them.
type host struct {
	options Options
	hub     *hub.Hub
	log     *zap.Logger
	metrics *metrics
	turns   turns
	// outboxes are the options of outboxes by policy, without and with the subprotocol.
	outboxes [3][2]outbox.Options
}

// setOutboxes makes the options of every kind of outbox there is.
func (h *host) setOutboxes() {
	policies := [...]outbox.Policy{
		consumer.Disconnect: outbox.Disconnect, consumer.DropOldest: outbox.DropOldest, consumer.Latest: outbox.Latest,
	}
	for i, policy := range policies {
		plain := outbox.Options{Policy: policy, Bytes: h.options.QueueBytes, BytesPerOrganization: h.options.QueueBytesPerOrganization}
		v1 := plain
		v1.Positions, v1.Gap = true, gapOf
		h.outboxes[i] = [2]outbox.Options{plain, v1}
	}
}

// client is who is connected, and on whose account. It never changes.
type client struct {
	host     *host
	id       string
	identity session.Identity
	route    *consumer.Route
	params   consumer.Params
	query    string  // not yet parsed: few consumers ask
	v1       bool    // the subprotocol was agreed on
	budget   *budget // of the organization
}

// ID implements consumer.Conn.
func (c *client) ID() string { return c.id }

// Param implements consumer.Conn.
func (c *client) Param(name string) string { return c.params.Get(name) }

// Query implements consumer.Conn.
func (c *client) Query() url.Values {
	values, _ := url.ParseQuery(c.query) // what is well formed of it, as net/http does
	return values
}

// Protocol implements consumer.Conn.
func (c *client) Protocol() string {
	if c.v1 {
		return consumer.ProtocolV1
	}
	return ""
}

// outboxOptions returns those of the client's outbox.
func (c *client) outboxOptions() *outbox.Options {
	kind := 0
	if c.v1 {
		kind = 1
	}
	return &c.host.outboxes[c.route.WhenFull][kind]
}

// guard runs a hook. A panic is logged with its stack, counted and returned as ErrPanic, so that it
// ends one connection alone.
func (c *client) guard(hook string, fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			c.host.metrics.panics.Inc()
			c.host.log.Error("panic in hook", zap.String("hook", hook), zap.String("route", c.route.Pattern),
				zap.String("connection", c.id), zap.Stringer("organization", c.identity.Organization), zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
			err = ErrPanic
		}
	}()
	return fn()
}

// admit is the last look at events before their bytes leave: does the organization that they name
// own this connection? Everything before has made sure that it does; should that ever fail, they
// are dropped, the connection ends and the counter that stays 0 does not.
func (c *client) admit(b *event.Burst) error {
	if b.Organization() == c.identity.Organization && !c.identity.Organization.IsZero() {
		return nil
	}
	c.host.log.Error("isolation violation prevented",
		zap.String("connection", c.id), zap.Stringer("organization", c.identity.Organization),
		zap.Stringer("event_organization", b.Organization()), zap.Stringer("group", b.Group()))
	c.host.violated()
	return ErrIsolation
}
