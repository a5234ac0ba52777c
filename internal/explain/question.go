package explain

import (
	"errors"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/inventory"
	"orgcast/internal/orgctx"
	"orgcast/internal/trail"
)

// Errors of questions, in addition to those of package inventory.
var (
	ErrPosition = errors.New("explain: invalid position")
	ErrTime     = errors.New("explain: need a position or a time, and not both")
)

// Question is what is asked, as it goes to the nodes.
type Question struct {
	OrganizationID string `json:"organization_id"`
	// Group and UserID may be empty.
	Group  string `json:"group,omitempty"`
	UserID string `json:"user_id,omitempty"`
	// Position is that of the event, or else the question is about everything since a time.
	Position string    `json:"position,omitempty"`
	Since    time.Time `json:"since,omitzero"`
}

// Check returns an error if the question is not valid.
func (q Question) Check() error {
	_, err := q.Query()
	return err
}

// Query returns the question for a trail.
func (q Question) Query() (query trail.Query, err error) {
	query = trail.Query{Group: q.Group, User: q.UserID, Since: q.Since}
	if query.Organization, err = orgctx.ParseID(q.OrganizationID); err != nil {
		return query, inventory.ErrOrganization
	}
	switch {
	case q.Group != "" && !event.ValidGroupName(q.Group):
		return query, inventory.ErrGroup
	case q.UserID != "" && !orgctx.ValidUserID(q.UserID):
		return query, inventory.ErrUser
	case (q.Position == "") == q.Since.IsZero(), q.Since.UTC().Year() > 9999: // JSON has no later years
		return query, ErrTime
	case q.Position == "":
		return query, nil
	}
	if query.Position, err = event.ParsePosition(q.Position); err != nil || query.Position.IsZero() {
		return query, ErrPosition
	}
	return query, nil
}
