package testkit

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Flat returns a frame as it is, and of an event in its envelope the event with the fields around it as the
// last of its own, so that one struct reads both.
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
