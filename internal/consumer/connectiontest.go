package consumer

import (
	"context"

	"orgcast/internal/event"
)

// ConnectionTest sends a greeting and echoes messages, so that a page or an operator can check that
// sockets work. It needs no organization.
type ConnectionTest struct{ Quiet }

// messageFrame is a greeting or an echo.
type messageFrame struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// Connect sends the greeting.
func (ConnectionTest) Connect(_ context.Context, c Conn) error {
	return c.Send(messageFrame{Type: "greeting", Message: "connected"})
}

// ReceiveMessage echoes the message. Pages of the original application send it without a type.
func (ConnectionTest) ReceiveMessage(_ context.Context, c Conn, m event.Message) error {
	var in struct {
		Message *string `json:"message"`
	}
	if m.Type != "" && m.Type != "message" {
		return ErrUnknownType
	}
	if err := m.Decode(&in); err != nil {
		return err
	}
	if in.Message == nil {
		return SendError(c, CodeBadMessage, "")
	}
	return c.Send(messageFrame{Type: "echo", Message: *in.Message})
}

var _ MessageHandler = ConnectionTest{}
