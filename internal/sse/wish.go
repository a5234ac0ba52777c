package sse

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"orgcast/internal/event"
	"orgcast/internal/socket"
)

// wish is the content of a request.
type wish struct {
	// message is for the consumer, nil if the request names no group. A budget counts it.
	message []byte
	// cursor has the groups of a GET, whose events have ids specific to this client.
	cursor *cursor
}

// refusal answers a request that cannot become a stream.
type refusal struct {
	status     int
	code, text string
}

// Error implements error.
func (r refusal) Error() string { return "sse: " + r.text }

// The refusals.
var (
	errQuery    = refusal{http.StatusBadRequest, codeBadMessage, "the query is not valid"}
	errPosition = refusal{http.StatusBadRequest, codeBadMessage, "Last-Event-ID must have a position or nothing for each group of the query"}
	errKind     = refusal{http.StatusUnsupportedMediaType, codeBadMessage, "the body must be application/json"}
	errBody     = refusal{http.StatusBadRequest, codeBadMessage, "the body must be a subscribe frame"}
	errLate     = refusal{http.StatusBadRequest, codeBadMessage, "the body did not arrive"}
	errTooLarge = refusal{http.StatusRequestEntityTooLarge, codeTooLarge, "the body is too large"}
	errMessage  = refusal{http.StatusNotImplemented, CodeWebSocketRequired, "a stream takes one subscribe frame; other messages need a WebSocket"}
	errMethod   = refusal{http.StatusMethodNotAllowed, codeMethod, "use GET or POST"}
	errVersion  = refusal{http.StatusHTTPVersionNotSupported, codeVersion, "streams need HTTP/1.1 on this connection"}
	errIntake   = refusal{http.StatusTooManyRequests, codeRateLimit, "the organization sends too much at once"}
)

// Answer implements [gateway.Refusal].
func (r refusal) Answer() (status int, code string) { return r.status, r.code }

// answer refuses the request, with a code and a text for people.
func (r refusal) answer(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if r.status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", intakeTime)
	}
	w.WriteHeader(r.status)
	_ = json.NewEncoder(w).Encode(struct { // the client may have disconnected already
		Code    string `json:"code"`
		Message string `json:"message"`
	}{r.code, r.text})
}

// wishOf reads the content of a request. Its errors are refusals.
func (c *Carrier) wishOf(w http.ResponseWriter, r *http.Request, b socket.Budget) (wish, error) {
	if r.Method == http.MethodGet {
		return wishOfQuery(r, b)
	}
	message, err := c.body(w, r, b)
	if err != nil {
		return wish{}, err
	}
	m, err := event.ParseMessage(event.RawMessage{Data: message})
	switch {
	case err != nil || !utf8.Valid(message):
		err = errBody
	case m.Type != "subscribe":
		err = errMessage
	case namesNone(m):
	default:
		return wish{message: message}, nil
	}
	b.Give(socket.Held(message))
	return wish{}, err
}

// namesNone reports whether a subscribe frame names no group. Its stream shows what the route sends
// by itself, and consumers without groups do not know the frame.
func namesNone(m event.Message) bool {
	var frame struct {
		Group  json.RawMessage            `json:"group"`
		Groups map[string]json.RawMessage `json:"groups"`
	}
	return m.Decode(&frame) == nil && frame.Group == nil && len(frame.Groups) == 0
}

// body reads the body of a POST.
func (c *Carrier) body(w http.ResponseWriter, r *http.Request, b socket.Budget) ([]byte, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, errKind
	}
	if r.ContentLength > c.options.MaxBody {
		return nil, errTooLarge
	}
	message, err := socket.ReadAll(arriving{http.MaxBytesReader(w, r.Body, c.options.MaxBody)}, b, int(r.ContentLength))
	if _, ok := errors.AsType[refusal](err); err != nil && !ok { // an error of the budget
		err = errIntake
	}
	return message, err
}

// arriving is a body whose errors are refusals.
type arriving struct{ io.Reader }

// Read implements io.Reader.
func (a arriving) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return n, errTooLarge
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, errLate
	}
	return n, err
}

// wishOfQuery makes a subscribe frame from the parameters "group". Last-Event-ID has a position for
// each, in their order.
func wishOfQuery(r *http.Request, b socket.Budget) (wish, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return wish{}, errQuery
	}
	at := new(cursor)
	for _, name := range query["group"] {
		at.add(name)
	}
	if len(at.groups) == 0 {
		return wish{cursor: at}, nil
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" && !at.resume(id) {
		return wish{}, errPosition
	}
	type asking struct {
		After string `json:"after,omitempty"`
	}
	groups := make(map[string]asking, len(at.groups))
	for i, name := range at.groups {
		groups[name] = asking{at.at[i]}
	}
	message, err := json.Marshal(struct {
		Type   string            `json:"type"`
		Groups map[string]asking `json:"groups"`
	}{"subscribe", groups})
	if err != nil {
		return wish{}, errQuery
	}
	if b.Take(socket.Held(message)) != nil {
		return wish{}, errIntake
	}
	return wish{message, at}, nil
}

// resume sets the marks from an id that the client received, and reports whether the id fits these
// groups.
func (c *cursor) resume(id string) bool {
	if strings.Count(id, ",") != len(c.groups)-1 {
		return false
	}
	i := 0
	for at := range strings.SplitSeq(id, ",") {
		if at != "" {
			mark, err := event.ParseMark(at)
			if err != nil {
				return false
			}
			c.at[i] = mark.String()
		}
		i++
	}
	return true
}
