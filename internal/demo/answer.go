package demo

import (
	"encoding/json"
	"net/http"

	"go.uber.org/zap"
)

// Codes of refusals. They are stable. Our error texts are never sent.
const (
	codeBadRequest     = "bad_request"
	codeForeignOrigin  = "foreign_origin"
	codeUnknownUser    = "unknown_user"
	codeUnknownGroup   = "unknown_group"
	codeNotSignedIn    = "not_signed_in"
	codeNoOrganization = "no_organization"
	codeSuspended      = "organization_suspended"
	codeNotAMember     = "not_a_member"
	codeNotFound       = "not_found"
	codeTooLarge       = "too_large"
	codeUnavailable    = "unavailable"
	codeInternal       = "internal"
)

// failure is the body of every refusal.
type failure struct {
	Error failureDetail `json:"error"`
}

type failureDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The status has been sent. If the client has disconnected, the error does not matter.
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, failure{Error: failureDetail{Code: code, Message: message}})
}

// unavailable answers that Redis is not available. The reason goes to the log, not to the page.
func (d *server) unavailable(w http.ResponseWriter, doing string, err error) {
	d.Log.Warn("redis does not answer", zap.String("doing", doing), zap.Error(err))
	w.Header().Set("Retry-After", "1")
	refuse(w, http.StatusServiceUnavailable, codeUnavailable, "Redis does not answer right now; try again in a moment")
}

// fail answers an internal error.
func (d *server) fail(w http.ResponseWriter, doing string, err error) {
	d.Log.Error("demo request failed", zap.String("doing", doing), zap.Error(err))
	refuse(w, http.StatusInternalServerError, codeInternal, "something went wrong on our side")
}
