package orgctx

import (
	"encoding/json"
	"strings"
)

// TextOrInteger reads an identifier from a JSON value: the text of a string, or the exact digits of
// an integer, since web applications number what they have. Nothing goes through a floating point
// number, which would take two large integers for one. ok is false for all else: true is never
// user 1, nor 7.0 organization 7. raw must be valid JSON; whether the text has the form of an id,
// callers ask next.
func TextOrInteger[T ~string | ~[]byte](raw T) (text string, ok bool) {
	text = string(raw)
	switch {
	case text == "":
		return "", false
	case text[0] != '"':
		if !IsInteger(text) {
			return "", false
		}
		return text, true
	case strings.IndexByte(text, '\\') < 0:
		return text[1 : len(text)-1], true
	default:
		var unescaped string // apart from text, so that only escapes cost an allocation
		err := json.Unmarshal([]byte(raw), &unescaped)
		return unescaped, err == nil
	}
}

// IsInteger reports whether a JSON value is a number without fraction and exponent.
func IsInteger(raw string) bool {
	digits := strings.TrimPrefix(raw, "-")
	if digits == "" {
		return false
	}
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return false
		}
	}
	return true
}
