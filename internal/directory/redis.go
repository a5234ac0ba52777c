package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/gather"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisclient"
	"orgcast/internal/redisreply"
)

// timeout bounds each question. A healthy Redis takes far less, and a browser waits much longer for
// a handshake.
const timeout = 2 * time.Second

// Fields of the hashes.
const (
	fieldStatus = "status"
	fieldRole   = "role"
)

// Status is the status of an organization or a membership.
type Status string

// The two statuses that this package writes. When reading, any status other than Active means no.
const (
	Active    Status = "active"
	Suspended Status = "suspended"
)

// Redis is a directory in two kinds of Redis hash (see package keyspace). An organization has the
// field status, and a membership has status and role. All hashes of an organization are in one slot
// of a Cluster.
type Redis struct {
	client redis.Cmdable
	keys   keyspace.Keyspace
	// together asks for handshakes. It is nil in a Cluster, where the answers of an unreachable
	// server would keep the others waiting.
	together *gather.Gatherer[Membership, Admission]
}

const (
	// maxTogether is how many handshakes share a question to Redis, and patience how long one waits
	// for the answers to earlier ones.
	maxTogether = 128
	patience    = 50 * time.Millisecond
)

var (
	_ Directory        = (*Redis)(nil)
	_ orgctx.Directory = (*Redis)(nil)
)

// NewRedis returns a directory. It refuses a client that ignores deadlines. The caller closes the
// client.
func NewRedis(client redis.Cmdable, keys keyspace.Keyspace) (*Redis, error) {
	if err := redisclient.CheckDeadlines(client); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	d := &Redis{client: client, keys: keys}
	if _, single := client.(*redis.Client); single {
		d.together = gather.New(gather.Options[Membership, Admission]{Call: d.admitAll, Most: maxTogether, Patience: patience})
	}
	return d, nil
}

// OrganizationActive implements [Directory].
func (d *Redis) OrganizationActive(ctx context.Context, org orgctx.ID) error {
	if org.IsZero() {
		return ErrOrganizationUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	fields, err := d.client.HMGet(ctx, d.keys.Organization(org), fieldStatus).Result()
	if err != nil {
		return unavailable(err)
	}
	return organizationActive(fields)
}

// Member implements [Directory].
func (d *Redis) Member(ctx context.Context, org orgctx.ID, userID string) (Member, error) {
	if err := checkNames(org, userID); err != nil {
		return Member{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	fields, err := d.client.HMGet(ctx, d.keys.Member(org, userID), fieldStatus, fieldRole).Result()
	if err != nil {
		return Member{}, unavailable(err)
	}
	return member(fields)
}

// Admit implements [Directory], in one round trip, which handshakes that come at the same time share.
func (d *Redis) Admit(ctx context.Context, org orgctx.ID, userID string) (Member, error) {
	if err := checkNames(org, userID); err != nil {
		return Member{}, err
	}
	m := Membership{Organization: org, UserID: userID}
	if d.together == nil {
		a := d.admitAll(ctx, []Membership{m})[0]
		return a.Member, a.Err
	}
	a, err := d.together.Ask(ctx, m)
	if err != nil { // nobody has answered
		return Member{}, unavailable(err)
	}
	return a.Member, a.Err
}

// admitAll answers for valid memberships as Admit does. Both answers of Redis are required.
func (d *Redis) admitAll(ctx context.Context, list []Membership) []Admission {
	return d.ask(ctx, list, func(org, user *redis.SliceCmd) (a Admission) {
		if err := errors.Join(org.Err(), user.Err()); err != nil {
			return Admission{Err: unavailable(err)}
		}
		return admission(org, user)
	})
}

// AdmitAll implements [Directory], in one round trip. It asks for each organization and each
// membership once.
func (d *Redis) AdmitAll(ctx context.Context, list []Membership) []Admission {
	return d.ask(ctx, list, admission)
}

// ask asks Redis for organizations and memberships, and has the answers judged.
func (d *Redis) ask(ctx context.Context, list []Membership, judge func(org, user *redis.SliceCmd) Admission) []Admission {
	out := make([]Admission, len(list))
	orgs := make(map[orgctx.ID]*redis.SliceCmd)
	members := make(map[Membership]*redis.SliceCmd, len(list))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pipe := d.client.Pipeline()
	for i, m := range list {
		if out[i].Err = checkNames(m.Organization, m.UserID); out[i].Err != nil {
			continue
		}
		if orgs[m.Organization] == nil {
			orgs[m.Organization] = pipe.HMGet(ctx, d.keys.Organization(m.Organization), fieldStatus)
		}
		if members[m] == nil {
			members[m] = pipe.HMGet(ctx, d.keys.Member(m.Organization, m.UserID), fieldStatus, fieldRole)
		}
	}
	_ = redisreply.Exec(ctx, pipe) // each command has its own error
	for i, m := range list {
		if out[i].Err == nil {
			out[i] = judge(orgs[m.Organization], members[m])
		}
	}
	return out
}

// admission evaluates the answers of Redis. A no counts even if the other question was not
// answered.
func admission(org, user *redis.SliceCmd) (a Admission) {
	if org.Err() == nil {
		a.Err = organizationActive(org.Val())
	}
	if a.Err == nil && user.Err() == nil {
		a.Member, a.Err = member(user.Val())
	}
	if err := errors.Join(org.Err(), user.Err()); a.Err == nil && err != nil {
		return Admission{Err: unavailable(err)}
	}
	return a
}

// PutOrganization writes an organization.
func (d *Redis) PutOrganization(ctx context.Context, org orgctx.ID, status Status) error {
	if org.IsZero() {
		return orgctx.ErrNoOrganization
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := d.client.HSet(ctx, d.keys.Organization(org), fieldStatus, string(status)).Err(); err != nil {
		return unavailable(err)
	}
	return nil
}

// PutMember writes a membership, and replaces a previous one.
func (d *Redis) PutMember(ctx context.Context, org orgctx.ID, userID string, status Status, m Member) error {
	if err := checkNames(org, userID); err != nil {
		return err
	}
	if m.Role != "" && !orgctx.ValidRole(m.Role) {
		return fmt.Errorf("directory: %w", orgctx.ErrInvalidRole)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	key := d.keys.Member(org, userID)
	pipe := d.client.TxPipeline()
	pipe.Del(ctx, key)
	pipe.HSet(ctx, key, fieldStatus, string(status), fieldRole, m.Role)
	if err := redisreply.Exec(ctx, pipe); err != nil {
		return unavailable(err)
	}
	return nil
}

// RemoveMember ends a membership. Removing someone who is not a member is not an error.
func (d *Redis) RemoveMember(ctx context.Context, org orgctx.ID, userID string) error {
	if err := checkNames(org, userID); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := d.client.Del(ctx, d.keys.Member(org, userID)).Err(); err != nil {
		return unavailable(err)
	}
	return nil
}

// organizationActive checks the status field of an organization's hash.
func organizationActive(fields []any) error {
	status, ok := fields[0].(string)
	switch {
	case !ok:
		return ErrOrganizationUnknown
	case status != string(Active):
		return ErrOrganizationSuspended
	}
	return nil
}

// member checks the status and role fields of a member's hash. An invalid role could match a rule
// by accident, so it means that the user is not a member.
func member(fields []any) (Member, error) {
	if status, _ := fields[0].(string); status != string(Active) {
		return Member{}, ErrNotMember
	}
	role, _ := fields[1].(string)
	if role != "" && !orgctx.ValidRole(role) {
		return Member{}, ErrNotMember
	}
	return Member{Role: role}, nil
}

// unavailable wraps an error of Redis or the network.
func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
