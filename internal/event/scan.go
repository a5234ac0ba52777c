package event

import (
	"bytes"
	"encoding/json"
)

// envelope is what the gateway itself reads of a JSON object; everything else passes through as
// it is.
type envelope struct {
	typ             string // empty if missing or not text
	organization    string // digits or text of organization_id, empty if missing or of another kind
	hasOrganization bool   // whether there is an organization_id, of whatever kind
}

// scanObject checks that b is one JSON object and reads its envelope in one walk over the top
// level. encoding/json cannot serve here: it matches names regardless of case, silently takes the
// last of two equal ones and, into an interface, turns large integers into floats.
func scanObject(b []byte) (envelope, error) {
	var env envelope
	if !json.Valid(b) {
		return env, ErrNotObject
	}
	i := skipSpace(b, 0)
	if b[i] != '{' {
		return env, ErrNotObject
	}
	var seenType bool
	i = skipSpace(b, i+1)
	for b[i] != '}' {
		end := skipString(b, i)
		name := b[i:end]
		i = skipSpace(b, end) // at ':'
		i = skipSpace(b, i+1) // at the value
		end = skipValue(b, i) // after it
		value := b[i:end]
		i = skipSpace(b, end)
		if b[i] == ',' {
			i = skipSpace(b, i+1)
		}
		switch {
		case nameIs(name, "type"):
			if seenType {
				return env, ErrDuplicateField
			}
			seenType = true
			env.typ = textOf(value)
		case nameIs(name, "organization_id"):
			if env.hasOrganization {
				return env, ErrDuplicateField
			}
			env.hasOrganization = true
			env.organization = textOf(value)
			if env.organization == "" && isInteger(value) {
				env.organization = string(value)
			}
		}
	}
	return env, nil
}

// nameIs compares a quoted name of valid JSON with want, undoing escapes where there are any.
func nameIs(quoted []byte, want string) bool {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1:len(quoted)-1]) == want
	}
	return textOf(quoted) == want
}

// textOf returns the text of a JSON string, and "" for any other value.
func textOf(value []byte) string {
	if value[0] != '"' {
		return ""
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1])
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

// isInteger reports whether a JSON value is a whole number without fraction or exponent.
func isInteger(value []byte) bool {
	if len(value) > 0 && value[0] == '-' {
		value = value[1:]
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(value) > 0
}

// The skip functions walk JSON that json.Valid has accepted; they rely on it for their bounds.

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the position after the string that starts at i.
func skipString(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// skipValue returns the position after the value that starts at i.
func skipValue(b []byte, i int) int {
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				if depth == 0 {
					return i + 1
				}
			}
			i++
		}
	default: // number, true, false, null
		for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] != ' ' && b[i] != '\t' && b[i] != '\n' && b[i] != '\r' {
			i++
		}
		return i
	}
}
