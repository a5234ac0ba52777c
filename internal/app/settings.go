package app

import (
	"cmp"
	"runtime"

	"orgcast/internal/channellayer"
	"orgcast/internal/gateway"
	"orgcast/internal/pubsub"
	"orgcast/internal/quota"
	"orgcast/internal/sse"
)

// onOff names settings that may change while the process runs, but not be set or removed: whether
// there is TLS, for example, is decided when the listener starts.
func (o *Options) onOff(next *Options) (restart []string) {
	for _, s := range []struct{ name, before, after string }{
		{"tls-cert", o.TLSCert, next.TLSCert},
	} {
		if (s.before == "") != (s.after == "") {
			restart = append(restart, s.name)
		}
	}
	return restart
}

// prepareSettings is a [reloadStep] for everything that is not in a file of its own.
func (n *Node) prepareSettings(next *Options) (apply func(), err error) {
	if names := n.options().onOff(next); len(names) > 0 {
		return nil, &RestartError{names}
	}
	o, err := next.gatewayOptions()
	if err != nil {
		return nil, err
	}
	applyGateway, err := n.Gateway.PrepareReload(o)
	if err != nil {
		return nil, err
	}
	decoder, err := next.layerDecoder()
	if err != nil {
		return nil, err
	}
	return func() {
		applyGateway()
		n.Bus.SetLimits(next.busLimits())
		if n.layer != nil {
			n.layer.Change(decoder, channellayer.Limits(next.busLimits()))
		}
		n.leases.SetTimes(next.LeasePeriod, next.LeaseDeadline)
		n.quota.SetLimit(next.MaxPerOrganization)
		n.services.bytes.SetLimits(int64(next.MemberBytesPerOrganization), int64(next.MemberBytesPerUser))
		n.tasks.SetFallback(next.taskLimit())
		n.presence.SetBytes(next.PresenceBytesPerOrganization)
		n.now.Store(next)
	}, nil
}

// options returns the options that are in effect.
func (n *Node) options() *Options { return n.now.Load() }

// taskLimit returns the limit of tasks that wait.
func (o *Options) taskLimit() quota.TaskLimit {
	return quota.TaskLimit{Tasks: int64(o.TasksPerOrganization), Bytes: int64(o.TaskBytesPerOrganization), Weight: 1}
}

// busLimits returns the limits for the bus.
func (o *Options) busLimits() pubsub.Limits {
	l := pubsub.Limits{MaxEventSize: o.MaxEvent, EventsPerSecond: float64(o.EventsPerSecond), BytesPerSecond: int64(o.EventBytesPerSecond)}
	// There, zero means the default.
	if o.EventsPerSecond == 0 {
		l.EventsPerSecond = -1
	}
	if o.EventBytesPerSecond == 0 {
		l.BytesPerSecond = -1
	}
	return l
}

// handshakesPerProcessor is less than one processor can do, so that open connections are served
// meanwhile.
const handshakesPerProcessor = 1000

// EffectiveHandshakes returns how many handshakes per second the node admits.
func (o *Options) EffectiveHandshakes() int {
	return cmp.Or(o.HandshakesPerSecond, handshakesPerProcessor*runtime.GOMAXPROCS(0))
}

// EffectiveConnections returns how many connections the node may have; 0 is any number.
func (o *Options) EffectiveConnections() int {
	return cmp.Or(o.MaxConnections, o.files().connections)
}

// streamGroupBytes is the room in a request for a stream for each group that a connection may join.
// The longest name, position and signed token together are shorter.
const streamGroupBytes = 512

// gatewayOptions returns the settings of the gateway, without its parts.
func (o *Options) gatewayOptions() (g gateway.Options, err error) {
	g = gateway.Options{
		MaxFrame: int64(o.MaxFrame), FramesPerSecond: o.FramesPerSecond, FrameBurst: o.FrameBurst,
		QueueBytes: o.QueueBytes, QueueBytesPerOrganization: o.QueueBytesPerOrganization,
		ReceiveBytesPerOrganization: o.ReceiveBytesPerOrganization,
		Compress:                    o.Compress, CompressThreshold: o.CompressThreshold, GroupsPerConnection: o.Groups,
		MaxConnections: o.EffectiveConnections(), MaxPerUser: o.MaxPerUser,
		HandshakesPerSecond: float64(o.EffectiveHandshakes()),
		PingInterval:        o.PingInterval, PongTimeout: o.PongTimeout, MessageTimeout: o.MessageTimeout, IdleTimeout: o.IdleTimeout,
		WriteTimeout: o.WriteTimeout, CloseTimeout: o.CloseTimeout, HookTimeout: o.HookTimeout,
	}
	g.Carriers = []gateway.Carrier{sse.New(sse.Options{
		MaxBody: max(g.MaxFrame, streamGroupBytes*int64(o.Groups)), WriteTimeout: o.WriteTimeout, AckTimeout: o.PingInterval + o.PongTimeout,
	})}
	if g.Origins, err = gateway.ParseOrigins(o.Origins); err != nil {
		return g, err
	}
	g.Proxies, err = gateway.ParseProxies(o.TrustedProxies)
	return g, err
}
