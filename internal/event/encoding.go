package event

import (
	"math"
	"sync"
	"sync/atomic"
)

// Shape is how clients see an event.
type Shape uint8

// The shapes.
const (
	// Plain is the payload as it was published.
	Plain Shape = iota
	// Enveloped is an object with the payload in the field "event". The object also names the group
	// in "group" and, for recorded events, has the position in "id".
	Enveloped
)

// Slot tells the form of a burst in one encoding from the others.
type Slot uint8

var reserved atomic.Uint32 //nolint:gochecknoglobals // the whole process shares the slots, because bursts have forms of all transports

// NewSlot reserves the slot of an encoding. A transport calls it for each of its encodings, once in
// the process. It panics after 256 of them, which is a programming error.
func NewSlot() Slot {
	n := reserved.Add(1)
	if n > math.MaxUint8+1 {
		panic("event: no slot is left for an encoding")
	}
	return Slot(n - 1)
}

// Encoding is a form in which a transport writes events.
type Encoding struct {
	// Slot belongs to this encoding alone.
	Slot Slot
	// Base is the encoding whose result this one starts from, or nil.
	Base *Encoding
	// Encode returns the bytes of one event. base is the result of Base. Encode returns base itself
	// if it has nothing to change.
	Encode func(e *Event, s Shape, base []byte) []byte
}

// forms are the encoded forms of a burst. The first receiver that needs a form adds it. They are a
// list, because most bursts have one form, and few have more than two.
type forms struct {
	newest atomic.Pointer[Form]
	mu     sync.Mutex // held while a form is added
	first  Form       // room for the first one
}

// find returns a form, nil if there is none.
func (f *forms) find(s Shape, slot Slot) *Form {
	form := f.newest.Load()
	for form != nil && (form.slot != slot || form.shape != s) {
		form = form.before
	}
	return form
}

// Form is a burst in a shape and an encoding. All receivers share it. It knows how many of them
// have to wait for it, so that its bytes can be counted once.
type Form struct {
	bytes   []byte
	before  *Form
	waiting atomic.Int32
	shape   Shape
	slot    Slot
}

// Bytes returns the encoded events, one after the other. The caller must not change them.
func (f *Form) Bytes() []byte { return f.bytes }

// Retain notes one more receiver that waits, and reports whether it is the only one.
func (f *Form) Retain() (first bool) { return f.waiting.Add(1) == 1 }

// Release undoes one Retain, and reports whether nobody waits now.
func (f *Form) Release() (last bool) { return f.waiting.Add(-1) == 0 }

// Bytes returns the bytes of a [Form].
func (b *Burst) Bytes(s Shape, enc *Encoding) []byte { return b.Form(s, enc).bytes }

// Form returns the events in a shape and an encoding. The first call encodes them.
func (b *Burst) Form(s Shape, enc *Encoding) *Form {
	if made := b.forms.find(s, enc.Slot); made != nil {
		return made
	}
	return b.encode(s, enc)
}

func (b *Burst) encode(s Shape, enc *Encoding) *Form {
	var base []byte
	if enc.Base != nil && len(b.events) == 1 {
		base = b.Bytes(s, enc.Base)
	}
	b.forms.mu.Lock()
	defer b.forms.mu.Unlock()
	if made := b.forms.find(s, enc.Slot); made != nil {
		return made
	}
	var made []byte
	if len(b.events) == 1 {
		made = enc.Encode(b.events[0], s, base)
	} else {
		size := 0
		for _, e := range b.events {
			size += len(e.alone.Bytes(s, enc))
		}
		made = make([]byte, 0, size)
		for _, e := range b.events {
			made = append(made, e.alone.Bytes(s, enc)...)
		}
	}
	form, before := &b.forms.first, b.forms.newest.Load()
	if before != nil {
		form = new(Form)
	}
	form.bytes, form.shape, form.slot, form.before = made, s, enc.Slot, before
	b.forms.newest.Store(form)
	return form
}

// The text around an enveloped event. Neither groups nor positions need escaping in JSON.
const (
	eventField = `{"event":`
	groupField = `,"group":"`
	idField    = `","id":"`
	textEnd    = `"}`
)

// TextSize returns how many bytes AppendText appends.
func (e *Event) TextSize(s Shape) int {
	if s == Plain {
		return len(e.object)
	}
	size := len(eventField) + len(e.object) + len(groupField) + len(e.group.Name()) + len(textEnd)
	if !e.position.IsZero() {
		var room [maxPositionLength]byte
		size += len(idField) + len(e.position.AppendTo(room[:0]))
	}
	return size
}

// AppendText appends the JSON text of the event in a shape.
func (e *Event) AppendText(dst []byte, s Shape) []byte {
	if s == Plain {
		return append(dst, e.object...)
	}
	dst = append(dst, eventField...)
	dst = append(dst, e.object...)
	dst = append(dst, groupField...)
	dst = append(dst, e.group.Name()...)
	if !e.position.IsZero() {
		dst = append(dst, idField...)
		dst = e.position.AppendTo(dst)
	}
	return append(dst, textEnd...)
}
