package gateway

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/tracing"
	"orgcast/internal/trail"
)

// Membership says whether a user may act for an organization. Package directory implements it.
type Membership interface {
	// Admit returns the user's membership, or an error if the organization is unknown or suspended,
	// or the user is not an active member of it. [directory.ErrUnavailable] means that this could
	// not be looked up.
	Admit(ctx context.Context, org orgctx.ID, user string) (directory.Member, error)
}

// Quota bounds the connections of an organization over all nodes. Package quota implements it. The
// zero ID stands for all users without an organization, who count as one.
type Quota interface {
	// Take counts one connection. It returns [quota.ErrFull] at the limit, or another error if it
	// could not ask.
	Take(ctx context.Context, org orgctx.ID) error
	// Give takes one back. It does not block.
	Give(org orgctx.ID)
}

// Observer hears of connections. Its methods must not block. For one connection, Connected comes
// first and Disconnected last.
type Observer interface {
	// Connected is called when a connection is served, after the upgrade.
	Connected(c Observed)
	// Disconnected gets the short, stable name of the cause.
	Disconnected(c Observed, cause string)
	// ToldGap is called when the client was sent the news that events of a group may have been lost.
	ToldGap(c Observed, g event.Group)
}

// Observed says whose connection it is.
type Observed struct {
	Organization orgctx.ID // zero on routes that allow that
	UserID, ID   string
}

// Defaults of [Options].
const (
	DefaultMaxFrame                    = 64 << 10
	DefaultFramesPerSecond             = 20
	DefaultFrameBurst                  = 100
	DefaultQueueBytes                  = 1 << 20
	DefaultQueueBytesPerOrganization   = 64 << 20
	DefaultReceiveBytesPerOrganization = 16 << 20
	DefaultCompressThreshold           = 512
	DefaultGroupsPerConnection         = 100
	DefaultPingInterval                = 25 * time.Second
	DefaultPongTimeout                 = 10 * time.Second
	DefaultMessageTimeout              = 30 * time.Second
	DefaultWriteTimeout                = 10 * time.Second
	DefaultCloseTimeout                = 5 * time.Second
	DefaultHookTimeout                 = 10 * time.Second
)

