package event

import (
	"encoding/hex"
	"strings"
	"time"
)

// Trace names a span of a distributed trace, as W3C Trace Context does. The zero Trace names none.
// Traces compare with ==.
type Trace struct {
	ID      [16]byte
	Span    [8]byte
	Sampled bool
}

// traceparentLength is the length of a traceparent of version 00.
const traceparentLength = 55

// IsZero reports whether t names no span.
func (t Trace) IsZero() bool { return t == Trace{} }

// ParseTrace parses a traceparent: version, trace, span and flags, in lower case. It accepts later
// versions, which may say more behind the flags. ok is false for any other text.
func ParseTrace(text string) (t Trace, ok bool) {
	if len(text) < traceparentLength || text[2] != '-' || text[35] != '-' || text[52] != '-' || strings.Trim(text[:traceparentLength], "0123456789abcdef-") != "" {
		return Trace{}, false
	}
	version, flags := text[:2], text[53:55]
	if version == "ff" || version == "00" && len(text) > traceparentLength || len(text) > traceparentLength && text[traceparentLength] != '-' {
		return Trace{}, false
	}
	var flag [1]byte
	_, first := hex.Decode(t.ID[:], []byte(text[3:35]))
	_, second := hex.Decode(t.Span[:], []byte(text[36:52]))
	_, third := hex.Decode(flag[:], []byte(flags))
	_, fourth := hex.DecodeString(version)
	if first != nil || second != nil || third != nil || fourth != nil || t.ID == [16]byte{} || t.Span == [8]byte{} {
		return Trace{}, false
	}
	t.Sampled = flag[0]&1 != 0
	return t, true
}

// String returns the traceparent, of version 00. It is empty for the zero Trace.
func (t Trace) String() string {
	if t.IsZero() {
		return ""
	}
	b := make([]byte, 0, traceparentLength)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, t.ID[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, t.Span[:])
	if t.Sampled {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}

// A word of the head that begins with wordMark is metadata: ~NAME=VALUE. Readers ignore names that
// they do not know.
const (
	wordMark   = '~'
	tracedWord = "~traceparent="
	// maxWords is how many words of metadata a head has at most, and maxWord how long one is.
	maxWords = 8
	maxWord  = 256
)

// AppendTrace puts the metadata of a transient event before its object. It returns the object itself
// for the zero Trace.
func AppendTrace(t Trace, object []byte) []byte {
	if t.IsZero() {
		return object
	}
	b := make([]byte, 0, len(tracedWord)+traceparentLength+1+len(object))
	b = append(b, tracedWord...)
	b = append(b, t.String()...)
	b = append(b, ' ')
	return append(b, object...)
}

// cutWords cuts the words of metadata from the front of a payload. A payload with a word that is too
// long, or with too many, stays whole, and is then no object.
func cutWords(payload string) (t Trace, object string) {
	object = payload
	for range maxWords {
		if object == "" || object[0] != wordMark {
			return t, object
		}
		space := strings.IndexByte(object[:min(len(object), maxWord+1)], ' ')
		if space < 0 {
			return Trace{}, payload
		}
		if value, ok := strings.CutPrefix(object[:space], tracedWord); ok {
			t, _ = ParseTrace(value) // a bad one is as good as none
		}
		object = object[space+1:]
	}
	if object != "" && object[0] == wordMark {
		return Trace{}, payload
	}
	return t, object
}

// Watcher learns what becomes of one event on this node. Only events whose trace is sampled have
// one. It is safe for concurrent use, and blocks no caller for long.
type Watcher interface {
	// Offered is called before the event is offered to a number of members.
	Offered(members int)
	// Wrote is called when the event was written to one connection, and Lost when one does not get
	// it.
	Wrote(at time.Time)
	Lost()
	// Dropped is called instead if the event is offered to nobody.
	Dropped(reason string)
}

// Watch makes a watcher learn what becomes of the event. It must be called before the event is
// passed on.
func (e *Event) Watch(w Watcher) { e.alone.watchers = []Watcher{w} }

// Offered tells the event's watcher, if it has one.
func (e *Event) Offered(members int) {
	for _, w := range e.alone.watchers {
		w.Offered(members)
	}
}

// Dropped tells the event's watcher, if it has one.
func (e *Event) Dropped(reason string) {
	for _, w := range e.alone.watchers {
		w.Dropped(reason)
	}
}

// Lost tells the event's watcher, if it has one.
func (e *Event) Lost() {
	for _, w := range e.alone.watchers {
		w.Lost()
	}
}

// Wrote tells the watchers of the burst's events. It costs nothing if there are none.
func (b *Burst) Wrote(at time.Time) {
	for _, w := range b.watchers {
		w.Wrote(at)
	}
}
