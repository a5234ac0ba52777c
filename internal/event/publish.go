package event

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"orgcast/internal/orgctx"
)

// Check returns the error that [Decode] would return for the payload, nil if the payload is valid.
// Publishers call it, so that a payload that every node would drop is never sent.
func Check(g Group, payload []byte, limit int) error {
	if len(payload) > limit {
		return ErrTooLarge
	}
	_, _, err := check(g, string(payload))
	return err
}

// WithOrganization completes a payload for publishing: it returns the JSON object with an
// "organization_id" that names org. A payload that already names org comes back as it is, without a
// copy. The error is [ErrForeign] if the payload names another organization, [ErrNoOrganization] if
// its organization_id is not valid, and as in [Decode] if it is not a JSON object or has a name
// twice. WithOrganization does not change the caller's bytes.
func WithOrganization(org orgctx.ID, payload []byte) ([]byte, error) {
	if org.IsZero() {
		return nil, ErrNoOrganization
	}
	if !utf8.Valid(payload) {
		return nil, ErrNotUTF8
	}
	text := string(payload)
	fields, err := scanObject(text)
	if err != nil {
		return nil, err
	}
	switch {
	case fields.organization == org.String():
		return payload, nil
	case orgctx.ValidID(fields.organization):
		return nil, ErrForeign
	case fields.hasOrganization:
		return nil, ErrNoOrganization
	}
	// An ID needs no escaping in JSON.
	field := `"organization_id":"` + org.String() + `"`
	start := bytes.IndexByte(payload, '{') + 1
	if payload[skipSpace(text, start)] != '}' {
		field += ","
	}
	return slices.Insert(slices.Clone(payload), start, []byte(field)...), nil
}
