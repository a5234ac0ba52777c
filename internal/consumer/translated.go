package consumer

import (
	"encoding/json"

	"orgcast/internal/event"
)

// translated lets a consumer show some events to pages of the original application in the form that
// those pages know. Clients with [ProtocolV1] get every event as it was published. Only the
// connection's writer uses it.
type translated struct {
	began bool
}

// forward decides about an event. frame is what a page of the original application gets instead,
// nil for the event itself. A frame that is sent goes behind the events that wait already. So from
// the first frame on, every event is sent that way, or it would overtake the frames.
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

// flatFrame makes a frame from an event, with another type or other fields.
func flatFrame(e *event.Event, typ string, f fields) json.RawMessage {
	f["organization_id"] = rawText(e.Organization().String())
	return f.object(typ)
}
