// Package orgctx answers one question: for which organization is this code running?
//
// The organization lives in two places only: in values of the opaque type [ID] and in a
// [context.Context]. There is no process-wide or goroutine-wide "current organization" that one
// request could leave behind for the next. An ID comes into being through [ParseID] alone, so
// a caller that holds one holds a name that is safe inside a Redis key.
package orgctx

import (
	"context"
	"errors"
	"fmt"
	"unique"
)

// MaxIDLength is the longest identifier, in bytes.
const MaxIDLength = 64

var (
	// ErrInvalidID is returned for text that cannot name an organization or a session.
	ErrInvalidID = errors.New("identifier must be 1 to 64 characters of A-Z a-z 0-9 _ -")
	// ErrNoOrganization is returned where an organization is needed and the context carries none.
	ErrNoOrganization = errors.New("orgctx: no organization in context")
)

// ID identifies an organization. The zero ID means "none". IDs are comparable with == at the
// price of one pointer comparison, and usable as map keys.
type ID struct {
	handle unique.Handle[string]
}

// ParseID returns the ID with the given text, or [ErrInvalidID].
func ParseID(text string) (ID, error) {
	if !ValidID(text) {
		return ID{}, ErrInvalidID
	}
	return ID{handle: unique.Make(text)}, nil
}

// ValidID reports whether text has the form of an identifier: 1 to [MaxIDLength] ASCII letters,
// digits, hyphens and underscores. Organizations, sessions and tasks have this form; users have one
// of their own ([ValidUserID]). It leaves out every character that separates parts of a Redis name,
// so that such a name parses back in one way.
func ValidID(text string) bool {
	if text == "" || len(text) > MaxIDLength {
		return false
	}
	for i := range len(text) {
		if !isIDByte(text[i]) {
			return false
		}
	}
	return true
}

// IsZero reports whether id means "no organization".
func (id ID) IsZero() bool { return id == ID{} }

// String returns the text of the ID, empty for the zero ID.
func (id ID) String() string {
	if id.IsZero() {
		return ""
	}
	return id.handle.Value()
}

// MarshalText makes an ID a string in JSON and logs.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// contextKey is unexported so that no other package can put an organization into a context.
type contextKey struct{}

// With returns a context that carries the organization, and no user: a user of one organization is
// not the current user in another. Passing the zero ID is a programming error and panics: a context
// must never claim an organization it does not have.
func With(ctx context.Context, id ID) context.Context {
	if id.IsZero() {
		panic("orgctx: With called without an organization")
	}
	return context.WithValue(WithoutUser(ctx), contextKey{}, id)
}

// Without returns a context that carries neither organization nor user, whatever ctx carried. It is
// for work that serves all organizations and must not be mistaken for work of one.
func Without(ctx context.Context) context.Context {
	return context.WithValue(WithoutUser(ctx), contextKey{}, ID{})
}

// From returns the organization of the context. ok is false if there is none.
func From(ctx context.Context) (id ID, ok bool) {
	id, _ = ctx.Value(contextKey{}).(ID)
	return id, !id.IsZero()
}

// Directory says which organizations exist. It is declared here, where [Do] needs it;
// package directory implements it.
type Directory interface {
	// OrganizationActive returns nil if the organization exists and is not suspended.
	OrganizationActive(ctx context.Context, id ID) error
}

// Do runs fn for the organization id: fn's context carries it, and the caller's context stays as
// it was, whatever fn does. The directory is asked first; if it does not know the organization or
// cannot answer, fn does not run and Do returns the directory's error, wrapped. An error of fn
// comes back unchanged, so that errors.Is and == keep working.
func Do(ctx context.Context, dir Directory, id ID, fn func(context.Context) error) error {
	if id.IsZero() {
		return ErrNoOrganization
	}
	if err := dir.OrganizationActive(ctx, id); err != nil {
		return fmt.Errorf("organization %s: %w", id, err)
	}
	return fn(With(ctx, id))
}
