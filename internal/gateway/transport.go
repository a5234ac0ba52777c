package gateway

import (
	"net/http"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/socket"
)

// transport carries frames to one browser and messages from it. [socket.Conn] is the one that there is,
// and its comments are the contract: one goroutine reads and closes, the rest may be called by all.
type transport interface {
	Await()
	Next(b socket.Budget) (socket.Message, error)
	Heard() time.Time
	Unfinished() (since time.Time, ok bool)

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

var _ transport = (*socket.Conn)(nil)

// upgrade answers a handshake and returns what it leads to.
type upgrade func(w http.ResponseWriter, r *http.Request) (transport, error)

// upgradeSocket returns the upgrade to WebSocket. It compares the origin a second time.
func upgradeSocket(o *Options) upgrade {
	agreed := &socket.Options{
		Protocol: consumer.ProtocolV1, OriginPatterns: o.Origins.patterns, Compress: o.Compress,
		MaxMessage: o.MaxFrame, FramesPerSecond: o.FramesPerSecond, FrameBurst: o.FrameBurst,
		WriteTimeout: o.WriteTimeout, CloseTimeout: o.CloseTimeout,
	}
	return func(w http.ResponseWriter, r *http.Request) (transport, error) {
		c, err := socket.Upgrade(w, r, agreed)
		if err != nil {
			return nil, err // a nil *Conn would be a transport
		}
		return c, nil
	}
}
