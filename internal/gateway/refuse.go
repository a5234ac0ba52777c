package gateway

import (
	"context"
	"encoding/base64"
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
// connection like others, to the limit of the node, to metrics, and to whoever waits for the server.
func (s *Server) explain(w http.ResponseWriter, r *http.Request, why refusal) {
	if !why.route.Explain || !s.limits.takeExplained() {
		s.refuse(w, r, why)
		return
	}
	defer s.limits.giveExplained()
	c := s.note(r, why)
	u := &upgrader{ResponseWriter: w, options: &s.options}
	p, err := s.accept(u, r)
	if err != nil {
		return // accept has answered
	}
	wire := p.lent.wire
	wire.expire(s.options.CloseTimeout)
	s.enterExplained(wire)
	defer s.leaveExplained(wire)
	defer p.close()
	if wire.writeClose(closeFrame(c.code, c.text)) == nil {
		wire.drainUpTo(explainedBytes)
	}
}

// enterExplained puts an upgraded refusal on the books.
func (s *Server) enterExplained(w *wire) {
	s.metrics.connections.Inc()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.explained[w] = struct{}{}
	if s.over {
		w.expire(0)
	}
}

// leaveExplained takes it off them.
func (s *Server) leaveExplained(w *wire) {
	s.metrics.connections.Dec()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.explained, w)
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

// isHandshake reports whether the request is a WebSocket handshake (RFC 6455, section 4.2.1), so
// that no consumer is asked about one that cannot succeed.
func isHandshake(r *http.Request) bool {
	if r.ContentLength != 0 || r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1) || !hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket") {
		return false
	}
	if r.Header.Get("Sec-Websocket-Version") != "13" || len(r.Header.Values("Sec-Websocket-Key")) != 1 {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Header.Get("Sec-Websocket-Key")))
	return err == nil && len(key) == 16
}

// hasToken reports whether a header that is a list holds the token, regardless of case.
func hasToken(h http.Header, name, token string) bool { return findToken(h, name, token) != "" }

// findToken returns the token as it is spelled in a header that is a list, "" if it is not there.
func findToken(h http.Header, name, token string) string {
	for _, value := range h.Values(name) {
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.TrimSpace(part); strings.EqualFold(part, token) {
				return part
			}
		}
	}
	return ""
}

// offeredToken returns the subprotocol that the upgrade will agree on as the client spells it, since
// the answer must be one that it offered. It pins nothing of the request.
func offeredToken(r *http.Request) string {
	return strings.Clone(findToken(r.Header, "Sec-Websocket-Protocol", consumer.ProtocolV1))
}

// offeredProtocol returns the subprotocol that the upgrade will agree on.
func offeredProtocol(r *http.Request) string {
	if offeredToken(r) != "" {
		return consumer.ProtocolV1
	}
	return ""
}
