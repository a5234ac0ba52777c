// Package publish is the HTTP way for back ends to publish events, on the private listener.
package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

const (
	// MaxBody is the largest request, in bytes.
	MaxBody = 4 << 20
	// MaxBatch is how many publications one request may hold.
	MaxBatch = 1000
)

// Publisher sends publications, in order, and returns a receipt for each.
type Publisher interface {
	PublishAll(ctx context.Context, list []event.Publication) []event.Receipt
}

// publication is one event as the request has it. The organisation may also stand in the event
// itself; where it stands in both places it must be the same.
type publication struct {
	OrganizationID identifier      `json:"organization_id"`
	Group          string          `json:"group"`
	UserID         *identifier     `json:"user_id"` // whose own group it is; nil if Group says
	Event          json.RawMessage `json:"event"`
	Record         bool            `json:"record"`
	IdempotencyKey *string         `json:"idempotency_key"` // nil if there is none
}

var errBadField = errors.New("publish: unknown or repeated field")

// UnmarshalJSON implements json.Unmarshaler. Each name may occur once and in this spelling only:
// encoding/json would take Organization_ID for organization_id and believe the last of two, where
// whoever authorised the request may have believed the first.
func (p *publication) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return errBadField
	}
	fields := map[string]any{"organization_id": &p.OrganizationID, "group": &p.Group, "user_id": &p.UserID, "event": &p.Event, "record": &p.Record, "idempotency_key": &p.IdempotencyKey}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		text, _ := name.(string) // names are text
		field, known := fields[text]
		if !known {
			return errBadField
		}
		delete(fields, text)
		if err := d.Decode(field); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// identifier is text or a whole number, as organization_id may be in events.
type identifier string

// UnmarshalJSON implements json.Unmarshaler.
func (id *identifier) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(id))
	}
	*id = "" // true, null, 1.0 and the like name nothing, and must not become names
	if digits := bytes.TrimPrefix(b, []byte("-")); len(digits) > 0 && len(bytes.Trim(digits, "0123456789")) == 0 {
		*id = identifier(b)
	}
	return nil
}

// result says what became of one publication.
type result struct {
	Status string `json:"status"` // "published", "refused", "failed"
	// ID is the position of an event that is recorded.
	ID string `json:"id,omitempty"`
	// Nodes is how many nodes Redis passed a published event on to.
	Nodes *int64 `json:"nodes,omitempty"`
	// Repeated says that nothing was published, because its idempotency key had been used.
	Repeated bool `json:"repeated,omitempty"`
	// Code is the stable name of the reason if it was refused.
	Code string `json:"code,omitempty"`
}

// handler answers POST /v1/publish.
type handler struct{ publisher Publisher }

// NewHandler returns the handler of POST /v1/publish. Callers show the key as a bearer token. The
// body is one publication, {"organization_id":…,"group":…,"event":{…}} with "record" and
// "idempotency_key" if it is to be recorded, and "user_id" instead of "group" for the user's own group; or a list of up to [MaxBatch]; the answer is
// {"results":[…]} in the same order. The status is 200 if all were published, 422 if some were refused, 503 if Redis did not take some.
func NewHandler(p Publisher, key *Key) http.Handler { return Bearer(key, &handler{publisher: p}) }

// Key is the key of bearer tokens, which may be replaced while it is in use.
type Key struct {
	sum atomic.Pointer[[sha256.Size]byte]
}

// NewKey returns the key with the text.
func NewKey(text string) *Key {
	k := new(Key)
	k.Set(text)
	return k
}

// Set replaces the text. The previous one is good no more.
func (k *Key) Set(text string) {
	sum := sha256.Sum256([]byte(text))
	k.sum.Store(&sum)
}

