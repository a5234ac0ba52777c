package api

import (
	"errors"
	"net/http"
)

// problem is a row of a call's table: what callers are told of an error.
type problem struct {
	cause   error
	status  int    // of the answer; of several parts the highest counts
	code    string // stable
	message string // one sentence for people: what to do
}

// result returns the result of what has the problem. What was refused will be again; what failed
// may succeed if it is repeated.
func (p problem) result() result {
	r := result{Status: "refused", Code: p.code, Message: p.message}
	if p.status >= http.StatusInternalServerError {
		r.Status = "failed"
	}
	return r
}

var (
	errUnauthenticated  = errors.New("api: no or wrong key")
	errAdminKeyRequired = errors.New("api: not a program on this machine")
	errForeignHost      = errors.New("api: the host is not a loopback name")
	errForeignPage      = errors.New("api: sent by a web page")
	errNotEnabled       = errors.New("api: no key is set")
	errNotFound         = errors.New("api: unknown path")
	errMethod           = errors.New("api: wrong method")
	errBadRequest       = errors.New("api: malformed request")
	errTooLarge         = errors.New("api: body too large")
	errUnavailable      = errors.New("api: unavailable")
)

// Problems of every call.
//
//nolint:gochecknoglobals // constants
var (
	unauthenticated = problem{errUnauthenticated, http.StatusUnauthorized, "unauthenticated", "Send the key of this path in the header Authorization: Bearer KEY."}
	notEnabled      = problem{errNotEnabled, http.StatusNotFound, "not_enabled", "Set --publish-key on the gateway to enable this path."}
	unavailable     = problem{errUnavailable, http.StatusServiceUnavailable, "unavailable", "Try again later: Redis does not answer or refuses the command."}
	notFound        = problem{errNotFound, http.StatusNotFound, "not_found", "Use one of the paths in docs/protocol.md: this one does not exist."}
	wrongMethod     = problem{errMethod, http.StatusMethodNotAllowed, "method_not_allowed", "Use the method that the header Allow names."}
)

// doors returns the problems of a request at the gate.
func doors(a access) []problem {
	if a != byAdmin {
		return []problem{unauthenticated, notEnabled}
	}
	return []problem{
		unauthenticated,
		{errAdminKeyRequired, http.StatusForbidden, "admin_key_required", "Set --admin-key on the gateway and send it as a bearer token: without it, this path answers only programs on the same machine, while --admin-listen is a loopback address."},
		{errForeignHost, http.StatusForbidden, "host_not_loopback", "Use localhost, 127.0.0.1 or [::1] in the URL, or set --admin-key on the gateway and send it as a bearer token."},
		{errForeignPage, http.StatusForbidden, "page_not_allowed", "Send this request from a program instead of a web page, or set --admin-key on the gateway and send it as a bearer token."},
	}
}

// problemOf returns the row of an error.
func (c call) problemOf(err error) problem {
	return problemOf(err, append(doors(c.access), c.problems...))
}

// problemOf returns the row of an error in a table.
func problemOf(err error, table []problem) problem {
	for _, p := range table {
		if errors.Is(err, p.cause) {
			return p
		}
	}
	return unavailable
}
