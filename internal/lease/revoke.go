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

// ErrNotAnnounced is returned, wrapped, if the record was changed and the announcement failed.
// Nodes notice the change by themselves, within a period.
var ErrNotAnnounced = errors.New("lease: recorded, but not announced")

// ErrNotRecorded is returned, wrapped, if the announcement was made although the record could not
// be changed. Connections end now, but their clients may reconnect.
var ErrNotRecorded = errors.New("lease: announced, but not recorded")

// announceTimeout bounds an announcement.
const announceTimeout = 2 * time.Second

// Announcer sends announcements to all nodes.
type Announcer struct {
	client  redis.Cmdable
	channel string
}

// NewAnnouncer returns an Announcer. The client must have ContextTimeoutEnabled. The caller closes
// it.
func NewAnnouncer(client redis.Cmdable, keys keyspace.Keyspace) *Announcer {
	return &Announcer{client: client, channel: keys.Control()}
}

// Announce publishes a message on the control channel. Change the record first: a client that
// reconnects at once must meet the new one.
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

// Members records memberships and organizations. Package directory implements it.
type Members interface {
	PutOrganization(ctx context.Context, org orgctx.ID, status directory.Status) error
	RemoveMember(ctx context.Context, org orgctx.ID, userID string) error
}

// Revoker revokes the right to be connected. It changes the record, so that clients cannot
// reconnect, and announces the change, so that connections end.
type Revoker struct {
	// Announcer and Revocations are required.
	Announcer   *Announcer
	Revocations *session.Revocations
	// Members is nil if the sessions are the record of memberships and organizations. The
	// application owns that record and has to change it.
	Members Members
	// SessionLife is the longest life of a session.
	SessionLife time.Duration
}

// Revoke ends a session, a user, a membership or an organization, or announces that a session has
// switched or a role has changed. recorded is false if the record belongs to the application, and
// if it could not be changed.
//
// If the record cannot be changed, for example because Redis is full, the announcement is made
// anyway. [ErrNotRecorded] then says that the connections have ended, and that Revoke must be
// repeated until it succeeds. Any error except that and [ErrNotAnnounced] means that nothing
// happened.
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
	default: // for a switch or a role, the application has changed the record
		recorded, err = false, m.check()
	}
	notRecorded := errors.Is(err, session.ErrUnavailable) || errors.Is(err, directory.ErrUnavailable)
	if err != nil && !notRecorded {
		return false, err // an invalid name, which cannot be announced either
	}
	// The record may have used up the caller's time, but the announcement still matters, and it has
	// its own timeout.
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
