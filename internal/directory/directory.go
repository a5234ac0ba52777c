// Package directory says which organizations exist and are active, who is an active member of one
// and in which role, and which [Objects] belong to an organization and to whom in it. It never guesses: what it cannot read, or does not understand, is no.
package directory

import (
	"context"
	"errors"
	"fmt"

	"orgcast/internal/orgctx"
)

var (
	// ErrUnknown is what clients may learn: unknown, suspended and not yours look alike. The
	// errors below wrap it and tell them apart for logs.
	ErrUnknown = errors.New("directory: no such organization or member")
	// ErrOrganizationUnknown is returned for an organization that the directory does not hold.
	ErrOrganizationUnknown = fmt.Errorf("%w: organization is unknown", ErrUnknown)
	// ErrOrganizationSuspended is returned for an organization whose status is not "active".
	ErrOrganizationSuspended = fmt.Errorf("%w: organization is not active", ErrUnknown)
	// ErrNotMember is returned for a user who is no active member of the organization, or one
	// whose role has no valid form.
	ErrNotMember = fmt.Errorf("%w: user is not an active member", ErrUnknown)
	// ErrUnavailable is returned, wrapped, if the directory did not answer.
	ErrUnavailable = errors.New("directory: unavailable")
)

// Member is what the directory knows of an active member.
type Member struct {
	// Role is the user's role in the organization. It satisfies [orgctx.ValidRole], or is empty
	// for none.
	Role string
	// InSession says that the directory keeps no roles: what the session names counts.
	InSession bool
}

// Directory is asked at admission, and again while a connection lives. Its methods may wait for
// the network, for a bounded time, and are safe for concurrent use. Their errors are, or wrap, the
// Err… values of this package.
type Directory interface {
	// OrganizationActive returns nil if the organization exists and is not suspended.
	OrganizationActive(ctx context.Context, org orgctx.ID) error
	// Member returns the membership of an active member. It does not ask whether the
	// organization is active.
	Member(ctx context.Context, org orgctx.ID, userID string) (Member, error)
	// Admit asks both at once.
	Admit(ctx context.Context, org orgctx.ID, userID string) (Member, error)
	// AdmitAll is Admit for many, answered in order.
	AdmitAll(ctx context.Context, list []Membership) []Admission
}

// Membership names a user inside an organization.
type Membership struct {
	Organization orgctx.ID
	UserID       string
}

// Admission is what Admit returned.
type Admission struct {
	Member Member
	Err    error
}

// TrustSession is the directory of a gateway whose web application checks membership whenever it
// writes a session: every organization is active, and every user a member in the role that the session names.
type TrustSession struct{}

var (
	_ Directory        = TrustSession{}
	_ orgctx.Directory = TrustSession{}
)

// OrganizationActive implements [Directory].
func (TrustSession) OrganizationActive(_ context.Context, org orgctx.ID) error {
	if org.IsZero() {
		return ErrOrganizationUnknown
	}
	return nil
}

// Member implements [Directory].
func (TrustSession) Member(_ context.Context, org orgctx.ID, userID string) (Member, error) {
	return Member{InSession: true}, checkNames(org, userID)
}

// Admit implements [Directory].
func (TrustSession) Admit(_ context.Context, org orgctx.ID, userID string) (Member, error) {
	return Member{InSession: true}, checkNames(org, userID)
}

// AdmitAll implements [Directory].
func (TrustSession) AdmitAll(_ context.Context, list []Membership) []Admission {
	out := make([]Admission, len(list))
	for i, m := range list {
		out[i] = Admission{Member: Member{InSession: true}, Err: checkNames(m.Organization, m.UserID)}
	}
	return out
}

// checkNames refuses what cannot name an organization or a user, before it becomes part of a key.
func checkNames(org orgctx.ID, userID string) error {
	if org.IsZero() {
		return ErrOrganizationUnknown
	}
	if !orgctx.ValidUserID(userID) {
		return ErrNotMember
	}
	return nil
}
