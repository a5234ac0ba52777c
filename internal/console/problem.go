package console

import (
	"encoding/json"
	"errors"
	"net/http"

	"orgcast/internal/lease"
)

var (
	// ErrBusy is what [Reports] return if too many questions are under way.
	ErrBusy = errors.New("console: too many questions at a time")
	// ErrNotAllowed is what [Options.Admit] returns for someone who is not an active member.
	ErrNotAllowed = errors.New("console: not an active member of an active organization")

	errPace      = errors.New("console: too many requests of this organization")
	errPath      = errors.New("console: no such path")
	errMethod    = errors.New("console: wrong method")
	errParameter = errors.New("console: unknown or repeated parameter")
	errBody      = errors.New("console: malformed body")
	errNoDevice  = errors.New("console: no such connection in this organization")
	errNoSession = errors.New("console: the connection has no session identity")
	errNoUsage   = errors.New("console: usage is not kept")
)

// problem is what callers are told of an error: a stable code, and what to do.
type problem struct {
	cause   error
	status  int
	code    string
	message string
}

// unavailable stands for all errors that have no row.
func unavailable() problem {
	return problem{nil, http.StatusServiceUnavailable, "unavailable", "Try again later: the gateway cannot answer now."}
}

// problems returns what callers are told.
func problems() []problem {
	return []problem{
		{errToken, http.StatusUnauthorized, "unauthenticated", "Open the console again from your application: this link is not valid."},
		{errExpired, http.StatusUnauthorized, "token_expired", "Open the console again from your application: this link has expired."},
		{errTooLong, http.StatusUnauthorized, "token_too_long", "Make the link valid for at most an hour."},
		{ErrNotAllowed, http.StatusForbidden, "not_allowed", "Ask your application: you are not an active member of this organization."},
		{errPace, http.StatusTooManyRequests, "too_many_requests", "Wait a second: your organization asks too often."},
		{ErrBusy, http.StatusServiceUnavailable, "busy", "Try again in a second: too many questions are under way."},
		{errPath, http.StatusNotFound, "not_found", "Use one of the paths in docs/console.md: this one does not exist."},
		{errMethod, http.StatusMethodNotAllowed, "method_not_allowed", "Use the method that the header Allow names."},
		{errParameter, http.StatusBadRequest, "unknown_parameter", "Use only the parameters in docs/console.md, each at most once, with valid values."},
		{errBody, http.StatusBadRequest, "bad_request", "Send a JSON object with connection_id and nothing else."},
		{errNoDevice, http.StatusNotFound, "device_not_found", "Refresh the list: this device is no longer connected."},
		{errNoSession, http.StatusConflict, "no_session", "End the session in your application: the gateway cannot tell it from others."},
		{errNoUsage, http.StatusNotFound, "not_kept", "Nothing can be shown: the gateway does not keep usage."},
		{lease.ErrNotAnnounced, http.StatusServiceUnavailable, "not_announced", "Repeat it to close the device at once: without that, it closes within some seconds."},
		{lease.ErrNotRecorded, http.StatusServiceUnavailable, "not_recorded", "Repeat it until it succeeds: the device is closed now, but can reconnect."},
		unavailable(),
	}
}

// problemOf returns what callers are told of an error.
func problemOf(err error) problem {
	for _, p := range problems() {
		if p.cause != nil && errors.Is(err, p.cause) {
			return p
		}
	}
	return unavailable()
}

// send sends an answer.
func send(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the browser may be gone
}

// refuse sends what a caller is told of an error.
func refuse(w http.ResponseWriter, p problem) {
	switch p.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	send(w, p.status, map[string]string{"status": "refused", "code": p.code, "message": p.message})
}
