package event

import (
	"errors"
	"unique"

	"orgcast/internal/orgctx"
)

// MaxGroupNameLength is the longest group name, in bytes.
const MaxGroupNameLength = 100

// ErrInvalidGroup is returned for text that cannot name a group, or a group without organization.
var ErrInvalidGroup = errors.New("event: group name must be 1 to 100 characters of A-Z a-z 0-9 _ . -")

// Group is where events go: a name inside one organization. Groups of two organizations with the
// same name are different groups. Its fields are not exported, so every Group has an organization,
// except the zero Group, which names nothing. Groups can be compared with ==, which costs two
// pointer comparisons, and used as map keys.
type Group struct {
	org  orgctx.ID
	name unique.Handle[string]
}

// NewGroup returns the group called name of the organization, or [ErrInvalidGroup].
func NewGroup(org orgctx.ID, name string) (Group, error) {
	if org.IsZero() || !ValidGroupName(name) {
		return Group{}, ErrInvalidGroup
	}
	return Group{org: org, name: unique.Make(name)}, nil
}

// ValidGroupName reports whether name has the form of a group name.
func ValidGroupName(name string) bool {
	if name == "" || len(name) > MaxGroupNameLength {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return true
}

// Organization returns the organization that owns the group.
func (g Group) Organization() orgctx.ID { return g.org }

// Name returns the group's name inside its organization.
func (g Group) Name() string {
	if g.IsZero() {
		return ""
	}
	return g.name.Value()
}

// IsZero reports whether g names no group.
func (g Group) IsZero() bool { return g == Group{} }

// String returns "ORG/NAME", for logs.
func (g Group) String() string { return g.org.String() + "/" + g.Name() }
