package consumer

import (
	"context"
	"encoding/json"
	"errors"

	"orgcast/internal/event"
	"orgcast/internal/session"
)

// MessageHandler is a consumer of JSON messages. [JSON] turns it into an OrganizationAwareConsumer,
// whose rules for hooks apply.
type MessageHandler interface {
	Connect(ctx context.Context, c Conn) error
	// ReceiveMessage handles one JSON object. It returns [ErrUnknownType] for a type that it does
	// not know, and passes on errors of [event.Message.Decode]. Both become error frames, and the
	// connection stays. Any other error ends the connection.
	ReceiveMessage(ctx context.Context, c Conn, m event.Message) error
	Disconnect(ctx context.Context, c Conn, cause error)
}

// TextHandler is an extra ability of a [MessageHandler]: it also accepts text that is not JSON, for
// which other consumers send an error frame.
type TextHandler interface {
	// ReceiveText handles one text frame. Its errors are those of ReceiveMessage.
	ReceiveText(ctx context.Context, c Conn, text string) error
}

// pongFrame answers ping and keep_alive on every consumer.
type pongFrame struct {
	Type string `json:"type"` // "pong"
}

// JSON turns a MessageHandler into a consumer. It contains what all consumers share: ping and
// keep_alive get a pong, token prolongs a session that began with a token, a frame that is not a JSON object gets an error frame and the connection
// stays, and a binary frame ends the connection.
func JSON(h MessageHandler) OrganizationAwareConsumer {
	a := jsonConsumer{handler: h}
	if eh, ok := h.(EventHandler); ok {
		return struct {
			jsonConsumer
			EventHandler
		}{a, eh}
	}
	return a
}

type jsonConsumer struct {
	handler MessageHandler
}

func (j jsonConsumer) Connect(ctx context.Context, c Conn) error { return j.handler.Connect(ctx, c) }

func (j jsonConsumer) Disconnect(ctx context.Context, c Conn, cause error) {
	j.handler.Disconnect(ctx, c, cause)
}

func (j jsonConsumer) Receive(ctx context.Context, c Conn, f event.RawMessage) error {
	if f.Binary {
		return ErrTextRequired
	}
	m, err := event.ParseMessage(f)
	if err != nil {
		if h, ok := j.handler.(TextHandler); ok && !json.Valid(f.Data) {
			return answer(c, m, h.ReceiveText(ctx, c, string(f.Data)))
		}
		return SendError(c, CodeBadMessage, "")
	}
	switch m.Type {
	case "ping", "keep_alive":
		return c.Send(pongFrame{Type: "pong"})
	case "token":
		if t, ok := c.(Tokened); ok {
			if err := renewToken(ctx, c, t, m); !errors.Is(err, session.ErrNotRenewable) {
				return answer(c, m, err)
			}
		}
	}
	return answer(c, m, j.handler.ReceiveMessage(ctx, c, m))
}

// Quiet has a Connect and a Disconnect that do nothing, for consumers that need neither.
type Quiet struct{}

// Connect does nothing.
func (Quiet) Connect(context.Context, Conn) error { return nil }

// Disconnect does nothing.
func (Quiet) Disconnect(context.Context, Conn, error) {}
