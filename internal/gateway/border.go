package gateway

import (
	"bytes"
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// readTimeout ends clients that dawdle over TLS, or over their request, or announce a body that never
	// comes, which net/http waits for before it sends a refusal. It ends with the upgrade.
	readTimeout = 10 * time.Second
	// lookupTime is longer than session store, directory and quota may take together.
	lookupTime = 10 * time.Second
	// maxHeader is far above what a cookie and a handshake take.
	maxHeader = 32 << 10
	// handshakeTime is what a handshake may take while others wait for its socket. When all goes well
	// it takes milliseconds, and one over a slow line with TLS some round trips.
	handshakeTime = time.Second
)

// HTTPServer returns the server of the public listener, for the handler that h makes of this Server. It
// holds at most so many sockets, connections among them; 0 is any number.
//
// A stranger has a socket for the time of one handshake. There is one request to a socket: a browser
// that is refused needs none again, and whoever could ask again would stay for as long as it liked.
func (s *Server) HTTPServer(h http.Handler, sockets int) *http.Server {
	b := &border{sockets: sockets, limits: s.limits, metrics: s.metrics}
	s.metrics.strangers(b.strangers)
	// HTTP/1.1 alone: a browser that agreed on HTTP/2 could not open a WebSocket here.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	errorLog := zap.NewStdLog(s.log)
	errorLog.SetOutput(httpLog{s})
	server := &http.Server{
		Handler: h, Protocols: &protocols, ReadTimeout: readTimeout, MaxHeaderBytes: maxHeader,
		// Of a response, which is short; an upgrade ends it.
		WriteTimeout: lookupTime + s.options.HookTimeout + s.options.WriteTimeout,
		ConnState:    b.follow, ErrorLog: errorLog,
	}
	server.SetKeepAlivesEnabled(false)
	return server
}

// border knows the sockets of the public listener that are no connections, or not yet: anybody can open
// them. It keeps them and the connections within the files that the node has for both, so that there
// are always some for Redis and for the private listener.
//
// Without room for a new one, the oldest stranger gives way if it has had the time that a handshake
// takes, since most likely it waits for nothing. Else the new one is closed. Closing nothing but new
// ones would let a few idle strangers lock everybody out for the time of readTimeout; to let new ones
// wait would do the same.
type border struct {
	sockets int // 0 is no limit
	limits  *limits
	metrics *metrics

	mu    sync.Mutex
	order list.List // of *stranger, the oldest first
	known map[net.Conn]*list.Element
}

type stranger struct {
	socket net.Conn
	since  time.Time
}

// follow is told by net/http what becomes of a socket.
func (b *border) follow(socket net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if last := b.enter(socket); last != nil {
			closeNow(last)
		}
	case http.StateHijacked, http.StateClosed:
		b.mu.Lock()
		b.forget(socket)
		b.mu.Unlock()
	default:
	}
}

// enter notes a new socket, and returns the one that has to go for it, which may be itself.
func (b *border) enter(socket net.Conn) (last net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.sockets > 0 && len(b.known)+b.limits.count() >= b.sockets {
		oldest, _ := b.oldest()
		if oldest == nil || now.Sub(oldest.since) < handshakeTime {
			b.metrics.turnedAway.WithLabelValues("full").Inc()
			return socket // net/http finds it closed
		}
		b.metrics.turnedAway.WithLabelValues("gave_way").Inc()
		last = oldest.socket
		b.forget(last)
	}
	if b.known == nil {
		b.known = make(map[net.Conn]*list.Element)
	}
	b.known[socket] = b.order.PushBack(&stranger{socket, now})
	return last
}

// oldest returns the stranger who came first, nil if there is none. Its caller holds mu.
func (b *border) oldest() (oldest *stranger, ok bool) {
	if front := b.order.Front(); front != nil {
		oldest, ok = front.Value.(*stranger)
	}
	return oldest, ok
}

// forget takes a socket off the books, if it is on them. Its caller holds mu.
func (b *border) forget(socket net.Conn) {
	if e, ok := b.known[socket]; ok {
		delete(b.known, socket)
		b.order.Remove(e)
	}
}

// strangers returns how many sockets are no connections.
func (b *border) strangers() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return float64(len(b.known))
}

// closeNow closes a socket without the farewell of TLS, which could wait for the peer.
func closeNow(socket net.Conn) {
	if secure, ok := socket.(interface{ NetConn() net.Conn }); ok {
		socket = secure.NetConn()
	}
	_ = socket.Close() // whatever is wrong with it, it is gone
}

// httpLog takes what net/http has to say. Most of it strangers cause, so it is sampled.
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
		s.log.Warn("http", zap.String("reason", reason), zap.ByteString("error", bytes.TrimSpace(line)), zap.Int("suppressed", suppressed))
	}
	return len(line), nil
}
