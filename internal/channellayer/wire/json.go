package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	"orgcast/internal/orgctx"
)

// readJSON reads one object, and takes the names of the receivers out of it. Everything else stays
// as it was written.
func readJSON(payload []byte, limit int) (m Message, err error) {
	if !utf8.Valid(payload) { // encoding/json would replace what is not
		return Message{}, ErrMalformed
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return Message{}, ErrMalformed
	}
	seen := make(map[string]bool)
	m.Object = append(make([]byte, 0, min(len(payload), limit)), '{')
	for d.More() {
		start := d.InputOffset()
		t, err := d.Token()
		name, _ := t.(string)
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return Message{}, ErrMalformed
		}
		switch name {
		case receiversField, "type", "organization_id":
			if seen[name] {
				return Message{}, ErrMalformed
			}
			seen[name] = true
		}
		switch name {
		case receiversField:
			if m.Receivers, err = jsonReceivers(value); err != nil {
				return Message{}, err
			}
			continue
		case "type":
			m.Type = jsonText(value)
		case "organization_id":
			m.Organization, _ = orgctx.TextOrInteger(value)
		}
		if len(m.Object) > 1 {
			m.Object = append(m.Object, ", "...)
		}
		m.Object = append(m.Object, bytes.TrimLeft(payload[start:d.InputOffset()], ", \t\r\n")...)
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return Message{}, ErrMalformed
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Message{}, ErrMalformed
	}
	if m.Object = append(m.Object, '}'); len(m.Object) > limit {
		return Message{}, ErrTooLarge
	}
	return m, nil
}

// jsonReceivers reads the names of channels: a text, or an array of texts.
func jsonReceivers(value []byte) (names []string, err error) {
	var one string
	if value[0] == '"' && json.Unmarshal(value, &one) == nil {
		return []string{one}, nil
	}
	var list []*string // a null is not a text
	if json.Unmarshal(value, &list) != nil || len(list) > MaxReceivers {
		return nil, ErrMalformed
	}
	for _, name := range list {
		if name == nil {
			return nil, ErrMalformed
		}
		names = append(names, *name)
	}
	return names, nil
}

// jsonText returns a text, and "" for any other value.
func jsonText(value []byte) string {
	var s string
	if value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}
