package event

import (
	"encoding/json"
	"strings"

	"orgcast/internal/orgctx"
)

// maxDepth is how deeply arrays and objects may be nested, as in encoding/json.
const maxDepth = 10000

// envelope is the part of a JSON object that the gateway itself reads. Everything else passes
// through unchanged. Its texts are parts of what was scanned, unless they had escapes.
type envelope struct {
	typ             string // empty if missing or not text
	organization    string // digits or text of organization_id, empty if missing or of another kind
	hasType         bool   // there is a type, of any kind
	hasOrganization bool   // there is an organization_id, of any kind
	duplicate       bool   // one of them occurs twice
}

// scanObject checks that b is one JSON object and reads its envelope, in one pass and without an
// allocation, because it runs for every received event. encoding/json is not suitable: it matches
// names regardless of case, silently takes the last of two equal names, and turns large integers into
// floats when it decodes into an interface. As with encoding/json, the caller has to check that b is
// UTF-8.
func scanObject(b string) (envelope, error) {
	var env envelope
	i := skipSpace(b, 0)
	if at(b, i) != '{' {
		return envelope{}, ErrNotObject
	}
	i = skipNested(b, i, 1, &env)
	if i < 0 || skipSpace(b, i) != len(b) {
		return envelope{}, ErrNotObject
	}
	if env.duplicate {
		return envelope{}, ErrDuplicateField
	}
	return env, nil
}

// note keeps a field if it belongs to the envelope. name and value are valid JSON.
func (e *envelope) note(name, value string) {
	switch {
	case nameIs(name, "type"):
		e.duplicate = e.duplicate || e.hasType
		e.hasType = true
		e.typ = textOf(value)
	case nameIs(name, "organization_id"):
		e.duplicate = e.duplicate || e.hasOrganization
		e.hasOrganization = true
		e.organization, _ = orgctx.TextOrInteger(value)
	}
}

// nameIs compares a quoted name of valid JSON with want, and resolves escapes.
func nameIs(quoted, want string) bool {
	if strings.IndexByte(quoted, '\\') < 0 {
		return quoted[1:len(quoted)-1] == want
	}
	return textOf(quoted) == want
}

// textOf returns the text of a JSON string, and "" for any other value.
func textOf(value string) string {
	if value[0] != '"' {
		return ""
	}
	if strings.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1]
	}
	var s string
	if json.Unmarshal([]byte(value), &s) != nil {
		return ""
	}
	return s
}

// The skip functions check what they skip. Each takes the position at which a value or another part
// starts, and returns the position after it, or -1 if it does not have the form of RFC 8259.

// skipValue skips a value. depth is the number of arrays and objects around it.
func skipValue(b string, i, depth int) int {
	switch at(b, i) {
	case '"':
		return skipString(b, i)
	case '{', '[':
		return skipNested(b, i, depth+1, nil)
	case 't':
		return skipWord(b, i, "true")
	case 'f':
		return skipWord(b, i, "false")
	case 'n':
		return skipWord(b, i, "null")
	default:
		return skipNumber(b, i)
	}
}

// skipNested skips the array or object that starts at b[i]. depth counts it and the arrays and
// objects around it. If env is not nil, it gets each field of an object.
func skipNested(b string, i, depth int, env *envelope) int {
	if depth > maxDepth {
		return -1
	}
	isObject, end := b[i] == '{', b[i]+2 // in ASCII ] is [ + 2 and } is { + 2
	i = skipSpace(b, i+1)
	if at(b, i) == end {
		return i + 1
	}
	for {
		name, nameEnd := i, i
		if isObject {
			if nameEnd = skipString(b, name); nameEnd < 0 {
				return -1
			}
			if i = skipSpace(b, nameEnd); at(b, i) != ':' {
				return -1
			}
			i = skipSpace(b, i+1)
		}
		value := i
		if i = skipValue(b, value, depth); i < 0 {
			return -1
		}
		if env != nil {
			env.note(b[name:nameEnd], b[value:i])
		}
		i = skipSpace(b, i)
		switch at(b, i) {
		case ',':
			i = skipSpace(b, i+1)
		case end:
			return i + 1
		default:
			return -1
		}
	}
}

func skipString(b string, i int) int {
	if at(b, i) != '"' {
		return -1
	}
	for i++; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return -1
		case c == '\\':
			i++
			switch at(b, i) {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					if i++; !isHex(at(b, i)) {
						return -1
					}
				}
			default:
				return -1
			}
		}
	}
	return -1
}

func skipNumber(b string, i int) int {
	if at(b, i) == '-' {
		i++
	}
	if at(b, i) == '0' {
		i++
	} else if i = skipDigits(b, i); i < 0 {
		return -1
	}
	if at(b, i) == '.' {
		if i = skipDigits(b, i+1); i < 0 {
			return -1
		}
	}
	if c := at(b, i); c == 'e' || c == 'E' {
		i++
		if c := at(b, i); c == '+' || c == '-' {
			i++
		}
		return skipDigits(b, i)
	}
	return i
}

// skipDigits skips at least one digit.
func skipDigits(b string, i int) int {
	start := i
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

func skipWord(b string, i int, word string) int {
	if !strings.HasPrefix(b[i:], word) {
		return -1
	}
	return i + len(word)
}

// skipSpace skips white space, if any. It never fails.
func skipSpace(b string, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// at returns the byte at i, or 0 after the end. A JSON value never starts with 0.
func at(b string, i int) byte {
	if i < len(b) {
		return b[i]
	}
	return 0
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
