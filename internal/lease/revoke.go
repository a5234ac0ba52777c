package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// ErrNotAnnounced is returned, wrapped, where the record was changed and the announcement failed:
// nodes notice by themselves, within a period.
var ErrNotAnnounced = errors.New("lease: recorded, but not announced")

// ErrNotRecorded is returned, wrapped, where the announcement was made although the record could
// not be changed: connections end now, but their clients may come back.
var ErrNotRecorded = errors.New("lease: announced, but not recorded")

// announceTimeout bounds an announcement.
const announceTimeout = 2 * time.Second

// Announcer tells all nodes.
type Announcer struct {
	client  redis.UniversalClient
	channel string
}

// NewAnnouncer returns an Announcer. The client must have ContextTimeoutEnabled; the caller closes
// it.
func NewAnnouncer(client redis.UniversalClient, keys keyspace.Keyspace) *Announcer {
	return &Announcer{client: client, channel: keys.Control()}
}

// Announce publishes a message on the control channel. Change the record first: a client that
// comes back at once must meet the new one.
func (a *Announcer) Announce(ctx context.Context, m Message) error {
	payload, err := m.MarshalJSON()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, announceTimeout)
	defer cancel()
	if err := a.client.Publish(ctx, a.channel, payload).Err(); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}

// Members is where memberships and organizations are recorded. Package directory implements it.
type Members interface {
	PutOrganization(ctx context.Context, org orgctx.ID, status directory.Status) error
	RemoveMember(ctx context.Context, org orgctx.ID, userID string) error
}

// Revoker ends the right to be connected: it changes the record, so that nobody comes back, and
// announces it, so that nobody stays.
type Revoker struct {
	// Announcer and Revocations must be given.
	Announcer   *Announcer
	Revocations *session.Revocations
	// Members is nil if the sessions are the record of memberships and organizations: those of the
	// application, which has to change them.
	Members Members
	// SessionLife is the longest life of a session.
	SessionLife time.Duration
}

// Revoke ends a session, a user, a membership or an organization, or announces that a session has
// switched or a role has changed. recorded is false where the record is not ours to change, and
// where it could not be changed.
//
// A record that cannot be changed, because Redis is full, say, does not keep the announcement back:
// [ErrNotRecorded] says that what was to end has ended, and that Revoke has to be repeated until it
// succeeds. Any error but that and [ErrNotAnnounced] means that nothing has happened.
func (r *Revoker) Revoke(ctx context.Context, m Message) (recorded bool, err error) {
	recorded = true
	switch m.Type {
	case SessionEnded:
		err = r.Revocations.EndSession(ctx, m.SessionID, r.SessionLife)
	case UserDisabled:
		err = r.Revocations.DisableUser(ctx, m.UserID)
	case MemberRemoved, OrganizationSuspended:
		switch {
		case r.Members == nil:
			recorded = false
		case m.Type == MemberRemoved:
			err = r.Members.RemoveMember(ctx, m.Organization, m.UserID)
		default:
			err = r.Members.PutOrganization(ctx, m.Organization, directory.Suspended)
		}
	default: // a switch or a role: the application has recorded it
		recorded, err = false, m.check()
	}
	notRecorded := errors.Is(err, session.ErrUnavailable) || errors.Is(err, directory.ErrUnavailable)
	if err != nil && !notRecorded {
		return false, err // about names that cannot be announced either
	}
	// A caller whose patience the record has used up still wants the announcement, which is
	// bounded.
	announced := r.Announcer.Announce(context.WithoutCancel(ctx), m)
	switch {
	case notRecorded && announced != nil:
		return false, errors.Join(err, announced)
	case notRecorded:
		return false, fmt.Errorf("%w: %w", ErrNotRecorded, err)
	case announced != nil:
		return recorded, fmt.Errorf("%w: %w", ErrNotAnnounced, announced)
	}
	return recorded, nil
}
