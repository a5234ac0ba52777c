package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/sessions"
)

// Get implements [sessions.Store]: it returns the session of the request, loading it once.
func (s *RedisStore) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(s, name)
}

// New implements [sessions.Store]. The session is new, and has no ID, if the request bears none
// that exists. An error other than that (see the Err… values) comes with a new session, and means
// "not logged in". Numbers among the values are of type [json.Number].
func (s *RedisStore) New(r *http.Request, name string) (*sessions.Session, error) {
	session := sessions.NewSession(s, name)
	session.Options = s.opts.gorilla()
	session.IsNew = true

	key, err := requestKey(r, name)
	if errors.Is(err, ErrNone) {
		return session, nil
	}
	if err != nil {
		return session, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.Timeout)
	defer cancel()
	d, err := s.load(ctx, s.client, key)
	if errors.Is(err, ErrNone) {
		return session, nil
	}
	if err != nil {
		return session, err
	}
	// Nobody need be logged in to a web application's session.
	if _, err := d.identity(s.opts.Now()); err != nil && !errors.Is(err, ErrNone) {
		return session, err
	}
	values := make(map[any]any, len(d))
	for name, raw := range d {
		var v any
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			return session, ErrInvalid
		}
		values[name] = v
	}
	session.Values, session.ID, session.IsNew = values, key, false
	return session, nil
}

// Save implements [sessions.Store]. The store makes the key of a new session, whatever its ID says,
// and of a session whose user changed: an attacker who knew the key before the login must not know
// it afterwards. Save does not bring back a session that was ended meanwhile, and returns
// [ErrNone]. A negative MaxAge ends the session. Names of values must be text, and values must fit
// JSON.
func (s *RedisStore) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.Timeout)
	defer cancel()
	if session.Options.MaxAge < 0 {
		if !session.IsNew && validKey(session.ID) {
			if err := s.client.Del(ctx, s.keys.Session(session.ID)).Err(); err != nil {
				return unavailable(err)
			}
		}
		session.ID, session.IsNew = "", true
		http.SetCookie(w, sessions.NewCookie(session.Name(), "", session.Options))
		return nil
	}

	life := s.opts.MaxAge
	if n := session.Options.MaxAge; n > 0 && n < int(life/time.Second) {
		life = time.Duration(n) * time.Second
	}
	text, err := encodeValues(session.Values, s.opts.Now().Add(life))
	if err != nil {
		return err
	}
	key := session.ID
	if session.IsNew || !validKey(key) {
		key, err = s.create(ctx, text, life)
	} else {
		key, err = s.replace(ctx, key, text, life)
	}
	if err != nil {
		return err
	}
	session.ID, session.IsNew = key, false
	http.SetCookie(w, sessions.NewCookie(session.Name(), key, session.Options))
	return nil
}

// encodeValues returns the values as JSON, with the expiry end.
func encodeValues(values map[any]any, end time.Time) (string, error) {
	fields := make(map[string]any, len(values)+1)
	for k, v := range values {
		name, ok := k.(string)
		if !ok {
			return "", fmt.Errorf("session: value names must be strings, not %T", k)
		}
		fields[name] = v
	}
	fields[fieldExpires] = end.Unix()
	text, err := json.Marshal(fields)
	if err != nil {
		return "", fmt.Errorf("session: values cannot be encoded as JSON: %w", err)
	}
	d, err := parseDocument(string(text))
	if err != nil {
		return "", err
	}
	// What Resolve would refuse later is refused now, where the mistake is.
	if _, _, err := person(d.get); err != nil && !errors.Is(err, ErrNone) {
		return "", err
	}
	return string(text), nil
}
