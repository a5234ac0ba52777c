package session

import (
	"net/http"

	"orgcast/internal/foreign"
)

// UnreadableError is an [ErrInvalid] or [ErrNone] about a request whose cookie may be that of another program.
type UnreadableError struct {
	err error
	// look is a function, so that the work is done only for a refusal that is logged, and so that nothing
	// can print the cookie.
	look func() foreign.Kind
}

func (e *UnreadableError) Error() string { return e.err.Error() }

// Unwrap returns the error that counts for the client.
func (e *UnreadableError) Unwrap() error { return e.err }

// Looks returns what the cookie looks like, or "".
func (e *UnreadableError) Looks() foreign.Kind { return e.look() }

// unreadable says of a cookie's value that its store cannot read it.
func unreadable(value string) error {
	return &UnreadableError{err: ErrInvalid, look: func() foreign.Kind { return foreign.Look(value) }}
}

// missing says of a request that it has none of the cookies that the stores are about.
func missing(r *http.Request) error {
	return &UnreadableError{err: ErrNone, look: func() foreign.Kind { return foreign.Carried(r) }}
}
