package event

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"orgcast/internal/orgctx"
)

// Check returns the error that [Decode] would return for the payload, nil if it would make an
// Event of it. Publishers call it so that a payload that every node would drop never leaves.
func Check(g Group, payload []byte, limit int) error {
	if len(payload) > limit {
		return ErrTooLarge
	}
	_, _, err := check(g, payload)
	return err
}

// WithOrganization completes a payload for publishing: it returns the JSON object with an
// "organization_id" that names org. A payload that already names org comes back as it is, without
// a copy; one that names another organization is refused with [ErrForeign], one whose
// organization_id names none with [ErrNoOrganization], and one that is no JSON object or gives a
// name twice as in [Decode]. It leaves the caller's bytes unchanged.
func WithOrganization(org orgctx.ID, payload []byte) ([]byte, error) {
	if org.IsZero() {
		return nil, ErrNoOrganization
	}
	if !utf8.Valid(payload) {
		return nil, ErrNotUTF8
	}
	fields, err := scanObject(payload)
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
	// An ID holds no character that JSON escapes.
	field := `"organization_id":"` + org.String() + `"`
	start := bytes.IndexByte(payload, '{') + 1
	if payload[skipSpace(payload, start)] != '}' {
		field += ","
	}
	return slices.Insert(slices.Clone(payload), start, []byte(field)...), nil
}
