// Package event contains the terms that Redis, hub, consumers and browser share. A [Group] is where
// events go, an [Event] is what a back end published, a [RawMessage] is what a browser sent, and
// [Marshal] encodes the server's own frames.
//
// A decoded Event is immutable. Transports decide how it is written. Each [Encoding] of an event is
// made once, kept with the event, and shared by all connections that receive it.
package event

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unicode/utf8"
	"unsafe"

	"orgcast/internal/orgctx"
)

// MaxTypeLength is the longest event type, in bytes.
const MaxTypeLength = 100

// DefaultMaxSize is the largest event payload that a node accepts by default, in bytes.
const DefaultMaxSize = 256 << 10

// Reasons why a payload is not an event. Such payloads are dropped, and counted under the [Reason]
// of the error.
var (
	ErrTooLarge       = errors.New("event: payload is larger than the limit")
	ErrNotUTF8        = errors.New("event: payload is not UTF-8")
	ErrNotObject      = errors.New("event: payload must be one JSON object")
	ErrInvalidType    = errors.New("event: type must be text of 1 to 100 characters of A-Z a-z 0-9 _ . : -")
	ErrNoOrganization = errors.New("event: organization_id is missing or invalid")
	ErrForeign        = errors.New("event: organization_id differs from the organization of its channel")
	ErrDuplicateField = errors.New("event: type or organization_id occurs twice")
)

// reasons names the errors of Decode, and of publications.
//
//nolint:gochecknoglobals // constant
var reasons = []struct {
	err       error
	name      string
	ofDecoded bool
}{
	{ErrTooLarge, "too_large", true},
	{ErrNotUTF8, "not_utf8", true},
	{ErrNotObject, "not_an_object", true},
	{ErrDuplicateField, "duplicate_field", true},
	{ErrInvalidType, "invalid_type", true},
	{ErrNoOrganization, "no_organization", true},
	{ErrForeign, "foreign_organization", true},
	{ErrInvalidIdempotencyKey, "invalid_idempotency_key", false},
}

// DecodeErrors returns the errors of [Decode], each of which has a [Reason].
func DecodeErrors() []error {
	var list []error
	for _, r := range reasons {
		if r.ofDecoded {
			list = append(list, r.err)
		}
	}
	return list
}

// Reason returns the short, stable name of the reason why a payload is not an event, or must not be
// published. Metrics, the log and answers to publishers use it. Other errors are "invalid".
func Reason(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return "invalid"
}

// Event is one message of a back end to a group. Except for what counts its deliveries, it is
// immutable. It is safe for concurrent use.
type Event struct {
	group    Group
	org      orgctx.ID // the organization that the payload names
	typ      string
	object   string // the payload
	position Position
	key      uint64
	received time.Time
	tally    atomic.Pointer[Tally]
	alone    Burst     // the burst of this event alone
	self     [1]*Event // the list in alone
}

// Decode checks a payload that arrived for the group and returns it as an Event. The payload must
// be one JSON object in UTF-8 of at most limit bytes. Its "organization_id" must name the group's
// own organization, as text or as an integer, and it must have a "type". Integers are compared
// digit by digit and never as floating-point numbers. Each of the two names may occur only once,
// because programs differ in which of two equal names they use. The object of a recorded event
// follows its [Head]. received is the time of arrival, from which latency is measured.
func Decode(g Group, payload string, limit int, received time.Time) (*Event, error) {
	head, object := CutHead(payload)
	return DecodeObject(g, head, object, limit, received)
}

// DecodeObject is like [Decode], for a payload whose head has been cut off.
func DecodeObject(g Group, h Head, object string, limit int, received time.Time) (*Event, error) {
	if len(object) > limit {
		return nil, ErrTooLarge
	}
	fields, org, err := check(g, object)
	if err != nil {
		return nil, err
	}
	e := &Event{group: g, org: org, typ: fields.typ, object: object, position: h.Position, key: h.Key, received: received}
	e.self[0] = e
	e.alone.events = e.self[:]
	return e, nil
}

// check applies the rules of [Decode] and [Check], except for the size.
func check(g Group, payload string) (envelope, orgctx.ID, error) {
	if !utf8.ValidString(payload) {
		return envelope{}, orgctx.ID{}, ErrNotUTF8
	}
	fields, err := scanObject(payload)
	if err != nil {
		return envelope{}, orgctx.ID{}, err
	}
	if !ValidType(fields.typ) {
		return envelope{}, orgctx.ID{}, ErrInvalidType
	}
	org, err := orgctx.ParseID(fields.organization)
	if err != nil {
		return envelope{}, orgctx.ID{}, ErrNoOrganization
	}
	if g.IsZero() || org != g.Organization() {
		return envelope{}, orgctx.ID{}, ErrForeign
	}
	return fields, org, nil
}

// ValidType reports whether text may be the type of an event or frame: 1 to [MaxTypeLength] ASCII
// letters, digits and any of _ . : - in any place.
func ValidType(text string) bool {
	if text == "" || len(text) > MaxTypeLength {
		return false
	}
	for i := range len(text) {
		c := text[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == ':', c == '-':
		default:
			return false
		}
	}
	return true
}

// Group returns the group the event was published to.
func (e *Event) Group() Group { return e.group }

// Organization returns the organization that the payload itself names. [Decode] has checked that it
// is the group's. The writer of each connection compares it once more before bytes leave.
func (e *Event) Organization() orgctx.ID { return e.org }

// Type returns the event's type.
func (e *Event) Type() string { return e.typ }

// Position returns the event's place in the history of its group, zero if it is transient.
func (e *Event) Position() Position { return e.position }

// Key returns the hash of the idempotency key under which the event was recorded, 0 if there was
// none. See [Head].
func (e *Event) Key() uint64 { return e.key }

// Payload returns the JSON object. It is shared: the caller must not change it.
func (e *Event) Payload() []byte {
	return unsafe.Slice(unsafe.StringData(e.object), len(e.object)) //nolint:gosec // nobody writes there
}

// Size returns how many bytes the payload has.
func (e *Event) Size() int { return len(e.object) }

// Received returns when this node received the event.
func (e *Event) Received() time.Time { return e.received }

// String names the event without its content, for logs.
func (e *Event) String() string { return fmt.Sprintf("%s to %s", e.typ, e.group) }
