package consumer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"orgcast/internal/event"
)

// fields are the fields of an event, or of an object in one, as they were sent.
type fields map[string]json.RawMessage

// kinds maps names of fields to checks of their values, unless these are null.
type kinds map[string]func(value json.RawMessage) bool

func isText(value json.RawMessage) bool   { return value[0] == '"' }
func isList(value json.RawMessage) bool   { return value[0] == '[' }
func isObject(value json.RawMessage) bool { return value[0] == '{' }
func isNumber(value json.RawMessage) bool {
	return value[0] == '-' || '0' <= value[0] && value[0] <= '9'
}

// isNull reports whether a value is null or missing.
func isNull(value json.RawMessage) bool { return len(value) == 0 || value[0] == 'n' }

// fit reports whether the fields pass the checks.
func (k kinds) fit(f fields) bool {
	for name, fits := range k {
		if value := f[name]; !isNull(value) && !fits(value) {
			return false
		}
	}
	return true
}

// deepest is the deepest nesting of arrays and objects in an event that may contribute to a state,
// which nests them deeper. JSON nested more than 10,000 levels deep cannot be sent.
const deepest = 1000

// tooDeep reports whether a JSON value is nested deeper than that.
func tooDeep(value []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted:
			if c == '\\' {
				i++
			}
			quoted = c != '"'
		case c == '"':
			quoted = true
		case c == '{', c == '[':
			if depth++; depth > deepest {
				return true
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return false
}

// read returns the fields of an event, except its type and organization. Workers may send anything:
// an event whose fields have unexpected kinds, or are nested too deep, contributes nothing to a
// state, and does no harm.
func read(e *event.Event, expected kinds) (f fields, ok bool) {
	if tooDeep(e.Payload()) || json.Unmarshal(e.Payload(), &f) != nil || !expected.fit(f) {
		return make(fields), false
	}
	delete(f, "type")
	delete(f, "organization_id")
	return f, true
}

// inside returns the fields of the object in a field, none if the field is null or missing.
func (f fields) inside(name string, expected kinds) (inner fields, ok bool) {
	if isNull(f[name]) {
		return make(fields), true
	}
	if json.Unmarshal(f[name], &inner) != nil || !expected.fit(inner) {
		return make(fields), false
	}
	return inner, true
}

// id returns the text of the id in a field: 41 and "41" name the same object. It is empty if the
// field has no id.
func (f fields) id(name string) string {
	value := f[name]
	switch {
	case isNull(value):
		return ""
	case isText(value):
		return textOf(value)
	case isNumber(value):
		return string(value)
	}
	return ""
}

// textOf returns a value that is text, "" for anything else.
func textOf(value json.RawMessage) (text string) {
	_ = json.Unmarshal(value, &text)
	return text
}

// rawNull is the null of JSON.
func rawNull() json.RawMessage { return json.RawMessage("null") }

// rawText returns the JSON of a text.
func rawText(text string) json.RawMessage {
	b, err := event.Marshal(text)
	if err != nil {
		panic("consumer: " + err.Error()) // every text has a JSON form
	}
	return b
}

// sum adds up events about one object: each field has the value sent last.
type sum struct {
	defaults fields // the values of fields that no event has set
	fields   map[string]lastSaid
	events   int
}

type lastSaid struct {
	value json.RawMessage
	event int // the number of the event, in the order added
}

// newSum returns a sum of no events.
func newSum(defaults fields) *sum { return &sum{defaults: defaults, fields: make(map[string]lastSaid)} }

// add overwrites fields with those of an event.
func (s *sum) add(f fields) {
	s.events++
	for name, value := range f {
		s.set(name, value)
	}
}

// addStatus adds an update of a status. Without a status, the previous one stays. An error and its
// code belong to the status that they came with, so another status removes them.
func (s *sum) addStatus(f fields) {
	if isNull(f["status"]) {
		delete(f, "status")
	} else {
		delete(s.fields, "error")
		delete(s.fields, "code")
	}
	s.add(f)
}

// set sets one field.
func (s *sum) set(name string, value json.RawMessage) {
	s.fields[name] = lastSaid{value: value, event: s.events}
}

// get returns the value of a field, nil if it has none.
func (s *sum) get(name string) json.RawMessage {
	if said, ok := s.fields[name]; ok {
		return said.value
	}
	return s.defaults[name]
}

// status returns the text of the status.
func (s *sum) status() string { return textOf(s.get("status")) }

// fail marks the work as failed.
func (s *sum) fail(status string, e *event.Event) {
	s.events++
	s.set("status", rawText(status))
	s.set("error", rawText(failureOf(e)))
}

// object returns the sum as a JSON object that begins with the type, unless it is empty. Of the
// fields without a default, it contains at most stateBytes, those that were set last.
func (s *sum) object(typ string) json.RawMessage {
	all := maps.Clone(s.defaults)
	if all == nil {
		all = make(fields)
	}
	names := slices.SortedFunc(maps.Keys(s.fields), func(a, b string) int {
		return cmp.Or(s.fields[b].event-s.fields[a].event, cmp.Compare(a, b))
	})
	size := 0
	for _, name := range names {
		value := s.fields[name].value
		if _, ok := s.defaults[name]; !ok {
			size += len(name) + len(value)
		}
		if _, ok := s.defaults[name]; ok || size <= stateBytes {
			all[name] = value
		}
	}
	return all.object(typ)
}

// object returns the fields as a JSON object that begins with the type, unless it is empty.
func (f fields) object(typ string) json.RawMessage {
	return f.listed(typ, slices.Sorted(maps.Keys(f)))
}

// listed is object with only the named fields, in the given order.
func (f fields) listed(typ string, names []string) json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	if typ != "" {
		b.WriteString(`"type":`)
		b.Write(rawText(typ))
	}
	for _, name := range names {
		if _, there := f[name]; !there || name == "type" && typ != "" {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(rawText(name))
		b.WriteByte(':')
		b.Write(f[name])
	}
	b.WriteByte('}')
	return b.Bytes()
}