// Bearer lets only those reach next who show the key as a bearer token.
func Bearer(key *Key, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		ok := strings.EqualFold(scheme, "Bearer") // RFC 9110, section 11.1: regardless of case
		token = strings.TrimLeft(token, " ")
		got, want := sha256.Sum256([]byte(token)), key.sum.Load()
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			answer(w, http.StatusUnauthorized, result{Status: "refused", Code: "unauthenticated"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	publications, err := read(http.MaxBytesReader(w, r.Body, MaxBody))
	switch {
	case errors.Is(err, errTooMany):
		answer(w, http.StatusRequestEntityTooLarge, result{Status: "refused", Code: "too_large"})
		return
	case err != nil:
		answer(w, http.StatusBadRequest, result{Status: "refused", Code: "bad_request"})
		return
	}
	status, results := h.publish(r.Context(), publications)
	answer(w, status, results...)
}

var errTooMany = errors.New("publish: request too large")

// read takes one publication or a list of them.
func read(body io.Reader) ([]publication, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, errTooMany
		}
		return nil, err
	}
	var list []publication
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '[' {
		err = json.Unmarshal(b, &list)
	} else {
		list = make([]publication, 1)
		err = json.Unmarshal(b, &list[0])
	}
	if len(list) > MaxBatch {
		return nil, errTooMany
	}
	return list, err
}

// publish sends what is in order and says what became of each.
func (h *handler) publish(ctx context.Context, list []publication) (status int, results []result) {
	status = http.StatusOK
	results = make([]result, len(list))
	var sent []event.Publication
	var places []int // in results
	for i, p := range list {
		m, code := p.check()
		if code != "" {
			results[i] = result{Status: "refused", Code: code}
			status = http.StatusUnprocessableEntity
			continue
		}
		sent, places = append(sent, m), append(places, i)
	}
	for i, receipt := range h.publisher.PublishAll(ctx, sent) {
		err := receipt.Err
		switch {
		case err == nil:
			results[places[i]] = published(receipt, sent[i].Record != nil)
		case event.Reason(err) != "invalid":
			results[places[i]] = result{Status: "refused", Code: event.Reason(err)}
			status = max(status, http.StatusUnprocessableEntity)
		default:
			results[places[i]] = result{Status: "failed", Code: "unavailable"}
			status = http.StatusServiceUnavailable
		}
	}
	return status, results
}

// published returns the result of a publication that was published.
func published(receipt event.Receipt, recorded bool) result {
	r := result{Status: "published", Repeated: receipt.Repeated}
	if recorded {
		r.ID = receipt.Position.String()
	}
	if !receipt.Repeated {
		r.Nodes = &receipt.Nodes
	}
	return r
}

// check makes a publication of the request, or a code that says why not.
func (p publication) check() (m event.Publication, code string) {
	org, err := orgctx.ParseID(string(p.OrganizationID))
	if err != nil {
		return event.Publication{}, event.Reason(event.ErrNoOrganization)
	}
	name, code := p.groupName()
	if code != "" {
		return event.Publication{}, code
	}
	if m.Group, err = event.NewGroup(org, name); err != nil {
		return event.Publication{}, "invalid_group"
	}
	if m.Payload, err = event.WithOrganization(org, p.Event); err != nil {
		return event.Publication{}, event.Reason(err)
	}
	if p.Record {
		m.Record = new(event.Recording)
	}
	if p.IdempotencyKey != nil {
		// A key that nobody would heed is a mistake too.
		if !p.Record || !event.ValidIdempotencyKey(*p.IdempotencyKey) {
			return event.Publication{}, event.Reason(event.ErrInvalidIdempotencyKey)
		}
		m.Record.IdempotencyKey = *p.IdempotencyKey
	}
	return m, ""
}

// groupName returns the name of the group that the publication is for, or a code that says why there is none.
func (p publication) groupName() (name, code string) {
	switch {
	case p.UserID == nil:
		return p.Group, ""
	case p.Group != "": // nobody could say which of the two was meant
		return "", "invalid_group"
	case !orgctx.ValidUserID(string(*p.UserID)):
		return "", "invalid_user"
	default:
		return event.UserGroupName(string(*p.UserID)), ""
	}
}

func answer(w http.ResponseWriter, status int, results ...result) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct { // the client may be gone
		Results []result `json:"results"`
	}{results})
}
