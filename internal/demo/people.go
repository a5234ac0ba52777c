package demo

import (
	"fmt"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Organization is one of the organizations of the demo.
type Organization struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Person is someone who can sign in at the demo.
type Person struct {
	User string `json:"user"`
	// UserGroup is the name of the user's own group, set by [People].
	UserGroup string `json:"user_group"`
	Name      string `json:"name"`
	// Organization is the active organization of the session, or empty.
	Organization string `json:"organization_id"`
	// Also is another organization of the person, to which the session can switch, usually empty.
	Also string `json:"also_organization_id,omitempty"`
	// Suspended says that the membership exists but is not active: the gateway must refuse.
	Suspended bool `json:"suspended"`
	// Hint says in a few words what to expect of this person.
	Hint string `json:"hint"`
}

// Organizations returns the organizations of the demo.
func Organizations() []Organization {
	return []Organization{{ID: "acme", Name: "Acme"}, {ID: "globex", Name: "Globex"}}
}

// People returns everyone who can sign in, in the order in which the page shows them.
func People() []Person {
	people := []Person{
		{User: "ada", Name: "Ada", Organization: "acme", Hint: "member of Acme"},
		{User: "alan", Name: "Alan", Organization: "acme", Hint: "member of Acme"},
		{User: "grace", Name: "Grace", Organization: "globex", Hint: "member of Globex"},
		{User: "greta", Name: "Greta", Organization: "globex", Hint: "member of Globex"},
		{User: "mira", Name: "Mira", Organization: "acme", Also: "globex", Hint: "member of both"},
		{User: "sam", Name: "Sam", Organization: "acme", Suspended: true, Hint: "suspended at Acme: must be refused"},
		{User: "olga", Name: "Olga", Hint: "no organization: must be refused"},
	}
	for i := range people {
		people[i].UserGroup = event.UserGroupName(people[i].User)
	}
	return people
}

// findPerson returns the person with that user id. ok is false if there is none.
func findPerson(user string) (p Person, ok bool) {
	for _, p := range People() {
		if p.User == user {
			return p, true
		}
	}
	return Person{}, false
}

// organizationID returns the person's organization, zero for none.
func (p Person) organizationID() (orgctx.ID, error) {
	if p.Organization == "" {
		return orgctx.ID{}, nil
	}
	id, err := orgctx.ParseID(p.Organization)
	if err != nil {
		return orgctx.ID{}, fmt.Errorf("organization of %s: %w", p.User, err)
	}
	return id, nil
}
