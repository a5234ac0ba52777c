package testkit

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Flat returns a frame unchanged. From an event in its envelope, it returns the event with the
// envelope's fields appended, so that one struct reads both.
func Flat(text string) []byte {
	var envelope struct {
		Event json.RawMessage
		Group *string
		ID    string
	}
	if json.Unmarshal([]byte(text), &envelope) != nil || envelope.Event == nil || envelope.Group == nil {
		return []byte(text)
	}
	return fmt.Appendf(nil, `%s,"group":%q,"id":%q}`, bytes.TrimSuffix(envelope.Event, []byte("}")), *envelope.Group, envelope.ID)
}
