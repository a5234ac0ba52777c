package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// RawMessage is one message from a browser, as it came.
type RawMessage struct {
	// Binary tells a binary message from a text one.
	Binary bool
	// Data is the payload. A text's is valid UTF-8. It belongs to the receiver of the RawMessage.
	Data []byte
}

// Message is a text that holds a JSON object with a type: what consumers talk about.
type Message struct {
	// Type is the object's "type", empty if it has none.
	Type string
	data []byte
}

// ParseMessage reads a RawMessage as a Message. It returns [ErrNotObject] or [ErrDuplicateField] for
// a binary one, for anything but a JSON object and for a type given twice. A missing type is
// no error: some pages of the original send none.
func ParseMessage(m RawMessage) (Message, error) {
	if m.Binary {
		return Message{}, ErrNotObject
	}
	env, err := scanObject(m.Data)
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

// Marshal returns the JSON of v: what the server says to one connection. Unlike json.Marshal it leaves <, > and & as they are: no payload is ever part of
// a page, and a text of them would take six times its length.
func Marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
