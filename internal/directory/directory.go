// Package directory tells which organizations exist and are active, who is an active member of an
// organization and in which role, and which [Objects] belong to an organization and to which user.
// It never guesses: a record that it cannot read or does not understand means no.
package directory

import (
	"context"
	"errors"
	"fmt"

	"orgcast/internal/orgctx"
)

var (
	// ErrUnknown is all that clients may learn: unknown, suspended and foreign organizations look
	// alike. The errors below wrap it and tell these cases apart in logs.
	ErrUnknown = errors.New("directory: no such organization or member")
	// ErrOrganizationUnknown is returned for an organization that is not in the directory.
	ErrOrganizationUnknown = fmt.Errorf("%w: organization is unknown", ErrUnknown)
	// ErrOrganizationSuspended is returned for an organization whose status is not "active".
	ErrOrganizationSuspended = fmt.Errorf("%w: organization is not active", ErrUnknown)
	// ErrNotMember is returned for a user who is not an active member of the organization, or whose
	// role is not valid.
	ErrNotMember = fmt.Errorf("%w: user is not an active member", ErrUnknown)
	// ErrUnavailable is returned, wrapped, if the directory did not answer.
	ErrUnavailable = errors.New("directory: unavailable")
)

// Member is the membership of an active member.
type Member struct {
	// Role is the user's role in the organization. It satisfies [orgctx.ValidRole], or is empty if
	// the user has none.
	Role string
	// InSession says that the directory keeps no roles, so the role in the session counts.
	InSession bool
}

// Directory is asked at admission, and repeatedly while a connection is open. Its methods may wait
// for the network, for a bounded time, and are safe for concurrent use. Their errors are, or wrap,
// the Err… values of this package.
type Directory interface {
	// OrganizationActive returns nil if the organization exists and is not suspended.
	OrganizationActive(ctx context.Context, org orgctx.ID) error
	// Member returns the membership of an active member. It does not check the organization.
	Member(ctx context.Context, org orgctx.ID, userID string) (Member, error)
	// Admit checks both at once.
	Admit(ctx context.Context, org orgctx.ID, userID string) (Member, error)
	// AdmitAll does the same as Admit for a list, and answers in its order.
	AdmitAll(ctx context.Context, list []Membership) []Admission
}

// Membership names a user inside an organization.
type Membership struct {
	Organization orgctx.ID
	UserID       string
}

// Admission is the result of one Admit.
type Admission struct {
	Member Member
	Err    error
}

// TrustSession is the directory of a gateway whose web application checks membership whenever it
// writes a session. Every organization is active, and every user is a member with the role that the
// session names.
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

// checkNames refuses invalid organizations and user ids, before they become part of a key.
func checkNames(org orgctx.ID, userID string) error {
	if org.IsZero() {
		return ErrOrganizationUnknown
	}
	if !orgctx.ValidUserID(userID) {
		return ErrNotMember
	}
	return nil
}
