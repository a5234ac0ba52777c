package api

import (
	"errors"
	"net/http"
)

// problem is a row of a call's table: what callers are told of an error.
type problem struct {
	cause  error
	status int    // of the answer; of several parts the highest counts
	code   string // stable
}

// result returns the result of what has the problem. What was refused will be again; what failed
// may succeed if it is repeated.
func (p problem) result() result {
	if p.status >= http.StatusInternalServerError {
		return result{Status: "failed", Code: p.code}
	}
	return result{Status: "refused", Code: p.code}
}

var (
	errUnauthenticated = errors.New("api: no or wrong key")
	errBadRequest      = errors.New("api: malformed body")
	errTooLarge        = errors.New("api: body too large")
	errUnavailable     = errors.New("api: unavailable")
)

// Problems of every call.
//
//nolint:gochecknoglobals // constants
var (
	unauthenticated = problem{errUnauthenticated, http.StatusUnauthorized, "unauthenticated"}
	badRequest      = problem{errBadRequest, http.StatusBadRequest, "bad_request"}
	unavailable     = problem{errUnavailable, http.StatusServiceUnavailable, "unavailable"}
)

// problemOf returns the row of an error.
func (c call) problemOf(err error) problem {
	for _, p := range c.problems {
		if errors.Is(err, p.cause) {
			return p
		}
	}
	return unavailable
}
