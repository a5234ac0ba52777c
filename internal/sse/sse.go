// Package sse speaks server-sent events with one client (HTML Standard, section 9.2): a response
// that does not end and carries what the gateway sends. It is for networks that block WebSockets,
// for EventSource, and for programs such as curl. A client says once, in its request, which groups
// it wants; it can send nothing later.
//
// A GET is for EventSource: the groups are in the query, and Last-Event-ID says where to go on. A
// POST has a subscribe frame as its body.
package sse

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/socket"
)

const (
	// Prefix begins the path of a stream. What follows is that of the WebSocket route behind
	// [socketPrefix].
	Prefix       = "/sse/"
	socketPrefix = "/ws/"

	// returnTime is what clients wait before they come back, in the middle, unless the close event
	// says otherwise. Each is told a time of its own, so that those who lose their node at one
	// moment do not return in step.
	returnTime = 2 * time.Second
	// intakeTime is what a client is told to wait whose organization sends too much, in seconds.
	intakeTime = "5"
	// preflightTime is how long a browser may remember what a foreign page may ask, in seconds.
	preflightTime = "600"
)

// Codes of refusals that only streams know.
const (
	// CodeWebSocketRequired answers messages: they need a WebSocket.
	CodeWebSocketRequired = "websocket_required"
	codeBadMessage        = "bad_message"
	codeTooLarge          = "too_large"
	codeRateLimit         = "rate_limit"
	codeMethod            = "method_not_allowed"
	codeVersion           = "http_version"
)

var (
	_ gateway.Carrier  = (*Carrier)(nil)
	_ gateway.Refusal  = refusal{}
	_ gateway.Personal = (*Stream)(nil)
)

// Options say what a client may ask and how it is written to. All fields must be set.
type Options struct {
	// MaxBody is the largest body of a POST, in bytes.
	MaxBody int64
	// WriteTimeout bounds one write.
	WriteTimeout time.Duration
	// AckTimeout is how long a client's system may leave bytes unacknowledged. Only Linux knows it.
	AckTimeout time.Duration
}

// Carrier makes streams. It is a gateway.Carrier, and safe for concurrent use.
type Carrier struct{ options Options }

// New returns a Carrier.
func New(o Options) *Carrier { return &Carrier{o} }

// Asked reports whether a request is for a stream.
func (*Carrier) Asked(r *http.Request) bool { return strings.HasPrefix(r.URL.EscapedPath(), Prefix) }

// Path returns the path of the route behind that of a stream.
func (*Carrier) Path(path string) string { return socketPrefix + strings.TrimPrefix(path, Prefix) }

// Offers reports whether the client knows a subprotocol. All streams speak the newest.
func (*Carrier) Offers(*http.Request, string) bool { return true }

// AllowsMissingOrigin reports whether a request without an Origin comes from a page of the same
// site. Browsers send none with a GET to their own site, but say where it comes from (Fetch
// Metadata, section 2.3). No page can forge that.
func (*Carrier) AllowsMissingOrigin(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") == "same-origin"
}

// Prepare lets an allowed page read the answer, whatever it is, and answers what cannot lead to a
// stream.
func (*Carrier) Prepare(w http.ResponseWriter, r *http.Request) (answered bool) {
	h := w.Header()
	h.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		h.Set("Access-Control-Expose-Headers", "Retry-After")
	}
	switch {
	case r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "":
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		h.Set("Access-Control-Allow-Headers", "Content-Type, Last-Event-ID")
		h.Set("Access-Control-Max-Age", preflightTime)
		w.WriteHeader(http.StatusNoContent)
		return true
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		h.Set("Allow", "GET, POST")
		errMethod.answer(w)
		return true
	}
	return false
}

// Refuse answers a refusal that a page should try again. EventSource gives up for good at any other status than
// 200, so a GET gets a stream that ends at once.
func (*Carrier) Refuse(w http.ResponseWriter, r *http.Request, last []byte) (answered bool) {
	if r.Method != http.MethodGet {
		return false
	}
	begin(w.Header())
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(last) // the client may be gone, which is all the same now
	return true
}

// Explains reports that programs see the status of a refusal.
func (*Carrier) Explains() bool { return false }

// begin sets the fields of the head of a stream.
func begin(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // else nginx keeps events until it has some KiB
}

// Upgrade begins the stream that was asked for. If it cannot, it has answered.
func (c *Carrier) Upgrade(w http.ResponseWriter, r *http.Request, b socket.Budget) (gateway.Transport, error) {
	asked, err := c.wishOf(w, r, b)
	if err != nil {
		if why, ok := errors.AsType[refusal](err); ok {
			why.answer(w)
		}
		return nil, err
	}
	conn, err := open(w, &c.options)
	if err != nil {
		if asked.message != nil {
			b.Give(socket.Held(asked.message))
		}
		return nil, err
	}
	return newStream(conn, &c.options, asked), nil
}

//nolint:gochecknoglobals // the table of each burst has a place for each
var (
	slot     = event.NewSlot()
	openSlot = event.NewSlot()

	// whole is an event as most clients get it.
	whole = &event.Encoding{Slot: slot, Encode: func(e *event.Event, s event.Shape, _ []byte) []byte {
		var b []byte
		if !e.Position().IsZero() {
			b = append(e.Position().AppendTo(append(b, "id: "...)), '\n')
		}
		return append(appendData(b, e.AppendText(nil, s)), '\n')
	}}
	// headless is an event for clients whose ids differ: the line with the id and the empty one are
	// missing.
	headless = &event.Encoding{Slot: openSlot, Encode: func(e *event.Event, s event.Shape, _ []byte) []byte {
		return appendData(nil, e.AppendText(nil, s))
	}}
)

// Encodings returns how events are written. Streams are not compressed.
func (*Carrier) Encodings() (plain, compressed *event.Encoding) { return whole, whole }

// Frame makes an event of a JSON text of the gateway's own.
func (*Carrier) Frame(text []byte) []byte { return append(appendData(nil, text), '\n') }

// appendData appends a text as data. It may hold line ends, where JSON has space.
func appendData(dst, text []byte) []byte {
	dst = append(dst, "data: "...)
	for {
		i := bytes.IndexAny(text, "\r\n")
		if i < 0 {
			return append(append(dst, text...), '\n')
		}
		dst = append(append(dst, text[:i]...), "\ndata: "...)
		text = text[i+1:]
	}
}

// PingFrame returns a comment. It makes a connection that is dead show it.
func (*Carrier) PingFrame() []byte { return []byte(":\n\n") }

// CloseFrame makes the last event. A reason that tells a time to wait is told to EventSource, too.
func (*Carrier) CloseFrame(code socket.StatusCode, reason string) []byte {
	text, _ := json.Marshal(struct { // a number and a text
		Code   socket.StatusCode `json:"code"`
		Reason string            `json:"reason"`
	}{code, reason})
	var wait struct {
		RetryAfterMS int64 `json:"retry_after_ms"`
	}
	var b []byte
	if json.Unmarshal([]byte(reason), &wait) == nil && wait.RetryAfterMS > 0 {
		b = append(strconv.AppendInt(append(b, "retry: "...), wait.RetryAfterMS, 10), '\n')
	}
	b = append(b, "event: close\n"...)
	return append(appendData(b, text), '\n')
}
