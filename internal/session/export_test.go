package session

import "time"

// DecodeJSON is what [RedisStore] makes of a stored session at the time now.
func DecodeJSON(text string, now time.Time) (Identity, error) {
	d, err := parseDocument(text)
	if err != nil {
		return Identity{}, err
	}
	return d.identity(now)
}

// ValidKey is the check that a key passes before it is looked up.
func ValidKey(text string) bool { return validKey(text) }

// ReadGob is what [CookieStore] reads of a session's values without package gob.
func ReadGob(src []byte) (values map[any]any, ok bool) { return readGob(src) }
