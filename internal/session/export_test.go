package session

import (
	"time"

	"orgcast/internal/gather"
)

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

// DecodeDjango is what a [DjangoCacheStore] makes of a value in the cache.
func DecodeDjango(value string, o DjangoCacheOptions) (Identity, error) {
	s := &DjangoCacheStore{opts: o}
	s.opts.DjangoOptions = o.withDefaults()
	get, err := s.decode(value)
	if err != nil {
		return Identity{}, err
	}
	user, org, err := s.opts.person(get)
	return Identity{UserID: user, Organization: org}, err
}

// Together has handshakes wait for each other for so long, and returns how many questions wait.
func (v *Revocations) Together(patience time.Duration) (waiting func() int) {
	v.together = gather.New(gather.Options[holder, error]{Call: v.check, Most: maxTogether, Patience: patience})
	return v.together.Waiting
}

// Together has handshakes wait for each other for so long, and returns how many questions wait.
func (s *RedisStore) Together(patience time.Duration) (waiting func() int) {
	s.gather(patience)
	return s.together.Waiting
}
