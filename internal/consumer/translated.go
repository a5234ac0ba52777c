package consumer

import (
	"encoding/json"

	"orgcast/internal/event"
)

// translated lets a consumer show some events to pages of the original in the form that those know.
// Clients with [ProtocolV1] get every event as it was published. The connection's writer alone uses it.
type translated struct {
	began bool
}

// forward decides about an event: frame is what a page of the original gets instead, nil if that is
// the event itself. A frame that is sent goes behind the events that wait already, so from the first
// one on every event goes that way: else they would overtake it.
func (t *translated) forward(c Conn, e *event.Event, frame json.RawMessage) bool {
	if c.Protocol() == ProtocolV1 || frame == nil && !t.began {
		return true
	}
	t.began = true
	var sent any = frame
	if frame == nil {
		sent = e
	}
	if err := c.Send(sent); err != nil {
		c.End(err)
	}
	return false
}

// flatFrame makes the frame of an event that has another type or other fields than the event has.
func flatFrame(e *event.Event, typ string, f fields) json.RawMessage {
	f["organization_id"] = rawText(e.Organization().String())
	return f.object(typ)
}
