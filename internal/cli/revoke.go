package cli

import (
	"context"
	"errors"
	"fmt"

	"orgcast/internal/app"
	"orgcast/internal/config"
	"orgcast/internal/keyspace"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
)

const revokeUsage = `
Revoke the right to be connected, and close open connections on every node within a second:

  gateway revoke session ID                  one session; the user's other devices stay connected
  gateway revoke user USER                   all sessions of a user, in every organization
  gateway revoke member ORGANIZATION USER    the membership of a user in an organization
  gateway revoke organization ORGANIZATION   all members of an organization

The command changes the record in Redis first, so that nobody can reconnect. If Redis refuses writes,
it closes the connections anyway and fails: run it again until it succeeds.

ID is what "gateway session read" and the log show as session. It cannot be used to log in. Put an ID
that begins with "-" after "--".

To undo a revocation, delete the key orgcast:session-ended:ID or orgcast:user-disabled:USER, or set
the status in the directory to active again. In the key, each byte of USER other than A-Z a-z 0-9 _ -
is written as % and two capital hexadecimal digits.

With --directory=session, memberships and organizations are recorded only in the sessions. The command
then only closes connections, and the web application must keep the users from reconnecting.
`

func revokeCommand(ctx context.Context, p *Process, args []string) error {
	s := new(settings)
	set := config.New("revoke", revokeUsage)
	s.declareRedis(set)
	s.declareState(set)
	s.declareStores(set)
	s.declareDirectory(set)
	s.declareSessionLife(set)
	var m lease.Message
	read := func(args []string) (err error) { m, err = revocation(args); return err }
	return redisCommand{s, set, read, func(clients *app.Clients, keys keyspace.Keyspace) error {
		revoker, err := app.NewRevoker(&s.Options, clients, keys)
		if err != nil {
			return err
		}
		recorded, err := revoker.Revoke(ctx, m)
		if errors.Is(err, lease.ErrNotRecorded) {
			return fmt.Errorf("revoke: announced but not recorded, so connections are closed but can reconnect: run it again when Redis accepts writes: %w", err)
		}
		if errors.Is(err, lease.ErrNotAnnounced) {
			return fmt.Errorf("revoke: recorded but not announced, so open connections close within --lease-period: %w", err)
		}
		if err != nil {
			return fmt.Errorf("revoke: neither recorded nor announced: %w", err)
		}
		result := "revoked and announced"
		if !recorded {
			result = "announced only: with --directory=session, the web application keeps the record"
		}
		_, err = fmt.Fprintln(p.Stdout, result)
		return err
	}}.run(p, args)
}

// revocation parses the arguments that say what to revoke.
func revocation(args []string) (m lease.Message, err error) {
	kind, user, organization := "", "", ""
	if len(args) > 0 {
		kind, args = args[0], args[1:]
	}
	switch {
	case kind == "session" && len(args) == 1:
		m.Type, m.SessionID = lease.SessionEnded, args[0]
		if !orgctx.ValidID(m.SessionID) {
			return m, fmt.Errorf("session %q: %w", m.SessionID, orgctx.ErrInvalidID)
		}
		return m, nil
	case kind == "user" && len(args) == 1:
		m.Type, user = lease.UserDisabled, args[0]
	case kind == "member" && len(args) == 2:
		m.Type, organization, user = lease.MemberRemoved, args[0], args[1]
	case kind == "organization" && len(args) == 1:
		m.Type, organization = lease.OrganizationSuspended, args[0]
	default:
		return m, ErrUsage
	}
	if organization != "" || m.Type != lease.UserDisabled {
		if m.Organization, err = parseOrganization(organization); err != nil {
			return m, err
		}
	}
	if m.UserID = user; m.Type != lease.OrganizationSuspended && !orgctx.ValidUserID(user) {
		return m, fmt.Errorf("user %q: %w", user, orgctx.ErrInvalidUserID)
	}
	return m, nil
}
