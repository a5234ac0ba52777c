package demo

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
)

// fromSeat is the part of a request that names the seat of the person who sends it. It is empty for
// the browser's one real session.
type fromSeat struct {
	Seat string `json:"seat"`
}

func (f fromSeat) seat() string { return f.Seat }

// readRequest parses a request of someone at a seat. If it is not valid, readRequest has answered
// and ok is false.
func readRequest(w http.ResponseWriter, r *http.Request, req interface{ seat() string }) (ok bool) {
	// Forms are refused, because browsers send forms across origins without a preflight.
	if !isJSON(r) {
		refuse(w, http.StatusUnsupportedMediaType, codeBadRequest, "send a JSON object as application/json")
		return false
	}
	if err := readJSON(r, req); err != nil {
		refuseBody(w, err)
		return false
	}
	return checkSeat(w, req.seat())
}

// checkSeat reports whether a name is a valid seat or empty, and answers otherwise.
func checkSeat(w http.ResponseWriter, seat string) (ok bool) {
	if seat != "" && !validSeat(seat) {
		refuse(w, http.StatusBadRequest, codeBadRequest, "seat is 1 to 16 characters of a-z 0-9")
		return false
	}
	return true
}

// errTrailing is returned for a body with more than one JSON value.
var errTrailing = errors.New("demo: more than one JSON value")

func isJSON(r *http.Request) bool {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && mediaType == "application/json"
}

// readJSON parses the body as one JSON object without fields other than v's.
func readJSON(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errTrailing
	}
	return nil
}

// refuseBody answers a body that could not be read.
func refuseBody(w http.ResponseWriter, err error) {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, codeTooLarge, "the request is too large")
		return
	}
	message := "the request is not of the expected form"
	if strings.Contains(err.Error(), "unknown field") {
		message = "the request has a field that is not its to set"
	}
	refuse(w, http.StatusBadRequest, codeBadRequest, message)
}
