package session

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"orgcast/internal/orgctx"
)

// Names of the fields of a session, whatever it is stored in.
const (
	fieldUser         = "user_id"
	fieldOrganization = "active_organization_id"
	fieldExpires      = "expires_at"
	fieldID           = "session_id"
)

// maxSessionSize is the longest session in a store, in bytes. A login takes some hundred.
const maxSessionSize = 64 << 10

// maxUnix is the last second of the year 9999; what lies beyond is a mistake, not a date.
const maxUnix = 253402300799

// person returns the user and organization of a session whose fields get looks up. Integers count
// as their exact digits.
func person(get func(name string) (any, bool)) (user string, org orgctx.ID, err error) {
	v, ok := get(fieldUser)
	if !ok {
		return "", orgctx.ID{}, ErrNone
	}
	if user, err = textOrInteger(v); err != nil {
		return "", orgctx.ID{}, fmt.Errorf("%s: %w", fieldUser, err)
	}
	if !orgctx.ValidUserID(user) {
		return "", orgctx.ID{}, fmt.Errorf("%s: %w", fieldUser, ErrInvalid)
	}
	v, _ = get(fieldOrganization)
	text, err := textOrInteger(v)
	if err != nil {
		return "", orgctx.ID{}, fmt.Errorf("%s: %w", fieldOrganization, err)
	}
	if text != "" {
		if org, err = orgctx.ParseID(text); err != nil {
			return "", orgctx.ID{}, fmt.Errorf("%s: %w", fieldOrganization, ErrInvalid)
		}
	}
	return user, org, nil
}

// textOrInteger returns text as it is and an integer as its digits, "" for nothing: nil, 0 and "".
// All else is ErrInvalid, so that true is never user 1 and 7.0 never organization 7.
func textOrInteger(v any) (string, error) {
	if text, isText := v.(string); isText || v == nil {
		return text, nil
	}
	text, ok := integer(v)
	switch {
	case !ok:
		return "", ErrInvalid
	case text == "0":
		return "", nil
	}
	return text, nil
}

// integer returns the exact digits of an integer of any kind.
func integer(v any) (text string, ok bool) {
	switch v := v.(type) {
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return fmt.Sprint(v), true
	case json.Number:
		digits := v.String()
		return digits, orgctx.IsInteger(digits) && digits != "-0"
	default:
		return "", false
	}
}

// moment returns the time that Unix seconds name.
func moment(v any) (time.Time, error) {
	text, ok := integer(v)
	if !ok {
		return time.Time{}, fmt.Errorf("%s: %w", fieldExpires, ErrInvalid)
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds <= 0 || seconds > maxUnix {
		return time.Time{}, fmt.Errorf("%s: %w", fieldExpires, ErrInvalid)
	}
	return time.Unix(seconds, 0), nil
}

// document is a session as JSON: one object, its values not looked into.
type document map[string]json.RawMessage

func parseDocument(text string) (document, error) {
	if len(text) > maxSessionSize || !utf8.ValidString(text) {
		return nil, ErrInvalid
	}
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil || d == nil {
		return nil, ErrInvalid // without the cause, which may quote the content
	}
	return d, nil
}

// get returns a field that is text, a number or null as string, [json.Number] or nil, and any
// other as a kind that no field may have.
func (d document) get(name string) (any, bool) {
	raw, ok := d[name]
	if !ok {
		return nil, false
	}
	switch c := raw[0]; {
	case c == 'n':
		return nil, true
	case c == '"':
		var text string
		if json.Unmarshal(raw, &text) != nil {
			return raw, true
		}
		return text, true
	case c == '-' || '0' <= c && c <= '9':
		return json.Number(raw), true
	default:
		return raw, true
	}
}

// identity returns what the document says at the time now.
func (d document) identity(now time.Time) (Identity, error) {
	user, org, err := person(d.get)
	if err != nil {
		return Identity{}, err
	}
	v, _ := d.get(fieldExpires)
	end, err := moment(v)
	if err != nil {
		return Identity{}, err
	}
	if !now.Before(end) {
		return Identity{}, ErrExpired
	}
	return Identity{UserID: user, Organization: org, Expires: end}, nil
}
