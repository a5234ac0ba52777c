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
)

// refusal is why a request is not served.
type refusal struct {
	err   error
	route *consumer.Route // nil if the request has none, or was refused before it was looked up
	who   owner           // the zero owner if the request was refused before that was known
}

// abandoned returns the error as one of the browser's if it stems from the end of the request, to which
// everything that is asked about a browser is bound.
func abandoned(r *http.Request, err error) error {
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w: %w", ErrPeerGone, err)
	}
	return err
}

// refuse answers a request that is not upgraded.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, why refusal) {
	c := s.note(r, why)
	if c.retry > 0 {
		if ks := s.kindsFor(r); ks != nil && ks.carrier.Refuse(w, r, ks.carrier.CloseFrame(c.code, retryText(c.retry))) {
			return
		}
		w.Header().Set("Retry-After", strconv.Itoa(int((c.retry+time.Second-1)/time.Second)))
	}
	writeProblem(w, c.status, c.name)
}

// maxLogged bounds what a log line takes over from a request, in bytes.
const maxLogged = 128

// note counts a refusal and logs it, unless there are many for the same reason: anybody can make them,
// and as many as the network carries.
func (s *Server) note(r *http.Request, why refusal) cause {
	why.err = abandoned(r, why.err)
	c := causeOf(why.err).refusal()
	s.metrics.refused.WithLabelValues(c.name).Inc()
	level := zap.InfoLevel
	if c.status >= http.StatusInternalServerError && !errors.Is(why.err, ErrPeerGone) {
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
		zap.String("client", s.options.Proxies.Client(r)), zap.String("remote", r.RemoteAddr),
		zap.String("origin", logged(strings.Join(r.Header.Values("Origin"), ", "))),
		zap.Error(why.err), zap.Int("suppressed", suppressed),
	}
	if why.route != nil {
		fields = append(fields, zap.String("route", why.route.Pattern))
	} else {
		fields = append(fields, zap.String("path", logged(r.URL.EscapedPath())))
	}
	if why.who.user != "" {
		fields = append(fields, zap.Stringer("organization", why.who.org), zap.String("user", why.who.user))
	}
	s.log.Log(level, "refused", fields...)
	return c
}

// logged cuts a text of a stranger's to what a log line holds.
func logged(text string) string {
	if len(text) > maxLogged {
		return strings.ToValidUTF8(text[:maxLogged], "") + "…"
	}
	return text
}

// explainedBytes is what is read of a client whose refusal was explained: nothing it may have sent
// before it has seen the close frame is larger.
const explainedBytes = 64 << 10

// explain refuses, but upgrades first if the route wants its browsers to see why: they are told
// nothing of a status. Until the browser has answered the close frame, or for CloseTimeout, that is a
// connection like others, to the limit of the node, to metrics, and to those who wait for the server.
func (s *Server) explain(w http.ResponseWriter, r *http.Request, why refusal) {
	carrier := s.kindsFor(r).carrier
	if !why.route.Explain || !carrier.Explains() || !s.limits.takeExplained() {
		s.refuse(w, r, why)
		return
	}
	defer s.limits.giveExplained()
	c := s.note(r, why)
	t, err := carrier.Upgrade(w, r, nil) // what a client sends with it is not read
	if err != nil {
		return // Upgrade has answered
	}
	t.Expire(s.options.CloseTimeout)
	s.enterExplained(t)
	defer s.leaveExplained(t)
	defer func() { _ = t.Close() }() // a dead socket shows at the close
	if t.WriteClose(carrier.CloseFrame(c.code, c.text)) == nil {
		t.DrainUpTo(explainedBytes)
	}
}

// enterExplained puts an upgraded refusal on the books.
func (s *Server) enterExplained(t Transport) {
	s.metrics.connections.Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.explained[t] = struct{}{}
	if s.over {
		t.Expire(0)
	}
}

// leaveExplained takes it off them.
func (s *Server) leaveExplained(t Transport) {
	s.metrics.connections.Dec()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.explained, t)
	s.tellIfEmpty()
}

// writeProblem answers with a stable code and nothing else.
func writeProblem(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct { // the client may be gone, which is all the same now
		Code string `json:"code"`
	}{code})
}
