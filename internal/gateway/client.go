package gateway

import (
	"errors"
	"net/http"
	"net/url"
	"runtime/debug"

	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/orgctx"
	"orgcast/internal/outbox"
	"orgcast/internal/session"
	"orgcast/internal/trail"
)

// shared is the part of the server that all connections share.
type shared struct {
	hub     *hub.Hub
	log     *zap.Logger
	metrics *metrics
	turns   *turns
	crew    *crew
	trail   *trail.Trail

	onClosed func(*conn) // releases the lease of a connection whose socket is closed
	onEnd    func(*conn) // takes an ended connection off the server's books
}

// host is the part of the server that a connection needs. It never changes: a reload makes another
// one, for the connections that come after it. A connection keeps the limits that it came with,
// because it was told some of them, and because its hot paths then need no lock to read them.
type host struct {
	shared

	options Options
	kinds   []kinds // by carrier
}

// newHost returns a host with these options.
func newHost(s shared, o Options) *host {
	h := &host{shared: s, options: o}
	for _, carrier := range append([]Carrier{newWebSocket(&h.options)}, o.Carriers...) {
		h.kinds = append(h.kinds, kindsOf(carrier, &h.options))
	}
	return h
}

// kindsFor returns the kinds of connections that a request may lead to, nil if no carrier was asked
// for.
func (h *host) kindsFor(r *http.Request) *kinds {
	for i := range h.kinds {
		if h.kinds[i].carrier.Asked(r) {
			return &h.kinds[i]
		}
	}
	return nil
}

// allows reports whether the page that asks may connect. A request without an Origin must be one that
// no page of another site can have caused.
func (h *host) allows(r *http.Request, carrier Carrier) bool {
	if h.options.Origins.Allows(r) {
		return true
	}
	if len(r.Header.Values("Origin")) > 0 {
		return false
	}
	native, ok := h.options.Sessions.(session.Native)
	return carrier.AllowsMissingOrigin(r) || ok && native.Native(r)
}

// kind is what clients share that came by one carrier, with or without the subprotocol, and have
// one policy for what gives way.
type kind struct {
	carrier Carrier
	v1      bool // the subprotocol was agreed on
	outbox  outbox.Options
	// compressed is how events are written for clients that agreed on compression.
	compressed *event.Encoding
}

// kinds are all kinds of one carrier: by policy, without and with the subprotocol.
type kinds struct {
	carrier Carrier
	of      [3][2]kind
}

// kindsOf makes the kinds of a carrier.
func kindsOf(carrier Carrier, o *Options) kinds {
	policies := [...]outbox.Policy{
		consumer.Disconnect: outbox.Disconnect, consumer.DropOldest: outbox.DropOldest, consumer.Latest: outbox.Latest,
	}
	ks := kinds{carrier: carrier}
	for i, policy := range policies {
		plain := kind{carrier: carrier}
		plain.outbox = outbox.Options{Policy: policy, Shape: event.Plain, Bytes: o.QueueBytes, BytesPerOrganization: o.QueueBytesPerOrganization}
		plain.outbox.Encoding, plain.compressed = carrier.Encodings()
		v1 := plain
		v1.v1, v1.outbox.Shape = true, event.Enveloped
		v1.outbox.Gap = func(g event.Group) []byte {
			frame, _ := v1.frame(gapFrame{Type: "gap", Group: g.Name()}) // two texts
			return frame
		}
		ks.of[i] = [2]kind{plain, v1}
	}
	return ks
}

// frame makes a frame of the server's own.
func (k *kind) frame(v any) ([]byte, error) {
	text, err := event.Marshal(v)
	if err != nil {
		return nil, err
	}
	return k.carrier.Frame(text), nil
}

// bytes returns events as they are sent.
func (k *kind) bytes(b *event.Burst, t Transport) []byte {
	if t.Compressed() {
		return b.Bytes(k.outbox.Shape, k.compressed)
	}
	return b.Bytes(k.outbox.Shape, k.outbox.Encoding)
}

// goodbye makes the close frame for a cause. A browser that closed gets its own code back, or none
// if it sent none.
func (k *kind) goodbye(cause error) []byte {
	if peer, ok := errors.AsType[peerClosedError](cause); ok {
		return k.carrier.CloseFrame(peer.code, "")
	}
	end := causeOf(cause)
	return k.carrier.CloseFrame(end.code, end.text)
}

// client is who is connected, and on whose account. It never changes.
type client struct {
	host     *host
	kind     *kind
	id       string
	identity session.Identity
	route    *consumer.Route
	params   consumer.Params
	query    string // unparsed: few consumers need it
	from     *caller
	budget   *budget           // of the organization
	trail    *trail.Connection // nil without an organization, or if nothing is remembered
}

// Trail implements hub.Remembered.
func (c *client) Trail() *trail.Connection { return c.trail }

// ID implements consumer.Conn.
func (c *client) ID() string { return c.id }

// Param implements consumer.Conn.
func (c *client) Param(name string) string { return c.params.Get(name) }

// Query implements consumer.Conn.
func (c *client) Query() url.Values {
	values, _ := url.ParseQuery(c.query) // the well-formed part, as net/http does
	return values
}

// Protocol implements consumer.Conn.
func (c *client) Protocol() string {
	if c.kind.v1 {
		return consumer.ProtocolV1
	}
	return ""
}

// guard runs a hook. It logs a panic with its stack, counts it and returns ErrPanic, so that a
// panic ends only this connection.
func (c *client) guard(hook string, fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			c.host.metrics.panics.Inc()
			c.host.log.Error("panic in hook", zap.String("hook", hook), zap.String("route", c.route.Pattern),
				zap.String("connection_id", c.id), zap.Stringer("organization_id", c.identity.Organization), zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
			err = ErrPanic
		}
	}()
	return fn()
}

// admit is the last check of events before their bytes leave: do they name the organization that
// owns this connection? Everything before has made sure that they do. If that ever fails, the
// events are dropped, the connection ends, and the count of violations is no longer 0.
func (c *client) admit(b *event.Burst) error {
	if b.Organization() == c.identity.Organization && !c.identity.Organization.IsZero() {
		return nil
	}
	return c.violation(b.Organization(), b.Group())
}

// violation counts and logs a foreign event or frame that was about to leave.
func (c *client) violation(org orgctx.ID, g event.Group) error {
	c.host.log.Error("isolation violation prevented",
		zap.String("connection_id", c.id), zap.Stringer("organization_id", c.identity.Organization),
		zap.Stringer("event_organization_id", org), zap.Stringer("group", g))
	c.host.violated()
	return ErrIsolation
}