// Options configure a Server. Zero values are replaced by the defaults below.
type Options struct {
	// Routes, Hub, Sessions and Membership must be given.
	Routes     *consumer.Registry
	Hub        *hub.Hub
	Sessions   session.Resolver
	Membership Membership
	// Leases keeps checking whether open connections may stay. If it is nil, they stay until their
	// session expires.
	Leases *lease.Keeper
	// History gives consumers the recorded events of their groups. If it is nil, all histories are
	// empty.
	History History
	// Presence knows who is in which group. If it is nil, nobody is shown.
	Presence Presence
	// Carriers are kinds of transports in addition to WebSockets. It may be nil.
	Carriers []Carrier
	// Origins are the pages that may connect.
	Origins Origins
	// Proxies are the peers that may tell a client's address. The zero Proxies trusts none.
	Proxies Proxies
	// Violated is called once, at the first isolation violation that is counted
	// ([Server.Violations]). It must not block. May be nil.
	Violated func()
	// Log and Registerer may be nil.
	Log        *zap.Logger
	Registerer prometheus.Registerer
	// Trail remembers what becomes of connections and of events at them. It may be nil.
	Trail *trail.Trail
	// Observer hears of connections. It may be nil.
	Observer Observer
	// Tracer makes spans of handshakes. It may be nil.
	Tracer *tracing.Tracer

	// MaxFrame is the largest frame of a browser, in bytes. Default [DefaultMaxFrame].
	MaxFrame int64
	// FramesPerSecond and FrameBurst bound how fast a browser may send. Default
	// [DefaultFramesPerSecond] and [DefaultFrameBurst].
	FramesPerSecond float64
	FrameBurst      int
	// QueueBytes bounds what waits for one browser. Default [DefaultQueueBytes].
	QueueBytes int
	// QueueBytesPerOrganization bounds what waits for all browsers of one organization. What waits
	// for several counts once. Connections that are ending may hold as much again. Default
	// [DefaultQueueBytesPerOrganization].
	QueueBytesPerOrganization int
	// ReceiveBytesPerOrganization bounds what is held of what all browsers of one organization have
	// sent: messages on their way in, and those that wait for their consumers or are being handled.
	// It has to have room for two messages of MaxFrame. Default
	// [DefaultReceiveBytesPerOrganization].
	ReceiveBytesPerOrganization int
	// Compress agrees on permessage-deflate, without context takeover, with browsers that offer it.
	// Events of CompressThreshold bytes or more are then compressed, once for all receivers.
	// Default of the threshold: [DefaultCompressThreshold].
	Compress          bool
	CompressThreshold int
	// GroupsPerConnection bounds memberships. Default [DefaultGroupsPerConnection].
	GroupsPerConnection int
	// MaxConnections and MaxPerUser bound the connections of this node. Default 0, no limit.
	MaxConnections int
	MaxPerUser     int
	// Quota bounds the connections of an organization. If it is nil, there is no limit.
	Quota Quota
	// HandshakesPerSecond bounds how fast connections are admitted. A tenth of it may come at once.
	// Default 0, no limit.
	HandshakesPerSecond float64

	// PingInterval is the silence after which a browser is pinged, PongTimeout the time it has to
	// answer. Default [DefaultPingInterval] and [DefaultPongTimeout].
	PingInterval time.Duration
	PongTimeout  time.Duration
	// MessageTimeout is the time that a browser has for one message, from its first byte to the
	// last of its last fragment. Any byte counts as a sign of life, so without it a browser that
	// sends one now and then would never be pinged and could stay forever. Default
	// [DefaultMessageTimeout].
	MessageTimeout time.Duration
	// IdleTimeout ends a connection whose browser sends no message for this long. Default 0, never.
	IdleTimeout time.Duration
	// WriteTimeout bounds one write to a browser. Default [DefaultWriteTimeout].
	WriteTimeout time.Duration
	// CloseTimeout bounds everything between the decision to end a connection and its end,
	// including a write that waits. Default [DefaultCloseTimeout].
	CloseTimeout time.Duration
	// HookTimeout bounds Connect, the context of Disconnect, and the time in which the consumer may
	// handle what a browser had sent before it left. Default [DefaultHookTimeout].
	HookTimeout time.Duration
}

// withDefaults returns the options with defaults instead of zero values.
func (o Options) withDefaults() Options {
	o.Log = cmp.Or(o.Log, zap.NewNop())
	o.MaxFrame = cmp.Or(o.MaxFrame, DefaultMaxFrame)
	o.FramesPerSecond = cmp.Or(o.FramesPerSecond, DefaultFramesPerSecond)
	o.FrameBurst = cmp.Or(o.FrameBurst, DefaultFrameBurst)
	o.QueueBytes = cmp.Or(o.QueueBytes, DefaultQueueBytes)
	o.QueueBytesPerOrganization = cmp.Or(o.QueueBytesPerOrganization, DefaultQueueBytesPerOrganization)
	o.ReceiveBytesPerOrganization = cmp.Or(o.ReceiveBytesPerOrganization, DefaultReceiveBytesPerOrganization)
	o.CompressThreshold = cmp.Or(o.CompressThreshold, DefaultCompressThreshold)
	o.GroupsPerConnection = cmp.Or(o.GroupsPerConnection, DefaultGroupsPerConnection)
	o.PingInterval = cmp.Or(o.PingInterval, DefaultPingInterval)
	o.PongTimeout = cmp.Or(o.PongTimeout, DefaultPongTimeout)
	o.MessageTimeout = cmp.Or(o.MessageTimeout, DefaultMessageTimeout)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, DefaultWriteTimeout)
	o.CloseTimeout = cmp.Or(o.CloseTimeout, DefaultCloseTimeout)
	o.HookTimeout = cmp.Or(o.HookTimeout, DefaultHookTimeout)
	return o
}

var errIncomplete = errors.New("gateway: Routes, Hub, Sessions and Membership must be given")

func (o Options) validate() error {
	if o.Routes == nil || o.Hub == nil || o.Sessions == nil || o.Membership == nil {
		return errIncomplete
	}
	return nil
}
