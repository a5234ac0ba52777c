package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

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

// publishing returns POST /v1/publish. The body is one publication,
// {"organization_id":…,"group":…,"event":{…}} with "record" and "idempotency_key" if it is to be
// recorded, and "user_id" instead of "group" for the user's own group; or a list of up to
// [MaxBatch]. The answer has a result for each, in their order.
func publishing(p Publisher) call {
	c := call{
		path:    "/v1/publish",
		maxBody: MaxBody,
		problems: []problem{
			{errBadRequest, http.StatusBadRequest, codeBadRequest, "Send one publication or a list of them as JSON, with the fields organization_id, group or user_id, event, record and idempotency_key, each at most once."},
			{errTooLarge, http.StatusRequestEntityTooLarge, "too_large", "Send at most 1,000 publications and 4 MiB in one request."},
			{event.ErrInvalidGroup, http.StatusUnprocessableEntity, "invalid_group", "Send either group, with 1 to 100 characters of A-Z a-z 0-9 _ . -, or user_id, and not both."},
			{orgctx.ErrInvalidUserID, http.StatusUnprocessableEntity, "invalid_user", "Send user_id as 1 to 128 bytes of printable text without spaces."},
			{event.ErrInvalidIdempotencyKey, http.StatusUnprocessableEntity, event.Reason(event.ErrInvalidIdempotencyKey), "Send an idempotency_key of 1 to 128 visible ASCII characters, together with record."},
		},
		list: true,
	}
	for _, err := range event.DecodeErrors() {
		c.problems = append(c.problems, problem{err, http.StatusUnprocessableEntity, event.Reason(err), howToFix(err)})
	}
	c.problems = append(c.problems, unavailable)
	c.do = func(ctx context.Context, body []byte) ([]result, error) {
		list, err := readPublications(body)
		if err != nil {
			return nil, err
		}
		return c.publish(ctx, p, list)
	}
	return c
}

// howToFix returns what to do about a payload that is not an event.
func howToFix(err error) string {
	return map[error]string{
		event.ErrTooLarge:       "Send a smaller event, or raise --max-event on every gateway.",
		event.ErrNotUTF8:        "Send the event in UTF-8.",
		event.ErrNotObject:      "Send the event as one JSON object.",
		event.ErrInvalidType:    "Give the event a type of 1 to 100 characters of A-Z a-z 0-9 _ . : -.",
		event.ErrNoOrganization: "Send organization_id as 1 to 64 characters of A-Z a-z 0-9 _ -.",
		event.ErrForeign:        "Publish the event to the organization that its organization_id names, or leave that field out of the event.",
		event.ErrDuplicateField: "Send type and organization_id once each.",
	}[err]
}

// publication is one event as the request has it. The organization may also stand in the event
// itself; where it stands in both places it must be the same.
type publication struct {
	OrganizationID identifier      `json:"organization_id"`
	Group          string          `json:"group"`
	UserID         *identifier     `json:"user_id"` // whose own group it is; nil if Group says
	Event          json.RawMessage `json:"event"`
	Record         bool            `json:"record"`
	IdempotencyKey *string         `json:"idempotency_key"` // nil if there is none
}

var errBadField = errors.New("api: unknown or repeated field")

// UnmarshalJSON implements json.Unmarshaler.
func (p *publication) UnmarshalJSON(b []byte) error {
	return readFields(b, map[string]any{"organization_id": &p.OrganizationID, "group": &p.Group, "user_id": &p.UserID, "event": &p.Event, "record": &p.Record, "idempotency_key": &p.IdempotencyKey})
}

// readFields reads a JSON object whose fields go to the pointers under their names. Each name may
// occur once and in this spelling only: encoding/json would take Organization_ID for organization_id
// and believe the last of two, where the program that authorized the request may have believed the
// first.
func readFields(b []byte, fields map[string]any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return errBadField
	}
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
	if _, err := d.Token(); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errBadField
	}
	return nil
}

// identifier is text or a whole number, as organization_id may be in events.
type identifier string

// UnmarshalJSON implements json.Unmarshaler. What is neither names nothing, and must not become a
// name.
func (id *identifier) UnmarshalJSON(b []byte) error {
	text, _ := orgctx.TextOrInteger(b)
	*id = identifier(text)
	return nil
}

// readPublications takes one publication or a list of them.
func readPublications(b []byte) ([]publication, error) {
	var list []publication
	var err error
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '[' {
		err = json.Unmarshal(b, &list)
	} else {
		list = make([]publication, 1)
		err = json.Unmarshal(b, &list[0])
	}
	switch {
	case len(list) > MaxBatch:
		return nil, errTooLarge
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errBadRequest, err)
	default:
		return list, nil
	}
}

// publish sends what is in order and says what became of each. The error is the worst of theirs.
func (c call) publish(ctx context.Context, p Publisher, list []publication) (results []result, err error) {
	results = make([]result, len(list))
	var worst problem
	fail := func(i int, why error) {
		p := c.problemOf(why)
		if results[i] = p.result(); p.status > worst.status {
			worst, err = p, why
		}
	}
	var sent []event.Publication
	var places []int // in results
	for i, asked := range list {
		out, err := asked.check()
		if err != nil {
			fail(i, err)
			continue
		}
		sent, places = append(sent, out), append(places, i)
	}
	for i, receipt := range p.PublishAll(ctx, sent) {
		if receipt.Err != nil {
			fail(places[i], receipt.Err)
			continue
		}
		results[places[i]] = published(receipt, sent[i].Record != nil)
	}
	return results, err
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

// check returns what is to be published, or why not.
func (p publication) check() (out event.Publication, err error) {
	org, err := orgctx.ParseID(string(p.OrganizationID))
	if err != nil {
		return out, event.ErrNoOrganization
	}
	name, err := p.groupName()
	if err != nil {
		return out, err
	}
	if out.Group, err = event.NewGroup(org, name); err != nil {
		return out, err
	}
	if out.Payload, err = event.WithOrganization(org, p.Event); err != nil {
		return out, err
	}
	if p.Record {
		out.Record = new(event.Recording)
	}
	if p.IdempotencyKey != nil {
		// A key that nobody would heed is a mistake too.
		if !p.Record || !event.ValidIdempotencyKey(*p.IdempotencyKey) {
			return out, event.ErrInvalidIdempotencyKey
		}
		out.Record.IdempotencyKey = *p.IdempotencyKey
	}
	return out, nil
}

// groupName returns the name of the group that the publication is for, or why there is none.
func (p publication) groupName() (string, error) {
	switch {
	case p.UserID == nil:
		return p.Group, nil
	case p.Group != "": // nobody could say which of the two was meant
		return "", event.ErrInvalidGroup
	case !orgctx.ValidUserID(string(*p.UserID)):
		return "", orgctx.ErrInvalidUserID
	default:
		return event.UserGroupName(string(*p.UserID)), nil
	}
}
