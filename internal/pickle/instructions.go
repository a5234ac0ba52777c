package pickle

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/big"
)

const (
	opProto = 0x80
	opMark  = '('
)

// instructions are what the reader knows, by their byte. Instructions that it does not know end the reading: among
// them are persistent ids, codes of the extension registry, and buffers that travel outside the pickle.
var instructions = [256]func(*machine){ //nolint:gochecknoglobals // a table
	'.':    func(m *machine) { m.result, m.stopped = m.pop(), true },
	0x95:   func(m *machine) { m.take(8) }, // a frame: a hint for those who read from a file
	opMark: func(m *machine) { m.marks = append(m.marks, len(m.stack)) },

	'N':  func(m *machine) { m.push(nil) },
	0x88: func(m *machine) { m.push(true) },
	0x89: func(m *machine) { m.push(false) },
	'K':  func(m *machine) { m.push(int64(m.number(1))) },
	'M':  func(m *machine) { m.push(int64(m.number(2))) },
	'J':  func(m *machine) { m.push(int64(int32(m.number(4)))) },
	0x8a: func(m *machine) { m.integer(m.counted(1)) },
	0x8b: func(m *machine) { m.integer(m.counted(4)) },
	'G':  (*machine).float,

	0x8c: func(m *machine) { m.push(string(m.counted(1))) },
	'X':  func(m *machine) { m.push(string(m.counted(4))) },
	0x8d: func(m *machine) { m.push(string(m.counted(8))) },
	'C':  func(m *machine) { m.push(bytes.Clone(m.counted(1))) },
	'B':  func(m *machine) { m.push(bytes.Clone(m.counted(4))) },
	0x8e: func(m *machine) { m.push(bytes.Clone(m.counted(8))) },
	0x96: func(m *machine) { m.push(bytes.Clone(m.counted(8))) },

	'}':  func(m *machine) { m.push(&Dict{Items: make(map[string]any), depth: 1}) },
	's':  func(m *machine) { v, k := m.pop(), m.pop(); m.set([]any{k, v}) },
	'u':  func(m *machine) { m.set(m.popMark()) },
	']':  func(m *machine) { m.push(&List{depth: 1}) },
	'a':  func(m *machine) { v := m.pop(); m.extend([]any{v}) },
	'e':  func(m *machine) { m.extend(m.popMark()) },
	')':  func(m *machine) { m.tuple(nil) },
	0x85: func(m *machine) { m.tupleOf(1) },
	0x86: func(m *machine) { m.tupleOf(2) },
	0x87: func(m *machine) { m.tupleOf(3) },
	't':  func(m *machine) { m.tuple(m.popMark()) },

	0x94: func(m *machine) { m.remember(uint64(len(m.memo))) },
	'q':  func(m *machine) { m.remember(m.number(1)) },
	'r':  func(m *machine) { m.remember(m.number(4)) },
	'h':  func(m *machine) { m.recall(m.number(1)) },
	'j':  func(m *machine) { m.recall(m.number(4)) },

	0x8f: func(m *machine) { m.push(&Object{Class: "builtins.set"}) },
	0x90: func(m *machine) { m.popMark(); m.object() },
	0x91: func(m *machine) { m.popMark(); m.push(&Object{Class: "builtins.frozenset"}) },
	'c':  func(m *machine) { module, name := m.line(), m.line(); m.name(module, name) },
	0x93: (*machine).nameOnStack,
	'R':  func(m *machine) { m.arguments(m.pop()); m.object(); m.replace(&Object{}) },
	0x81: func(m *machine) { m.create(m.pop()) },
	0x92: func(m *machine) { m.pop(); m.create(m.pop()) },
	'b':  (*machine).build,
}

func (m *machine) float() {
	if b := m.take(8); len(b) == 8 {
		m.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	}
}

// integer pushes a two's complement, the lowest byte first.
func (m *machine) integer(b []byte) {
	if len(b) > maxInteger {
		m.fail()
		return
	}
	reversed := make([]byte, len(b))
	for i, c := range b {
		reversed[len(b)-1-i] = c
	}
	n := new(big.Int).SetBytes(reversed)
	if len(b) > 0 && b[len(b)-1] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	if n.IsInt64() {
		m.push(n.Int64())
		return
	}
	m.push(n)
}

func (m *machine) tupleOf(n int) {
	if len(m.stack)-n < m.floor() {
		m.fail()
		return
	}
	values := m.stack[len(m.stack)-n:]
	m.stack = m.stack[:len(m.stack)-n]
	m.tuple(values)
}

// name pushes what stands for a class or function.
func (m *machine) name(module, name string) {
	m.push(&Object{Class: module + "." + name, class: true})
}

func (m *machine) nameOnStack() {
	name, ok1 := m.pop().(string)
	module, ok2 := m.pop().(string)
	if !ok1 || !ok2 {
		m.fail()
		return
	}
	m.name(module, name)
}

// arguments checks that a value can be the arguments of a call.
func (m *machine) arguments(v any) {
	if list, ok := v.(*List); !ok || !list.tuple {
		m.fail()
	}
}

// object returns the object on top.
func (m *machine) object() *Object {
	o, ok := m.top().(*Object)
	if !ok {
		m.fail()
		return new(Object)
	}
	return o
}

// replace puts an object in the place of the one on top.
func (m *machine) replace(o *Object) {
	if m.err == nil {
		m.stack[len(m.stack)-1] = o
	}
}

// create puts an object in the place of its class.
func (m *machine) create(arguments any) {
	m.arguments(arguments)
	class := m.object()
	if !class.class {
		m.fail()
	}
	m.replace(&Object{Class: class.Class})
}

// build gives an object its state. Only of a UUID is it looked at.
func (m *machine) build() {
	state := m.pop()
	o := m.object()
	if o.class {
		m.fail()
		return
	}
	if o.Class != "uuid.UUID" {
		return
	}
	attributes, ok := state.(*Dict)
	if !ok {
		return
	}
	n := new(big.Int)
	switch v := attributes.Items["int"].(type) {
	case int64:
		n.SetInt64(v)
	case *big.Int:
		n.Set(v)
	default:
		return
	}
	if n.Sign() < 0 || n.BitLen() > 128 {
		return
	}
	text := hex.EncodeToString(n.FillBytes(make([]byte, 16)))
	o.text = text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}
