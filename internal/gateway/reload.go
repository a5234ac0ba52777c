package gateway

import (
	"net/http"
	"time"
)

// PrepareReload checks options with which the server can go on, and returns a function that applies
// them. Origins, Proxies, Carriers and the limits are those of next. The parts, such as Routes and
// Sessions, stay.
//
// Limits of the node apply at once, without ending a connection. Everything else applies to the
// connections and requests that come after it: open connections keep the limits that they came
// with.
func (s *Server) PrepareReload(next Options) (apply func(), err error) {
	o := s.now.Load().options
	next.Routes, next.Hub, next.Sessions, next.Membership = o.Routes, o.Hub, o.Sessions, o.Membership
	next.Leases, next.History, next.Quota, next.Violated = o.Leases, o.History, o.Quota, o.Violated
	next.Presence = o.Presence
	next.Log, next.Registerer, next.Observer, next.Tracer = o.Log, o.Registerer, o.Observer, o.Tracer
	next = next.withDefaults()
	if err := next.validate(); err != nil {
		return nil, err
	}
	h := newHost(s.shared, next)
	return func() {
		s.use(h)
		s.limits.set(&h.options)
	}, nil
}

// use makes a host the one of the next connections.
func (s *Server) use(h *host) {
	if end := int64(h.options.CloseTimeout + h.options.HookTimeout); end > s.slowestEnd.Load() {
		s.slowestEnd.Store(end) // one reload at a time
	}
	s.now.Store(h)
}

// SlowestEnd returns how long a connection may take from the decision to end it to its end.
func (s *Server) SlowestEnd() time.Duration { return time.Duration(s.slowestEnd.Load()) }

// answerTime is how long an answer to a request may take, while sessions are looked up and the
// Connect hook runs.
func answerTime(o *Options) time.Duration { return lookupTime + o.HookTimeout + o.WriteTimeout }

// extend gives a request the time that these options allow, if the server was started with less.
func (h *host) extend(w http.ResponseWriter, started time.Duration) {
	if own := answerTime(&h.options); own > started {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(own)) // at worst it stays
	}
}
