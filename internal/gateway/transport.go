package gateway

import (
	"net/http"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/socket"
)

// Transport carries frames to one client and messages from it. [socket.Conn] documents the contract
// of each method. One goroutine reads and closes; the other methods are safe for concurrent use.
type Transport interface {
	Await()
	Next(b socket.Budget) (socket.Message, error)
	Idle() bool
	Heard() time.Time
	Unfinished() (since time.Time, ok bool)

	Begin() error
	Direct() bool
	Compressed() bool
	TryWrite(frames []byte, how socket.How) (socket.Outcome, error)
	Finish() error
	Write(frames []byte) error
	WriteClose(frame []byte) error
	Mute()
	Muted() bool

	Expire(after time.Duration)
	Drain()
	DrainUpTo(limit int64)
	Close() error
}

// Personal is an extra ability of a [Transport] that is not Direct: it may encode events and frames
// differently for each client. Its methods may block, as Write does. One goroutine at a time calls
// them.
type Personal interface {
	// WriteEvents sends events.
	WriteEvents(b *event.Burst, s event.Shape) error
	// WriteFrame sends a frame of the gateway or of a consumer.
	WriteFrame(frame []byte) error
}

// Carrier is a kind of transport: how a client asks for it, how a connection begins, and how events
// and frames are encoded. It is safe for concurrent use.
type Carrier interface {
	// Name is what operators call the carrier.
	Name() string
	// Asked reports whether a request asks for this carrier.
	Asked(r *http.Request) bool
	// Path returns the path of the route to which a path of this carrier belongs.
	Path(path string) string
	// AllowsMissingOrigin reports whether a request without an Origin header cannot come from a
	// foreign page.
	AllowsMissingOrigin(r *http.Request) bool
	// Prepare adds headers to every answer to a page that may connect, including refusals. It
	// answers requests that cannot become connections, and reports whether it did.
	Prepare(w http.ResponseWriter, r *http.Request) (answered bool)
	// Refuse may answer a refused request that the client should repeat later, and reports whether
	// it did. last is the close frame with the reason.
	Refuse(w http.ResponseWriter, r *http.Request, last []byte) (answered bool)
	// Explains reports whether clients see a close frame but not the status of a refusal.
	Explains() bool
	// Offers reports whether the request offers a subprotocol.
	Offers(r *http.Request, protocol string) bool
	// Upgrade begins the connection. If it returns an error, it has answered the request; a
	// [Refusal] says how. If a message is part of the request, the budget counts it until Next returns it, and then as Next
	// says.
	Upgrade(w http.ResponseWriter, r *http.Request, b socket.Budget) (Transport, error)

	// Encodings returns the encoding of events, and the one for transports that are Compressed.
	Encodings() (plain, compressed *event.Encoding)
	// Frame returns a frame with a JSON text of the gateway or of a consumer.
	Frame(text []byte) []byte
	// PingFrame returns a frame that a client answers.
	PingFrame() []byte
	// CloseFrame returns the last frame of a connection.
	CloseFrame(code socket.StatusCode, reason string) []byte
}

// Refusal is an error of [Carrier.Upgrade] about the request, which the client was told.
type Refusal interface {
	error
	// Answer returns the status and the code of the answer.
	Answer() (status int, code string)
}

var _ Transport = (*socket.Conn)(nil)

// websocket is the [Carrier] of package socket.
type websocket struct {
	agreed   *socket.Options
	deflated *event.Encoding
}

//nolint:gochecknoglobals // each burst has a slot for each encoding
var (
	textSlot     = event.NewSlot()
	deflatedSlot = event.NewSlot()

	textFrames = &event.Encoding{Slot: textSlot, Encode: func(e *event.Event, s event.Shape, _ []byte) []byte {
		return e.AppendText(socket.NewTextFrame(e.TextSize(s)), s)
	}}
)

// newWebSocket returns the carrier of WebSockets. Its Upgrade checks the origin a second time.
func newWebSocket(o *Options) *websocket {
	threshold := o.CompressThreshold
	return &websocket{
		agreed: &socket.Options{
			Protocol: consumer.ProtocolV1, OriginPatterns: o.Origins.patterns, Compress: o.Compress,
			MaxMessage: o.MaxFrame, FramesPerSecond: o.FramesPerSecond, FrameBurst: o.FrameBurst,
			WriteTimeout: o.WriteTimeout, CloseTimeout: o.CloseTimeout,
		},
		deflated: &event.Encoding{Slot: deflatedSlot, Base: textFrames, Encode: func(_ *event.Event, _ event.Shape, frame []byte) []byte {
			return socket.Deflate(frame, threshold)
		}},
	}
}

// Asked implements [Carrier].
func (*websocket) Asked(r *http.Request) bool { return socket.IsHandshake(r) }

// Path implements [Carrier]. Routes are written as paths of WebSockets.
func (*websocket) Path(path string) string { return path }

// Name implements [Carrier].
func (*websocket) Name() string { return "websocket" }

// AllowsMissingOrigin implements [Carrier]. Every browser sends an Origin with a handshake.
func (*websocket) AllowsMissingOrigin(*http.Request) bool { return false }

// Prepare implements [Carrier].
func (*websocket) Prepare(http.ResponseWriter, *http.Request) bool { return false }

// Refuse implements [Carrier]. The status is enough.
func (*websocket) Refuse(http.ResponseWriter, *http.Request, []byte) bool { return false }

// Explains implements [Carrier].
func (*websocket) Explains() bool { return true }

// Offers implements [Carrier].
func (*websocket) Offers(r *http.Request, protocol string) bool { return socket.Offers(r, protocol) }

// Upgrade implements [Carrier].
func (ws *websocket) Upgrade(w http.ResponseWriter, r *http.Request, _ socket.Budget) (Transport, error) {
	c, err := socket.Upgrade(w, r, ws.agreed)
	if err != nil {
		return nil, err // a nil *Conn would be a Transport
	}
	return c, nil
}

// Encodings implements [Carrier].
func (ws *websocket) Encodings() (plain, compressed *event.Encoding) { return textFrames, ws.deflated }

// Frame implements [Carrier].
func (*websocket) Frame(text []byte) []byte { return socket.TextFrame(text) }

// PingFrame implements [Carrier].
func (*websocket) PingFrame() []byte { return socket.PingFrame() }

// CloseFrame implements [Carrier].
func (*websocket) CloseFrame(code socket.StatusCode, reason string) []byte {
	return socket.CloseFrame(code, reason)
}
