package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/session"
	"orgcast/internal/tracing"
)

// refusal says why a request is not served.
type refusal struct {
	err   error
	route *consumer.Route // nil if the path has none, or the refusal came before the lookup
	who   owner           // zero if the refusal came before the identity was known
}

// abandoned wraps the error in ErrPeerGone if it came about because the browser gave up: every
// question about a browser is asked under the context of its request.
func abandoned(r *http.Request, err error) error {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %w", ErrPeerGone, err)
	}
	return err
}

// refuse answers a request without upgrading it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, why refusal) {
	c := s.note(r, why)
	if c.retry > 0 {
		if ks := s.now.Load().kindsFor(r); ks != nil && ks.carrier.Refuse(w, r, ks.carrier.CloseFrame(c.code, retryText(c.retry))) {
			return
		}
		w.Header().Set("Retry-After", strconv.Itoa(int((c.retry+time.Second-1)/time.Second)))
	}
	writeProblem(w, c.status, c.name)
}

// maxLogged is how many bytes of a request's text a log line may contain.
const maxLogged = 128

// note counts a refusal and logs a sample of those with the same reason, because strangers can
// cause any number of them.
func (s *Server) note(r *http.Request, why refusal) cause {
	why.err = abandoned(r, why.err)
	c := causeOf(why.err).refusal()
	told, answered := errors.AsType[Refusal](why.err)
	if answered {
		c.status, c.name = told.Answer()
	}
	s.metrics.refused.WithLabelValues(c.name).Inc()
	tracing.Current(r.Context()).Fail(c.name)
	if why.who.user != "" {
		s.trail.Refused(why.who.org, why.who.user, c.name)
	}
	level := zap.InfoLevel
	if c.status >= http.StatusInternalServerError && !answered && !errors.Is(why.err, ErrPeerGone) {
		level = zap.WarnLevel
	}
	if !s.log.Core().Enabled(level) {
		return c
	}
	suppressed, ok := s.samples.allow(c.name)
	if !ok {
		return c
	}
	fields := []zap.Field{
		zap.String("reason", c.name), zap.Int("status", c.status),
		zap.String("client", s.now.Load().options.Proxies.Client(r)), zap.String("remote", r.RemoteAddr),
		zap.String("origin", logged(strings.Join(r.Header.Values("Origin"), ", "))),
		zap.Error(why.err), zap.Int("suppressed", suppressed),
	}
	if why.route != nil {
		fields = append(fields, zap.String("route", why.route.Pattern))
	} else {
		fields = append(fields, zap.String("path", logged(r.URL.EscapedPath())))
	}
	if why.who.user != "" {
		fields = append(fields, zap.Stringer("organization_id", why.who.org), zap.String("user_id", why.who.user))
	}
	if unreadable := new(session.UnreadableError); errors.As(why.err, &unreadable) {
		if kind := unreadable.Looks(); kind != "" {
			fields = append(fields, zap.String("looks_like", string(kind)), zap.String("hint", kind.Advice()))
		}
	}
	s.log.Log(level, "refused", fields...)
	return c
}

// logged shortens a stranger's text for a log line.
func logged(text string) string {
	if len(text) > maxLogged {
		return strings.ToValidUTF8(text[:maxLogged], "") + "…"
	}
	return text
}

// explainedBytes is how many bytes are read from a client after its refusal was explained. A client
// does not send more before it sees the close frame.
const explainedBytes = 64 << 10

// explain refuses a request, but upgrades it first if its route wants browsers to learn the reason:
// browsers do not show pages the status of a failed handshake. The connection counts toward the
// node's limit, in metrics and for Drain and Wait, until the browser has answered the close frame
// or CloseTimeout has passed.
func (s *Server) explain(w http.ResponseWriter, r *http.Request, why refusal) {
	h := s.now.Load()
	carrier := h.kindsFor(r).carrier
	if !why.route.Explain || !carrier.Explains() || !s.limits.takeExplained() {
		s.refuse(w, r, why)
		return
	}
	defer s.limits.giveExplained()
	c := s.note(r, why)
	t, err := carrier.Upgrade(w, r, nil) // a message in the request is not read
	if err != nil {
		return // Upgrade has answered
	}
	t.Expire(h.options.CloseTimeout)
	s.enterExplained(t)
	defer s.leaveExplained(t)
	defer func() { _ = t.Close() }() // it fails only if the socket is dead already
	if t.WriteClose(carrier.CloseFrame(c.code, c.text)) == nil {
		t.DrainUpTo(explainedBytes)
	}
}

// enterExplained registers an upgraded refusal.
func (s *Server) enterExplained(t Transport) {
	s.metrics.connections.Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.explained[t] = struct{}{}
	if s.over {
		t.Expire(0)
	}
}

// leaveExplained removes an upgraded refusal.
func (s *Server) leaveExplained(t Transport) {
	s.metrics.connections.Dec()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.explained, t)
	s.tellIfEmpty()
}

// writeProblem answers with a status and a stable code.
func writeProblem(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct { // an error means that the client has left
		Code string `json:"code"`
	}{code})
}
