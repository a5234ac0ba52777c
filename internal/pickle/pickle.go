// Package pickle reads the data of Python pickles without running anything. A pickle is a program that may call any
// function of Python. This reader knows the instructions that build data. Where a pickle names a class or calls
// something, an [Object] takes the place of the result, and nothing is looked up or called.
package pickle

import (
	"encoding/binary"
	"errors"
	"math"
)

// Bounds of what is read.
const (
	// MaxSize is the longest pickle, in bytes. Every value takes at least one byte, so that this also bounds stack and
	// memo.
	MaxSize = 64 << 10
	// MaxDepth is how deep containers may be nested.
	MaxDepth = 100
	// maxInteger is the longest integer, in bytes.
	maxInteger = 1 << 10
)

// Errors of [ReadDict]. They never quote the pickle.
var (
	// ErrMalformed is returned for bytes that are not one whole pickle of a dictionary, or that exceed a bound.
	ErrMalformed = errors.New("pickle: malformed, or larger than allowed")
	// ErrUnsupported is returned for pickles of protocols 0 and 1, and for instructions that no session needs.
	ErrUnsupported = errors.New("pickle: protocol or instruction is not supported")
)

// List is a list or a tuple. A list of a hostile pickle may contain itself.
type List struct {
	Items []any
	tuple bool
	depth int
}

// Dict is a dictionary. It has only the items whose keys are text. It may contain itself.
type Dict struct {
	Items map[string]any
	depth int
}

// Object stands for a value of a class, or for a class or function. Nothing of it was created or called.
type Object struct {
	// Class is the name of the class with its module, or "" where the pickle calls something.
	Class string
	text  string
	class bool // it is the class itself
}

// Text returns a UUID as text. It returns false for all other objects.
func (o *Object) Text() (string, bool) { return o.text, o.text != "" }

// ReadDict returns the dictionary of a pickle of protocol 2 to 5. Values are nil, bool, int64, [*big.Int], float64, string,
// []byte, [*List], [*Dict] and [*Object]. Text may hold invalid UTF-8, where Python has lone surrogates.
// ReadDict works in time and memory proportional to the pickle, and is safe for concurrent use.
func ReadDict(data []byte) (*Dict, error) {
	if len(data) > MaxSize {
		return nil, ErrMalformed
	}
	if len(data) < 2 || data[0] != opProto || data[1] < 2 || data[1] > 5 {
		return nil, ErrUnsupported
	}
	m := machine{rest: data[2:], memo: make(map[uint32]any)}
	for !m.stopped && m.err == nil {
		op := m.take(1)
		if m.err != nil {
			break
		}
		run := instructions[op[0]]
		if run == nil {
			return nil, ErrUnsupported
		}
		run(&m)
	}
	if m.err != nil {
		return nil, m.err
	}
	dict, ok := m.result.(*Dict)
	if !ok || len(m.rest) > 0 || len(m.stack) > 0 || len(m.marks) > 0 {
		return nil, ErrMalformed
	}
	return dict, nil
}

// machine is the stack machine for which pickles are programs.
type machine struct {
	rest    []byte
	stack   []any
	marks   []int // lengths of the stack at the marks
	memo    map[uint32]any
	result  any
	stopped bool
	err     error
}

func (m *machine) fail() {
	if m.err == nil {
		m.err = ErrMalformed
	}
}

// take returns the next n bytes, or nil after a failure. It compares before anything is allocated, because a
// pickle of a few bytes can announce a text of 2^62.
func (m *machine) take(n uint64) []byte {
	if n > uint64(len(m.rest)) {
		m.fail()
		return nil
	}
	b := m.rest[:n]
	m.rest = m.rest[n:]
	return b
}

// number returns an unsigned integer of so many bytes, the lowest of them first.
func (m *machine) number(size uint64) uint64 {
	var b [8]byte
	copy(b[:], m.take(size))
	return binary.LittleEndian.Uint64(b[:])
}

// counted returns bytes behind their number, which has size bytes.
func (m *machine) counted(size uint64) []byte { return m.take(m.number(size)) }

// line returns the text up to the next line end.
func (m *machine) line() string {
	for i, c := range m.rest {
		if c == '\n' {
			text := string(m.take(uint64(i)))
			m.take(1)
			return text
		}
	}
	m.fail()
	return ""
}

func (m *machine) push(v any) {
	if m.err == nil {
		m.stack = append(m.stack, v)
	}
}

// floor is the lowest place of the stack that belongs to the present mark.
func (m *machine) floor() int {
	if len(m.marks) == 0 {
		return 0
	}
	return m.marks[len(m.marks)-1]
}

func (m *machine) pop() any {
	if len(m.stack) <= m.floor() {
		m.fail()
		return nil
	}
	v := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	return v
}

func (m *machine) top() any {
	if len(m.stack) <= m.floor() {
		m.fail()
		return nil
	}
	return m.stack[len(m.stack)-1]
}

// popMark returns the values above the last mark, and removes them and the mark.
func (m *machine) popMark() []any {
	if len(m.marks) == 0 {
		m.fail()
		return nil
	}
	at := m.floor()
	values := m.stack[at:]
	m.stack, m.marks = m.stack[:at], m.marks[:len(m.marks)-1]
	return values
}

// depth returns how deep containers are nested in a value.
func depth(v any) int {
	switch v := v.(type) {
	case *List:
		return v.depth
	case *Dict:
		return v.depth
	}
	return 0
}

// below returns the depth of a container that had the depth own and gets a value.
func (m *machine) below(own int, v any) int {
	own = max(own, 1+depth(v))
	if own > MaxDepth {
		m.fail()
	}
	return own
}

func (m *machine) tuple(values []any) {
	t := &List{Items: append([]any(nil), values...), tuple: true, depth: 1}
	for _, v := range values {
		t.depth = m.below(t.depth, v)
	}
	m.push(t)
}

// extend appends values to what is on top.
func (m *machine) extend(values []any) {
	switch into := m.top().(type) {
	case *List:
		if into.tuple {
			m.fail()
			return
		}
		for _, v := range values {
			into.depth = m.below(into.depth, v)
		}
		into.Items = append(into.Items, values...)
	case *Object: // a class that extends list
	default:
		m.fail()
	}
}

// set puts pairs of keys and values into what is on top.
func (m *machine) set(pairs []any) {
	if len(pairs)%2 != 0 {
		m.fail()
		return
	}
	into, isDict := m.top().(*Dict)
	if _, isObject := m.top().(*Object); !isDict && !isObject {
		m.fail()
		return
	}
	for i := 0; i < len(pairs); i += 2 {
		key, isText := pairs[i].(string)
		if !isText && !hashable(pairs[i]) {
			m.fail()
			return
		}
		if isDict {
			into.depth = m.below(into.depth, pairs[i+1])
		}
		if isDict && isText {
			into.Items[key] = pairs[i+1]
		}
	}
}

// hashable reports whether Python could use a value as a key.
func hashable(v any) bool {
	switch v := v.(type) {
	case *List:
		return v.tuple
	case *Dict:
		return false
	}
	return true
}

// remember stores the top under a number.
func (m *machine) remember(number uint64) {
	if number > math.MaxUint32 || len(m.memo) > MaxSize {
		m.fail()
		return
	}
	m.memo[uint32(number)] = m.top() // a reference: a container is stored before it is filled
}

func (m *machine) recall(number uint64) {
	v, ok := m.memo[uint32(number)] //nolint:gosec // of at most four bytes
	if !ok {
		m.fail()
		return
	}
	m.push(v)
}
