// Package sse sends server-sent events to one client (HTML Standard, section 9.2): a response that
// does not end and carries everything that the gateway sends. It is for networks that block
// WebSockets, for EventSource, and for programs such as curl. A client names the groups that it
// wants once, in its request. It cannot send anything later.
//
// A GET is for EventSource: the groups are in the query, and Last-Event-ID says where to resume. A
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
	// Prefix is the prefix of the paths of streams. The rest is the path of the WebSocket route
	// after [socketPrefix].
	Prefix       = "/sse/"
	socketPrefix = "/ws/"

	// returnTime is the mean time that clients wait before they reconnect, unless the close event
	// says otherwise. Each client gets a different time, so that clients that lose their node
	// together do not return together.
	returnTime = 2 * time.Second
	// intakeTime is how long a client whose organization sends too much should wait, in seconds.
	intakeTime = "5"
	// preflightTime is how long a browser may cache the answer to a preflight request, in seconds.
	preflightTime = "600"
)

// Codes of refusals that only streams have.
const (
	// CodeWebSocketRequired refuses messages, which need a WebSocket.
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

// Options limit the requests and the writes of streams. All fields are required.
type Options struct {
	// MaxBody is the largest body of a POST, in bytes.
	MaxBody int64
	// WriteTimeout bounds one write.
	WriteTimeout time.Duration
	// AckTimeout is how long a client's system may leave bytes unacknowledged. It applies on Linux
	// only.
	AckTimeout time.Duration
}

// Carrier makes streams. It is a gateway.Carrier, and safe for concurrent use.
type Carrier struct{ options Options }

// New returns a Carrier.
func New(o Options) *Carrier { return &Carrier{o} }

// Asked reports whether a request asks for a stream.
func (*Carrier) Asked(r *http.Request) bool { return strings.HasPrefix(r.URL.EscapedPath(), Prefix) }

// Path returns the path of the route for the path of a stream.
func (*Carrier) Path(path string) string { return socketPrefix + strings.TrimPrefix(path, Prefix) }

// Offers reports whether the client knows a subprotocol. All streams use the newest one.
func (*Carrier) Offers(*http.Request, string) bool { return true }

// Name implements [gateway.Carrier].
func (*Carrier) Name() string { return "sse" }

// AllowsMissingOrigin reports whether a request without an Origin comes from a page of the same
// site. Browsers send no Origin with a GET to their own site, but say that it is same-origin (Fetch
// Metadata, section 2.3). Pages cannot forge that.
func (*Carrier) AllowsMissingOrigin(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") == "same-origin"
}

// Prepare lets an allowed page read the answer, whatever it is, and answers requests that cannot
// become streams.
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
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID")
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

// Refuse answers a refused request that a page should repeat later. EventSource gives up at any
// status other than 200, so a GET gets a stream that ends at once.
func (*Carrier) Refuse(w http.ResponseWriter, r *http.Request, last []byte) (answered bool) {
	if r.Method != http.MethodGet {
		return false
	}
	begin(w.Header())
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(last) // the client may have disconnected already
	return true
}

// Explains reports false, because clients see the status of a refusal.
func (*Carrier) Explains() bool { return false }

// begin sets the header fields of a stream.
func begin(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // else nginx buffers events up to some KiB
}

// Upgrade begins the requested stream. If it returns an error, it has answered.
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

//nolint:gochecknoglobals // each burst has a slot for each encoding
var (
	slot     = event.NewSlot()
	openSlot = event.NewSlot()

	// whole is the encoding of events for most clients.
	whole = &event.Encoding{Slot: slot, Encode: func(e *event.Event, s event.Shape, _ []byte) []byte {
		var b []byte
		if !e.Position().IsZero() {
			b = append(e.Position().AppendTo(append(b, "id: "...)), '\n')
		}
		return append(appendData(b, e.AppendText(nil, s)), '\n')
	}}
	// headless is the encoding for clients whose ids differ. It lacks the id line and the final
	// empty line.
	headless = &event.Encoding{Slot: openSlot, Encode: func(e *event.Event, s event.Shape, _ []byte) []byte {
		return appendData(nil, e.AppendText(nil, s))
	}}
)

// Encodings returns the encodings of events. Streams are not compressed.
func (*Carrier) Encodings() (plain, compressed *event.Encoding) { return whole, whole }

// Frame returns a JSON text of the gateway or of a consumer as an event.
func (*Carrier) Frame(text []byte) []byte { return append(appendData(nil, text), '\n') }

// appendData appends a text as data. Line ends in it, which JSON treats as space, begin new lines
// of data.
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

// PingFrame returns a comment. Writing it reveals a dead connection.
func (*Carrier) PingFrame() []byte { return []byte(":\n\n") }

// CloseFrame returns the last event. If the reason contains a time to wait, EventSource gets that
// time too.
func (*Carrier) CloseFrame(code socket.StatusCode, reason string) []byte {
	text, _ := json.Marshal(struct { // it always encodes
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
