package consumer

import (
	"errors"
	"slices"

	"orgcast/internal/event"
)

// ErrControlType is returned by [Conn.Send] for a frame that would look like one of the gateway's
// own frames.
var ErrControlType = errors.New("consumer: the type is one of the gateway's own frames")

// ControlTypes lists the types of the gateway's own frames. With [ProtocolV1], no other frame has
// one of them: events come in an envelope, and [Conn.Send] refuses these types from consumers.
func ControlTypes() []string {
	return []string{
		"welcome", "subscribed", "unsubscribed", "gap", "error", "pong", "presence", "presence_change", "history", "token_accepted",
	}
}

// IsControlType reports whether a type is one of the [ControlTypes].
func IsControlType(typ string) bool { return slices.Contains(ControlTypes(), typ) }

// control is one of the gateway's own frames that this package makes.
type control interface{ isControl() }

func (ErrorFrame) isControl()   {}
func (groupFrame) isControl()   {}
func (historyFrame) isControl() {}
func (pongFrame) isControl()    {}
func (tokenFrame) isControl()   {}

// CheckFrame returns [ErrControlType] if a consumer sends v and it looks like one of the gateway's
// own frames without being one. text is the JSON of v. CheckFrame returns [event.ErrDuplicateField]
// if text has two types.
func CheckFrame(v any, text []byte) error {
	if _, ok := v.(control); ok {
		return nil
	}
	m, err := event.ParseMessage(event.RawMessage{Data: text})
	switch {
	case errors.Is(err, event.ErrDuplicateField): // browsers would use the second type
		return err
	case err == nil && IsControlType(m.Type):
		return ErrControlType
	}
	return nil
}
