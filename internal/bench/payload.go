package bench

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// An event of the load generator is
//
//	{"type":"bench","organization_id":"ORG","room":N,"seq":N,"t":NANOSECONDS,"pad":"…"}
//
// room is the group's number within its organization, seq counts the group's events from 1 and t is
// the time of publishing. The server passes payloads on byte for byte, in the envelope
//
//	{"event":EVENT,"group":"GROUP"}
//
// so a client finds every field without decoding JSON. The text up to the room number is the same
// for all events of the client's organization, and so is the text after the event for all events of
// a group. Messages that look different are decoded properly and then checked.
const (
	eventField = `{"event":`
	eventType  = "bench"
	seqField   = `,"seq":`
	timeField  = `,"t":`
	padField   = `,"pad":"`
	eventEnd   = `"}`
	roomPrefix = `","room":`
)

// eventHead returns the start of every event of the organization, up to the room number.
func eventHead(organization string) []byte {
	return []byte(`{"type":"` + eventType + `","organization_id":"` + organization + roomPrefix)
}

// eventTail returns the end of every event of the group, as a client gets it.
func eventTail(group string) []byte { return []byte(`,"group":"` + group + `"}`) }

// appendEvent appends an event of at least size bytes; it is longer if its fields need more.
func appendEvent(dst, head []byte, d delivery, size int) []byte {
	start := len(dst)
	dst = append(dst, head...)
	dst = strconv.AppendInt(dst, d.room, 10)
	dst = append(dst, seqField...)
	dst = strconv.AppendInt(dst, d.seq, 10)
	dst = append(dst, timeField...)
	dst = strconv.AppendInt(dst, d.at, 10)
	dst = append(dst, padField...)
	for len(dst)-start < size-len(eventEnd) {
		// Not one repeated letter, which would make compression look better than it is.
		dst = append(dst, padText[(len(dst)-start)%len(padText)])
	}
	return append(dst, eventEnd...)
}

// padText has about the redundancy of the JSON that back ends send.
const padText = `status running, step 4 of 12; message: crawled https://example.org/shop/item/8731 in 212 ms, 3 links; ` +
	`agent researcher finished task 7 with tool search; next: writer; progress 38 percent; started 2026-03-01T09:30:00Z; `

// delivery holds the fields that a client reads from an event.
type delivery struct {
	room int64
	seq  int64
	at   int64 // nanoseconds since 1970
}

// parseDelivery parses an event that starts with head, in its envelope. ok is false for anything
// else.
func parseDelivery(p, head []byte) (d delivery, ok bool) {
	p, ok = bytes.CutPrefix(p, []byte(eventField))
	if !ok || !bytes.HasPrefix(p, head) {
		return d, false
	}
	if d.room, p, ok = cutNumber(p[len(head):], seqField); !ok {
		return d, false
	}
	if d.seq, p, ok = cutNumber(p, timeField); !ok {
		return d, false
	}
	d.at, _, ok = cutNumber(p, padField)
	return d, ok
}

// cutNumber reads the digits at the start of p and the text that must follow them.
func cutNumber(p []byte, follow string) (n int64, rest []byte, ok bool) {
	i := 0
	for i < len(p) && '0' <= p[i] && p[i] <= '9' {
		n = n*10 + int64(p[i]-'0')
		i++
	}
	if i == 0 || i > 19 || n < 0 || len(p) < i+len(follow) || string(p[i:i+len(follow)]) != follow {
		return 0, nil, false
	}
	return n, p[i+len(follow):], true
}

// envelope is the envelope of an event.
type envelope struct {
	Event json.RawMessage `json:"event"`
	Group string          `json:"group"`
}

// message is a frame of the server, or an event in an unusual form.
type message struct {
	Type         string          `json:"type"`
	Organization json.RawMessage `json:"organization_id"`
	Group        string          `json:"group"`
	Code         string          `json:"code"`
	Room         *int64          `json:"room"`
	Seq          *int64          `json:"seq"`
	At           *int64          `json:"t"`
}

// organization returns the organization that the message names, as text, or "".
func (m *message) organization() string {
	var text string
	if json.Unmarshal(m.Organization, &text) == nil {
		return text
	}
	return string(m.Organization)
}

// delivery returns the fields of the message if it is an event of the load generator after all,
// perhaps with fields that the server added.
func (m *message) delivery() (d delivery, ok bool) {
	if m.Type != eventType || m.Room == nil || m.Seq == nil || m.At == nil {
		return d, false
	}
	return delivery{room: *m.Room, seq: *m.Seq, at: *m.At}, true
}
