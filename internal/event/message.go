package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// RawMessage is one message from a browser, as it arrived.
type RawMessage struct {
	// Binary tells a binary message from a text one.
	Binary bool
	// Data is the payload, valid UTF-8 in a text message. It belongs to the receiver of the
	// RawMessage.
	Data []byte
}

// Message is a text message with a JSON object that has a type. Consumers work with it.
type Message struct {
	// Type is the object's "type", empty if it has none.
	Type string
	data []byte
}

// ParseMessage parses a RawMessage as a Message. It returns [ErrNotObject] for a binary message and
// for anything except a JSON object, and [ErrDuplicateField] for a type given twice. A missing type
// is not an error, because some pages of the original application send none.
func ParseMessage(m RawMessage) (Message, error) {
	if m.Binary {
		return Message{}, ErrNotObject
	}
	env, err := scanObject(string(m.Data))
	if err != nil {
		return Message{}, err
	}
	return Message{Type: env.typ, data: m.Data}, nil
}

// ErrBadFields is returned, wrapped, for a message whose fields are of other kinds than expected.
var ErrBadFields = errors.New("event: message has fields of another kind")

// Decode reads the message's fields into the struct that v points to. Unknown fields are ignored.
// Its error wraps [ErrBadFields].
func (m Message) Decode(v any) error {
	if err := json.Unmarshal(m.data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrBadFields, err)
	}
	return nil
}

// Marshal returns the JSON of v, for one of the server's own frames. Unlike json.Marshal, it does
// not escape <, > and &: payloads are never part of a page, and each escape would take six bytes.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
