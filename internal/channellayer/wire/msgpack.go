package wire

import (
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// maxDepth is how deeply maps and arrays may be nested. Python senders cannot exceed 511.
const maxDepth = 512

// readMessagePack reads one map, and writes it as JSON of at most limit bytes.
func readMessagePack(payload []byte, limit int) (Message, error) {
	r := reader{out: make([]byte, 0, min(2*len(payload), limit)), limit: limit}
	m, rest, err := r.message(payload)
	switch {
	case err != nil:
		return Message{}, err
	case len(rest) > 0:
		return Message{}, ErrMalformed
	case r.unfit:
		return Message{}, ErrNotJSON
	}
	m.Object = r.out
	return m, nil
}

// reader writes as JSON what it reads. Its methods return the bytes after what they have read.
type reader struct {
	out   []byte
	limit int
	unfit bool // there was a value that JSON cannot hold
}

// message reads the outermost map.
func (r *reader) message(b []byte) (m Message, rest []byte, err error) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return m, nil, ErrMalformed
	}
	var seen [3]bool // the fields that this package reads may occur only once
	once := func(i int) error {
		if seen[i] {
			return ErrMalformed
		}
		seen[i] = true
		return nil
	}
	r.out = append(r.out, '{')
	for range n {
		name, after, err := r.name(b)
		if err != nil {
			return m, nil, err
		}
		value := after
		switch string(name) {
		case receiversField:
			if err = once(0); err == nil {
				m.Receivers, b, err = receivers(value)
			}
			if err != nil {
				return m, nil, err
			}
			continue
		case "type":
			m.Type = text(value)
			err = once(1)
		case "organization_id":
			m.Organization = textOrInteger(value)
			err = once(2)
		}
		if err == nil {
			b, err = r.pair(name, value, 1)
		}
		if err != nil {
			return m, nil, err
		}
	}
	r.out = append(r.out, '}')
	return m, b, r.fits()
}

// receivers reads the names of channels: a text, or an array of texts.
func receivers(b []byte) (names []string, rest []byte, err error) {
	n := uint32(1)
	if msgp.NextType(b) == msgp.ArrayType {
		if n, b, err = msgp.ReadArrayHeaderBytes(b); err != nil || n > MaxReceivers {
			return nil, nil, ErrMalformed
		}
	}
	for range n {
		var name []byte
		if name, b, err = msgp.ReadStringZC(b); err != nil || !utf8.Valid(name) {
			return nil, nil, ErrMalformed
		}
		names = append(names, string(name))
	}
	return names, b, nil
}

// name reads the key of a map. Bytes are a key that JSON cannot hold.
func (r *reader) name(b []byte) (name, rest []byte, err error) {
	if msgp.NextType(b) == msgp.BinType {
		r.unfit = true
		if _, rest, err = msgp.ReadBytesZC(b); err != nil {
			return nil, nil, ErrMalformed
		}
		return nil, rest, nil
	}
	return readText(b)
}

// pair reads the value of a map, and writes it with its name.
func (r *reader) pair(name, b []byte, depth int) (rest []byte, err error) {
	if r.out[len(r.out)-1] != '{' {
		r.out = append(r.out, ", "...)
	}
	r.out = appendText(r.out, name)
	r.out = append(r.out, ": "...)
	return r.value(b, depth)
}

// value reads a value. depth is the number of maps and arrays around it.
func (r *reader) value(b []byte, depth int) (rest []byte, err error) {
	if err := r.fits(); err != nil {
		return nil, err
	}
	switch t := msgp.NextType(b); t {
	case msgp.MapType:
		return r.nestedMap(b, depth+1)
	case msgp.ArrayType:
		return r.array(b, depth+1)
	case msgp.StrType:
		var s []byte
		if s, rest, err = readText(b); err != nil {
			return nil, err
		}
		r.out = appendText(r.out, s)
	case msgp.IntType:
		var n int64
		if n, rest, err = msgp.ReadInt64Bytes(b); err == nil {
			r.out = strconv.AppendInt(r.out, n, 10)
		}
	case msgp.UintType:
		var n uint64
		if n, rest, err = msgp.ReadUint64Bytes(b); err == nil {
			r.out = strconv.AppendUint(r.out, n, 10)
		}
	case msgp.Float64Type, msgp.Float32Type:
		var f float64
		if f, rest, err = msgp.ReadFloat64Bytes(b); err == nil {
			r.float(f)
		}
	case msgp.BoolType:
		var is bool
		if is, rest, err = msgp.ReadBoolBytes(b); err == nil {
			r.out = strconv.AppendBool(r.out, is)
		}
	case msgp.NilType:
		r.out = append(r.out, "null"...)
		rest, err = msgp.ReadNilBytes(b)
	case msgp.InvalidType:
		return nil, ErrMalformed
	default: // bytes and extensions
		r.unfit = true
		rest, err = msgp.Skip(b)
	}
	if err != nil {
		return nil, ErrMalformed
	}
	return rest, r.fits()
}

func (r *reader) nestedMap(b []byte, depth int) (rest []byte, err error) {
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil || depth > maxDepth {
		return nil, ErrMalformed
	}
	r.out = append(r.out, '{')
	for range n {
		var name []byte
		if name, b, err = r.name(b); err != nil {
			return nil, err
		}
		if b, err = r.pair(name, b, depth); err != nil {
			return nil, err
		}
	}
	r.out = append(r.out, '}')
	return b, nil
}

func (r *reader) array(b []byte, depth int) (rest []byte, err error) {
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil || depth > maxDepth {
		return nil, ErrMalformed
	}
	r.out = append(r.out, '[')
	for i := range n {
		if i > 0 {
			r.out = append(r.out, ", "...)
		}
		if b, err = r.value(b, depth); err != nil {
			return nil, err
		}
	}
	r.out = append(r.out, ']')
	return b, nil
}

// fits returns an error if the JSON has become too long.
func (r *reader) fits() error {
	if len(r.out) > r.limit {
		return ErrTooLarge
	}
	return nil
}

// float writes a number as Python does. JSON has neither NaN nor infinities.
func (r *reader) float(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		r.unfit = true
		return
	}
	r.out = appendFloat(r.out, f)
}

// readText reads a text in UTF-8.
func readText(b []byte) (s, rest []byte, err error) {
	if s, rest, err = msgp.ReadStringZC(b); err != nil || !utf8.Valid(s) {
		return nil, nil, ErrMalformed
	}
	return s, rest, nil
}

// text returns the text that b begins with, and "" for any other value.
func text(b []byte) string {
	s, _, err := readText(b)
	if err != nil {
		return ""
	}
	return string(s)
}

// textOrInteger returns the text or integer that b begins with, and "" for any other value.
func textOrInteger(b []byte) string {
	switch msgp.NextType(b) {
	case msgp.StrType:
		return text(b)
	case msgp.IntType:
		if n, _, err := msgp.ReadInt64Bytes(b); err == nil {
			return strconv.FormatInt(n, 10)
		}
	case msgp.UintType:
		if n, _, err := msgp.ReadUint64Bytes(b); err == nil {
			return strconv.FormatUint(n, 10)
		}
	default:
	}
	return ""
}
