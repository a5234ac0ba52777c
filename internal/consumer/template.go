package consumer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Template is text with {names} in it, for which each connection or message has values. Names in
// values are not replaced. The zero Template is empty text.
type Template struct{ parts []templatePart }

type templatePart struct {
	literal string
	name    string // of a variable, else empty
}

var errBadTemplate = errors.New("consumer: bad template")

// ParseTemplate parses a template. Braces are only allowed around a name, which begins with a
// lower-case letter and continues with lower-case letters, digits and _.
func ParseTemplate(text string) (Template, error) {
	var t Template
	for text != "" {
		at := strings.IndexAny(text, "{}")
		if at < 0 {
			t.parts = append(t.parts, templatePart{literal: text})
			break
		}
		if at > 0 {
			t.parts = append(t.parts, templatePart{literal: text[:at]})
		}
		name, rest, closed := strings.Cut(text[at+1:], "}")
		if text[at] != '{' || !closed || !ValidVariable(name) {
			return Template{}, fmt.Errorf("%w: a brace stands only around a name, as in report_{id}", errBadTemplate)
		}
		t.parts = append(t.parts, templatePart{name: name})
		text = rest
	}
	return t, nil
}

// ValidVariable reports whether text may name a variable.
func ValidVariable(text string) bool {
	for i := range len(text) {
		c := text[i]
		if c != '_' && ('a' > c || c > 'z') && ('0' > c || c > '9' || i == 0) {
			return false
		}
	}
	return text != "" && text[0] != '_' && len(text) <= 64
}

// Variables returns the names in the template.
func (t Template) Variables() []string {
	var names []string
	for _, p := range t.parts {
		if p.name != "" {
			names = append(names, p.name)
		}
	}
	return names
}

// IsZero reports whether the template is empty.
func (t Template) IsZero() bool { return len(t.parts) == 0 }

// String returns the template as it was written.
func (t Template) String() string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name != "" {
			b.WriteString("{" + p.name + "}")
		}
		b.WriteString(p.literal)
	}
	return b.String()
}

// whole returns the variable if the template consists of a single one.
func (t Template) whole() (name string, ok bool) {
	if len(t.parts) == 1 {
		name = t.parts[0].name
	}
	return name, name != ""
}

// text fills in the template. Its error is [event.ErrBadFields] for a value that is missing, or
// neither text nor an integer.
func (t Template) text(v variables) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.literal)
			continue
		}
		value, ok := orgctx.TextOrInteger(v.get(p.name))
		if !ok {
			return "", event.ErrBadFields
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// Ambiguous reports whether two different sets of values can produce the same text. form returns
// the form of a variable in a path: "int" or "id".
func (t Template) Ambiguous(form func(name string) string) bool {
	ids, before, literal := 0, "", ""
	dotted, numbered := true, true // every gap has a dot, or has something that is not a digit
	for _, p := range t.parts {
		if p.name == "" {
			literal += p.literal
			continue
		}
		f := form(p.name)
		if f != "int" {
			ids++
		}
		if before != "" {
			dotted = dotted && strings.Contains(literal, ".")
			numbered = numbered && strings.Trim(literal, "0123456789") != ""
		}
		before, literal = f, ""
	}
	return !numbered || ids > 1 && !dotted
}

// variables are the values of a connection's path and of the message that is being handled, if any.
type variables struct {
	conn    Conn
	params  []Param
	message fields
}

// get returns the JSON of a variable, nil if there is none. A message cannot replace a value of the
// path.
func (v variables) get(name string) json.RawMessage {
	if name == userGroupVariable {
		return rawText(event.UserGroupName(v.conn.Identity().UserID))
	}
	i := slices.IndexFunc(v.params, func(p Param) bool { return p.Name == name })
	switch {
	case i < 0:
		return v.message[name]
	case v.params[i].Form == "int":
		return json.RawMessage(v.conn.Param(name))
	}
	return rawText(v.conn.Param(name))
}

// userGroupVariable is the name of the user's own group.
const userGroupVariable = "user_group"

// Value is JSON in which every text is a [Template]. A text that is a single variable becomes the
// variable's value unchanged, or null if it has none. The zero Value is null.
type Value struct {
	raw    json.RawMessage // for anything except text, lists and objects
	text   *Template
	list   []Value
	object []Member
	kind   byte // '"', '[', '{' or 0
}

// Member is one member of an object.
type Member struct {
	Name  string
	Value Value
}

// RawValue returns a number, a boolean or null.
func RawValue(raw json.RawMessage) Value { return Value{raw: raw} }

// TextValue returns a text.
func TextValue(t Template) Value { return Value{kind: '"', text: &t} }

// ListValue returns a list.
func ListValue(list []Value) Value { return Value{kind: '[', list: list} }

// ObjectValue returns an object. Its members must have different names.
func ObjectValue(object []Member) Value { return Value{kind: '{', object: object} }

// Variables returns the names in the value.
func (v Value) Variables() []string {
	var names []string
	if v.text != nil {
		names = v.text.Variables()
	}
	for _, inner := range v.list {
		names = append(names, inner.Variables()...)
	}
	for _, m := range v.object {
		names = append(names, m.Value.Variables()...)
	}
	return names
}

// fill writes the JSON of the value. Its error is that of [Template.text].
func (v Value) fill(b *bytes.Buffer, vars variables) error {
	switch v.kind {
	case '"':
		return v.fillText(b, vars)
	case '[':
		b.WriteByte('[')
		for i, inner := range v.list {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := inner.fill(b, vars); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case '{':
		b.WriteByte('{')
		for i, m := range v.object {
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(rawText(m.Name))
			b.WriteByte(':')
			if err := m.Value.fill(b, vars); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	default:
		if len(v.raw) == 0 {
			b.WriteString("null")
		}
		b.Write(v.raw)
	}
	return nil
}

func (v Value) fillText(b *bytes.Buffer, vars variables) error {
	if name, ok := v.text.whole(); ok {
		if value := vars.get(name); len(value) > 0 {
			b.Write(value)
		} else {
			b.WriteString("null")
		}
		return nil
	}
	text, err := v.text.text(vars)
	if err == nil {
		b.Write(rawText(text))
	}
	return err
}
