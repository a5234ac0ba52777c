package consumer

import (
	"encoding/json"
	"errors"
	"strings"

	"orgcast/internal/orgctx"
)

// maxText is the longest text that a person may send, in bytes.
const maxText = 64 << 10

// validText reports whether a person's text is neither blank nor too long.
func validText(s string) bool { return strings.TrimSpace(s) != "" && len(s) <= maxText }

var errBadIdent = errors.New("consumer: must be an identifier or an integer")

// ident is an id in a message. Pages send database keys, so it may be a string or an integer. It
// satisfies [orgctx.ValidID], or is empty if it is missing, null or "".
type ident string

// UnmarshalJSON implements json.Unmarshaler.
func (id *ident) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	text, ok := orgctx.TextOrInteger(b)
	if !ok {
		return errBadIdent
	}
	if text != "" && !orgctx.ValidID(text) {
		return errBadIdent
	}
	*id = ident(text)
	return nil
}

// sentID is an [ident] that is passed on as it was sent: 41 stays a number and "41" a text. It is
// nil if there is none.
type sentID json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (s *sentID) UnmarshalJSON(b []byte) error {
	var id ident
	if err := id.UnmarshalJSON(b); err != nil {
		return err
	}
	if id != "" {
		*s = append(sentID(nil), b...)
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (s sentID) MarshalJSON() ([]byte, error) {
	if len(s) == 0 {
		return rawNull(), nil
	}
	return s, nil
}

// id returns the text of the id.
func (s sentID) id() (id ident) {
	if len(s) > 0 {
		_ = id.UnmarshalJSON(s) // it was checked when it was parsed
	}
	return id
}

// uuid returns a UUID in its canonical spelling, in lower case.
func uuid(text string) (canonical string, ok bool) {
	const form = "00000000-0000-0000-0000-000000000000"
	if len(text) != len(form) {
		return "", false
	}
	text = strings.ToLower(text)
	for i := range len(text) {
		dash := text[i] == '-'
		if dash != (form[i] == '-') || !dash && !strings.Contains("0123456789abcdef", text[i:i+1]) {
			return "", false
		}
	}
	return text, true
}
