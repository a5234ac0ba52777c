package gateway

import (
	"bytes"
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/socket"
)

const (
	// readTimeout ends clients that are slow with TLS or with their request, or announce a body
	// that never arrives, for which net/http waits before it sends a refusal. It no longer applies
	// after the upgrade.
	readTimeout = 10 * time.Second
	// lookupTime is longer than the session store, directory and quota may take together.
	lookupTime = 10 * time.Second
	// maxHeader is far more than a cookie and a handshake need.
	maxHeader = 32 << 10
	// handshakeTime is what a handshake may take while others wait for its socket. Normally
	// it takes milliseconds, or a few round trips over a slow line with TLS.
	handshakeTime = time.Second
)

// HTTPServer returns the server of the public listener, with the handler h that contains this
// Server. It holds at most the given number of sockets, including connections; 0 is no limit.
//
// A stranger has a socket only for one handshake. A socket serves one request: a refused browser
// does not need another one, and a client that could send more could stay as long as it liked.
func (s *Server) HTTPServer(h http.Handler, sockets int) *http.Server {
	b := &border{sockets: sockets, server: s}
	s.metrics.strangers(b.strangers)
	// Only HTTP/1.1: a browser that has agreed on HTTP/2 could not open a WebSocket here.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	errorLog := zap.NewStdLog(s.log)
	errorLog.SetOutput(httpLog{s})
	server := &http.Server{
		Handler: h, Protocols: &protocols, ReadTimeout: readTimeout, MaxHeaderBytes: maxHeader,
		// For a response, which is short. It no longer applies after an upgrade.
		WriteTimeout: answerTime(&s.now.Load().options),
		ConnState:    b.follow, ErrorLog: errorLog,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return socket.WithLent(ctx, c, func() { b.follow(c, http.StateHijacked) })
		},
	}
	server.SetKeepAlivesEnabled(false)
	return server
}

// border tracks the sockets of the public listener that are not (yet) connections. Anybody can open
// them. It keeps them and the connections within the files that the node has for both, so that some
// are always left for Redis and for the private listener.
//
// If there is no room for a new socket, border closes the oldest one if it has had handshakeTime,
// because it is most likely idle. Otherwise it closes the new one. If it closed only new sockets,
// or let them wait, a few idle strangers could lock everyone out for readTimeout.
type border struct {
	sockets int // 0 is no limit
	server  *Server

	mu    sync.Mutex
	order list.List // of *stranger, the oldest first
	known map[net.Conn]*list.Element
}

type stranger struct {
	socket net.Conn
	since  time.Time
}

// follow receives state changes of a socket from net/http.
func (b *border) follow(socket net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if last, reason := b.track(socket); last != nil {
			b.turnAway(last, reason)
		}
	case http.StateHijacked, http.StateClosed:
		b.mu.Lock()
		b.forget(socket)
		b.mu.Unlock()
	default:
	}
}

// turnAway closes a socket for lack of room and counts it. It logs a sample.
func (b *border) turnAway(last net.Conn, reason string) {
	s := b.server
	s.metrics.turnedAway.WithLabelValues(reason).Inc()
	if suppressed, ok := s.samples.allow("socket " + reason); ok {
		s.log.Warn("socket closed, no room", zap.String("reason", reason), zap.Stringer("remote", last.RemoteAddr()), zap.Int("suppressed", suppressed))
	}
	socket.GiveWay(last)
}

// track adds a new socket, and returns the one to close for it, which may be the new one, and why.
func (b *border) track(socket net.Conn) (last net.Conn, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.sockets > 0 && len(b.known)+b.server.limits.count() >= b.sockets {
		oldest, _ := b.oldest()
		if oldest == nil || now.Sub(oldest.since) < handshakeTime {
			return socket, "full" // net/http finds it closed
		}
		last, reason = oldest.socket, "gave_way"
		b.forget(last)
	}
	if b.known == nil {
		b.known = make(map[net.Conn]*list.Element)
	}
	b.known[socket] = b.order.PushBack(&stranger{socket, now})
	return last, reason
}

// oldest returns the stranger who came first, nil if there is none. Its caller holds mu.
func (b *border) oldest() (oldest *stranger, ok bool) {
	if front := b.order.Front(); front != nil {
		oldest, ok = front.Value.(*stranger)
	}
	return oldest, ok
}

// forget removes a socket if it is tracked. Its caller holds mu.
func (b *border) forget(socket net.Conn) {
	if e, ok := b.known[socket]; ok {
		delete(b.known, socket)
		b.order.Remove(e)
	}
}

// strangers returns how many sockets are not connections.
func (b *border) strangers() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return float64(len(b.known))
}

// httpLog receives the error log of net/http. Strangers cause most of it, so it is sampled.
type httpLog struct{ server *Server }

// Write implements io.Writer, for one line or the stack of a panic.
func (l httpLog) Write(line []byte) (int, error) {
	s, reason := l.server, "other"
	for prefix, name := range map[string]string{
		"http: TLS handshake error": "tls", "http: Accept error": "accept", "http: panic serving": "panic",
	} {
		if bytes.HasPrefix(line, []byte(prefix)) {
			reason = name
		}
	}
	s.metrics.httpErrors.WithLabelValues(reason).Inc()
	if suppressed, ok := s.samples.allow("http " + reason); ok {
		s.log.Warn("public listener failure", zap.String("reason", reason), zap.ByteString("error", bytes.TrimSpace(line)), zap.Int("suppressed", suppressed))
	}
	return len(line), nil
}
