package event

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // as Redis does it; it distinguishes keys and protects nothing
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"time"
)

// ErrInvalidPosition is returned for text that is not a position.
var ErrInvalidPosition = errors.New("event: position must have the form MILLISECONDS-SEQUENCE")

// How much a group's history keeps by default.
const (
	DefaultHistoryLength = 1000
	DefaultHistoryAge    = 24 * time.Hour
)

// Position is the place of a recorded event in the history of its group: the id of its entry in a
// Redis stream. Positions of one history grow, and compare with ==. The zero Position stands for
// the beginning of every history, before its first event.
type Position struct {
	ms, seq uint64
}

// ParsePosition parses the text that [Position.String] returns and accepts no other spelling, so
// equal positions are equal texts.
func ParsePosition(text string) (Position, error) {
	first, second, ok := strings.Cut(text, "-")
	ms, msOK := parseNumber(first)
	seq, seqOK := parseNumber(second)
	if !ok || !msOK || !seqOK {
		return Position{}, ErrInvalidPosition
	}
	return Position{ms: ms, seq: seq}, nil
}

// parseNumber accepts digits without leading zeros.
func parseNumber(digits string) (n uint64, ok bool) {
	if digits == "" || len(digits) > 1 && digits[0] == '0' || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

// NewPosition returns the position of event number seq in the millisecond ms since 1970.
func NewPosition(ms, seq uint64) Position { return Position{ms: ms, seq: seq} }

// Milliseconds returns when the event was recorded, by the clock of Redis, in milliseconds since
// 1970.
func (p Position) Milliseconds() uint64 { return p.ms }

// Sequence distinguishes the events of one millisecond.
func (p Position) Sequence() uint64 { return p.seq }

// IsZero reports whether p is the zero Position, which no event has.
func (p Position) IsZero() bool { return p == Position{} }

// Compare returns -1 if p comes before q, 1 if it comes after q, 0 if they are equal.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.ms, q.ms), cmp.Compare(p.seq, q.seq))
}

// String returns the position as Redis writes it.
func (p Position) String() string { return string(p.AppendTo(nil)) }

// AppendTo appends the text of the position to b.
func (p Position) AppendTo(b []byte) []byte {
	b = strconv.AppendUint(b, p.ms, 10)
	b = append(b, '-')
	return strconv.AppendUint(b, p.seq, 10)
}

// ErrInvalidMark is returned for text that is not a mark.
var ErrInvalidMark = errors.New("event: mark must be a position or have the form 0-0.EPOCH")

// Mark is the place in a group's history from which to continue: after the event at Position. If
// Position is zero, the history was empty. Epoch then tells whether Redis has lost the
// organization's data since: the history may be empty again for that reason. Marks can be compared
// with ==.
type Mark struct {
	Position Position
	Epoch    string
}

// maxEpochLength is far longer than any epoch.
const maxEpochLength = 64

// ParseMark parses the text that [Mark.String] returns, or a position alone.
func ParseMark(text string) (Mark, error) {
	position, epoch, dotted := strings.Cut(text, ".")
	p, err := ParsePosition(position)
	if err != nil || dotted && (!p.IsZero() || !validEpoch(epoch)) {
		return Mark{}, ErrInvalidMark
	}
	return Mark{Position: p, Epoch: epoch}, nil
}

func validEpoch(text string) bool {
	if text == "" || len(text) > maxEpochLength {
		return false
	}
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		default:
			return false
		}
	}
	return true
}

// String returns the text of the position. A zero position is followed by a dot and the epoch.
func (m Mark) String() string {
	if m.Position.IsZero() && m.Epoch != "" {
		return m.Position.String() + "." + m.Epoch
	}
	return m.Position.String()
}

// maxPositionLength is the length of the longest position, two numbers of 64 bits.
const maxPositionLength = 20 + 1 + 20

// Head precedes the object of an event that is recorded or traced.
type Head struct {
	Position Position
	// Key is the first 64 bits of the SHA-1 of the event's idempotency key, 0 if it has none.
	Key uint64
	// Trace is the span that published the event, zero if it is not known.
	Trace Trace
}

// CutHead cuts the head from the front of a payload. The head is a position and a space. If the
// event has an idempotency key, a number sign, the key's hash and a space follow. Words of metadata,
// which begin with a tilde, may come last, each with a space. A transient event has only those, or
// no head at all: it is an object, which never begins with a digit or a tilde. CutHead returns any
// other payload whole.
func CutHead(payload string) (h Head, object string) {
	h, object = cutRecorded(payload)
	if object != "" && object[0] == wordMark {
		h.Trace, object = cutWords(object)
	}
	return h, object
}

// cutRecorded cuts position and key from the front of a recorded event.
func cutRecorded(payload string) (h Head, object string) {
	if payload == "" || payload[0] < '0' || payload[0] > '9' {
		return Head{}, payload
	}
	space := strings.IndexByte(payload[:min(len(payload), maxPositionLength+1)], ' ')
	if space < 0 {
		return Head{}, payload
	}
	p, err := ParsePosition(payload[:space])
	if err != nil || p.IsZero() {
		return Head{}, payload
	}
	h.Position, object = p, payload[space+1:]
	if len(object) <= keyHashLength+1 || object[0] != '#' || object[keyHashLength+1] != ' ' {
		return h, object
	}
	key, ok := ParseKeyHash(object[1 : keyHashLength+1])
	if !ok {
		return h, object
	}
	h.Key = key
	return h, object[keyHashLength+2:]
}

// keyHashLength is the length of the hash of an idempotency key, in hexadecimal digits.
const keyHashLength = 16

// HashKey returns the hash of an idempotency key for a [Head].
func HashKey(key string) uint64 {
	sum := sha1.Sum([]byte(key)) //nolint:gosec // as Redis does it; it distinguishes keys and protects nothing
	return binary.BigEndian.Uint64(sum[:])
}

// ParseKeyHash parses the text of a hash that [HashKey] returns: 16 lowercase hexadecimal digits.
func ParseKeyHash(text string) (key uint64, ok bool) {
	if len(text) != keyHashLength || strings.Trim(text, "0123456789abcdef") != "" {
		return 0, false
	}
	key, err := strconv.ParseUint(text, 16, 64)
	return key, err == nil
}

// MaxIdempotencyKeyLength is the longest idempotency key, in bytes.
const MaxIdempotencyKeyLength = 128

// ErrInvalidIdempotencyKey is returned for a key that does not satisfy [ValidIdempotencyKey].
var ErrInvalidIdempotencyKey = errors.New("event: idempotency key must be 1 to 128 visible ASCII characters")

// ValidIdempotencyKey reports whether key may name one publication of a group: 1 to
// [MaxIdempotencyKeyLength] visible ASCII characters.
func ValidIdempotencyKey(key string) bool {
	if key == "" || len(key) > MaxIdempotencyKeyLength {
		return false
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return true
}
