package sse

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"orgcast/internal/event"
)

// cursor is where the client of a GET stands in the histories of its groups. It goes into the ids
// of events, which EventSource sends back as Last-Event-ID. It is for one goroutine at a time.
type cursor struct {
	groups []string
	at     []string // by group, "" if it is not known
}

// add adds a group, once. The name is copied, since it may be a part of a long query.
func (c *cursor) add(name string) {
	if slices.Contains(c.groups, name) {
		return
	}
	c.groups, c.at = append(c.groups, strings.Clone(name)), append(c.at, "")
}

// shares reports whether the ids of a group's events are the same for all clients: it is the only
// one.
func (c *cursor) shares(group string) bool { return len(c.groups) == 1 && c.groups[0] == group }

// move notes a place, and reports whether it is of one of the groups.
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

// appendEvent appends an event. One of a group that the query does not name has no id, which would
// be taken for the place of another.
func (c *cursor) appendEvent(dst []byte, e *event.Event, s event.Shape) []byte {
	if !e.Position().IsZero() && c.move(e.Group().Name(), e.Position().String()) {
		dst = c.appendID(dst)
	}
	return append(append(dst, e.Alone().Bytes(s, headless)...), '\n')
}

// frame returns a frame with the id that it has for this client. That is one if it says where a
// group stands. It is none if a consumer shows an event again: live ones of its group may have been
// before it.
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
		ID    string `json:"id"` // missing if there is no place to resume from, also not the former one
	}
	if json.Unmarshal(text, &answer) != nil || answer.Type != "subscribed" || !c.move(answer.Group, answer.ID) {
		return frame
	}
	return append(c.appendID(nil), frame...)
}
