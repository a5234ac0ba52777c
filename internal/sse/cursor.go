package sse

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"orgcast/internal/event"
)

// cursor is the place of a client that used GET in the histories of its groups. It goes into the ids
// of events, which EventSource sends back as Last-Event-ID. One goroutine at a time may use it.
type cursor struct {
	groups []string
	at     []string // mark by group, "" if unknown
}

// add adds a group, once. It copies the name, which may be a part of a long query.
func (c *cursor) add(name string) {
	if slices.Contains(c.groups, name) {
		return
	}
	c.groups, c.at = append(c.groups, strings.Clone(name)), append(c.at, "")
}

// shares reports whether the ids of a group's events are the same for all clients, which is so if
// it is the only group.
func (c *cursor) shares(group string) bool { return len(c.groups) == 1 && c.groups[0] == group }

// move sets the mark of a group, and reports whether the group is one of the cursor's.
func (c *cursor) move(group, at string) bool {
	i := slices.Index(c.groups, group)
	if i >= 0 {
		c.at[i] = at
	}
	return i >= 0
}

// appendID appends the line with the id of an event.
func (c *cursor) appendID(dst []byte) []byte {
	dst = append(dst, "id: "...)
	for i, at := range c.at {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, at...)
	}
	return append(dst, '\n')
}

// appendEvent appends an event. An event of a group that the query does not name has no id, because
// its id would be taken for the mark of another group.
func (c *cursor) appendEvent(dst []byte, e *event.Event, s event.Shape) []byte {
	if !e.Position().IsZero() && c.move(e.Group().Name(), e.Position().String()) {
		dst = c.appendID(dst)
	}
	return append(append(dst, e.Alone().Bytes(s, headless)...), '\n')
}

// frame returns a frame with the id for this client. A frame that reports a group's mark gets an
// id. A frame in which a consumer shows an event again gets none, because live events of its group
// may have come before it.
func (c *cursor) frame(frame []byte) []byte {
	if bytes.HasPrefix(frame, []byte("id: ")) {
		return frame[bytes.IndexByte(frame, '\n')+1:]
	}
	text, ok := bytes.CutPrefix(frame, []byte("data: "))
	if !ok || !bytes.Contains(text, []byte(`"subscribed"`)) {
		return frame
	}
	var answer struct {
		Type  string `json:"type"`
		Group string `json:"group"`
		ID    string `json:"id"` // missing if there is no mark to resume from, not even the previous one
	}
	if json.Unmarshal(text, &answer) != nil || answer.Type != "subscribed" || !c.move(answer.Group, answer.ID) {
		return frame
	}
	return append(c.appendID(nil), frame...)
}
