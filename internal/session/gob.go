package session

import (
	"math"
	"strconv"

	"github.com/gorilla/securecookie"
)

// gobValues is gorilla's serializer, encoding/gob, except that it reads by itself what nearly every
// session is: a map from text to text, integers and booleans. A gob.Decoder compiles a program by
// reflection for each stream, here to run it once over some hundred bytes; that took longer than
// everything else about a cookie, the signature included.
//
// Whatever is not exactly of the usual form is left to gob. So the reader need not know what gob
// refuses; it must only be right about what it takes.
type gobValues struct{ securecookie.GobEncoder }

// Deserialize implements [securecookie.Serializer].
func (g gobValues) Deserialize(src []byte, dst any) error {
	if m, ok := dst.(*map[any]any); ok && len(*m) == 0 {
		if values, ok := readGob(src); ok {
			*m = values
			return nil
		}
	}
	return g.GobEncoder.Deserialize(src, dst)
}

// The format is that of package encoding/gob's documentation, "Encoding Details". Types have
// numbers: some from the start, others given in a definition.
const (
	gobBool   = 1
	gobInt    = 2
	gobString = 6
	// gobDefined is the lowest number that a definition gives.
	gobDefined = 64

	// The definition of map[any]any, around its own number, is a wireType with the field MapT,
	// which has the fields CommonType (of which only the number is set), Key and Elem (both number
	// 8, an interface).
	gobMapBegin = "\x04\x01\x02"
	gobMapEnd   = "\x00\x01\x10\x01\x10\x00\x00"
	// gobSingle stands before a value that is not a struct.
	gobSingle = "\x00"
)

// readGob reads a stream of two messages, the definition of map[any]any and one such map, whose
// keys are text and whose values text, int, int64 or bool. Of everything else it says not ok.
func readGob(src []byte) (values map[any]any, ok bool) {
	r := gobReader{rest: src}
	definition := gobReader{rest: r.bytes(r.uint())}
	message := gobReader{rest: r.bytes(r.uint())}
	id := -definition.int()
	definition.literal(gobMapBegin)
	if definition.int() != id || message.int() != id || id < gobDefined || id > math.MaxInt32 {
		return nil, false
	}
	definition.literal(gobMapEnd)
	message.literal(gobSingle)
	count := message.uint()
	if !definition.done() || !r.done() || count > uint64(len(message.rest)) { // an entry takes more than a byte
		return nil, false
	}
	values = make(map[any]any, count)
	for range count {
		key, isText := message.value().(string)
		value := message.value()
		if !isText || value == nil {
			return nil, false
		}
		values[key] = value
	}
	return values, message.done()
}

// gobReader takes bytes apart. After the first surprise it has failed and finds nothing more.
type gobReader struct {
	rest   []byte
	failed bool
}

func (r *gobReader) fail() { r.rest, r.failed = nil, true }

// done reports whether everything was read, without a surprise.
func (r *gobReader) done() bool { return !r.failed && len(r.rest) == 0 }

// bytes takes the next n bytes, or nil if there are fewer.
func (r *gobReader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.fail()
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// literal takes bytes that must be these.
func (r *gobReader) literal(want string) {
	if string(r.bytes(uint64(len(want)))) != want {
		r.fail()
	}
}

// uint takes a number: one byte up to 7F, or the negated count of the bytes that follow, the
// highest of them first.
func (r *gobReader) uint() uint64 {
	first := r.bytes(1)
	if len(first) == 0 || first[0] <= 0x7f {
		return bigEndian(first)
	}
	size := 0x100 - uint64(first[0])
	if size > 8 {
		r.fail()
		return 0
	}
	return bigEndian(r.bytes(size))
}

func bigEndian(b []byte) (n uint64) {
	for _, digit := range b {
		n = n<<8 | uint64(digit)
	}
	return n
}

// int takes a number whose lowest bit says that all others are inverted.
func (r *gobReader) int() int64 {
	n := r.uint()
	i := int64(n >> 1)
	if n&1 != 0 {
		return ^i
	}
	return i
}

// value takes what an interface holds: the name of the type, its number, and the bytes of the
// value. It returns nil and has failed if that is of another type than the four.
func (r *gobReader) value() any {
	name := r.bytes(r.uint())
	id := r.int()
	content := gobReader{rest: r.bytes(r.uint())}
	content.literal(gobSingle)
	var v any
	switch {
	case id == gobString && string(name) == "string":
		v = string(content.bytes(content.uint()))
	case id == gobInt && string(name) == "int64":
		v = content.int()
	case id == gobInt && string(name) == "int" && strconv.IntSize == 64: // else gob looks at the range
		v = int(content.int())
	case id == gobBool && string(name) == "bool":
		v = content.uint() != 0
	}
	if v == nil || !content.done() {
		r.fail()
		return nil
	}
	return v
}
