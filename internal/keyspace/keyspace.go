// Package keyspace makes every name that Orgcast uses in Redis. No other package does. A name that
// belongs to an organization is made from an [orgctx.ID] or an [event.Group], never from text, so
// it cannot reach another organization. The organization is in braces, so Redis Cluster keeps all
// its names in one slot.
package keyspace

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// DefaultPrefix starts every name unless the operator chose another prefix.
const DefaultPrefix = "orgcast"

// ErrInvalidPrefix is returned for a prefix that would make names ambiguous.
var ErrInvalidPrefix = errors.New("prefix must be 1 to 64 characters of A-Z a-z 0-9 _ -")

// Keyspace makes names with one prefix. The zero Keyspace is not usable; call [New].
type Keyspace struct {
	prefix   string // the prefix of keys, with the colon
	channels string // the prefix of channels, with the colon
}

// New returns the Keyspace of a prefix. The prefix must have the form of an identifier.
func New(prefix string) (Keyspace, error) {
	if !orgctx.ValidID(prefix) {
		return Keyspace{}, ErrInvalidPrefix
	}
	return Keyspace{prefix: prefix + ":", channels: prefix + ":"}, nil
}

// InDatabase returns the Keyspace for a database of Redis. Databases have separate keys, but
// channels are shared by the whole server. So channels of database N begin with prefix@N, and those
// of database 0 with the prefix alone.
func (k Keyspace) InDatabase(n int) Keyspace {
	prefix := strings.TrimSuffix(k.prefix, ":")
	if n > 0 {
		prefix += "@" + strconv.Itoa(n) // a prefix cannot contain this character
	}
	k.channels = prefix + ":"
	return k
}

const groupInfix = "}:group:"

// GroupChannel returns the pub/sub channel of a group: prefix:{ORG}:group:NAME, or
// prefix@N:{ORG}:group:NAME in database N.
func (k Keyspace) GroupChannel(g event.Group) string {
	return k.channels + "{" + g.Organization().String() + groupInfix + g.Name()
}

// ParseGroupChannel returns the group of a channel. ok is false for any other name.
func (k Keyspace) ParseGroupChannel(channel string) (g event.Group, ok bool) {
	return k.parseChannel(channel, groupInfix)
}

// parseChannel returns the group of a channel of a kind.
func (k Keyspace) parseChannel(channel, infix string) (g event.Group, ok bool) {
	rest, ok := strings.CutPrefix(channel, k.channels+"{")
	if !ok {
		return event.Group{}, false
	}
	orgText, name, ok := strings.Cut(rest, infix)
	if !ok {
		return event.Group{}, false
	}
	org, err := orgctx.ParseID(orgText)
	if err != nil {
		return event.Group{}, false
	}
	g, err = event.NewGroup(org, name)
	return g, err == nil
}

const presenceInfix = "}:presence:"

// Presence returns the hash of who is present in a group: prefix:{ORG}:presence:NAME.
func (k Keyspace) Presence(g event.Group) string {
	return k.prefix + "{" + g.Organization().String() + presenceInfix + g.Name()
}

// PresenceChannel returns the channel of what changes there: the name of the hash in database 0, and
// prefix@N:{ORG}:presence:NAME in database N.
func (k Keyspace) PresenceChannel(g event.Group) string {
	return k.channels + "{" + g.Organization().String() + presenceInfix + g.Name()
}

// ParsePresenceChannel returns the group of such a channel. ok is false for any other name.
func (k Keyspace) ParsePresenceChannel(channel string) (g event.Group, ok bool) {
	return k.parseChannel(channel, presenceInfix)
}

// History returns the stream of a group's recorded events: prefix:{ORG}:history:NAME.
func (k Keyspace) History(g event.Group) string {
	return k.prefix + "{" + g.Organization().String() + "}:history:" + g.Name()
}

// Epoch returns the string key that identifies one life of an organization's data. The key is
// missing after Redis has lost the data.
func (k Keyspace) Epoch(org orgctx.ID) string { return k.prefix + "{" + org.String() + "}:epoch" }

// Once returns the key that remembers the event recorded for the group under an idempotency key:
// prefix:{ORG}:once:NAME:KEY. key must satisfy [event.ValidIdempotencyKey]; a group name has no
// colon, so no two groups share a name here.
func (k Keyspace) Once(g event.Group, key string) string {
	return k.prefix + "{" + g.Organization().String() + "}:once:" + g.Name() + ":" + key
}

// Organization returns the hash that says whether an organization is active.
func (k Keyspace) Organization(org orgctx.ID) string { return k.prefix + "{" + tenant(org) + "}:org" }

// Connections returns the hash with the number of connections of the organization on each node. The
// zero ID stands for all users without an organization, who count as one.
func (k Keyspace) Connections(org orgctx.ID) string {
	return k.prefix + "{" + tenant(org) + "}:connections"
}

// MemberBytes returns the key with the recently written bytes of an organization's members.
func (k Keyspace) MemberBytes(org orgctx.ID) string { return k.prefix + "{" + tenant(org) + "}:bytes" }

// MemberBytesOf returns the key with the recently written bytes of one member.
func (k Keyspace) MemberBytesOf(org orgctx.ID, user string) string {
	return k.MemberBytes(org) + ":" + escapeUser(user)
}

// nobody replaces a missing organization in names. An ID has no dot.
const nobody = ".none"

// tenant returns the text in braces for an organization, or for users without one.
func tenant(org orgctx.ID) string {
	if org.IsZero() {
		return nobody
	}
	return org.String()
}

// Member returns the hash of one user's membership of an organization.
func (k Keyspace) Member(org orgctx.ID, user string) string {
	return k.prefix + "{" + org.String() + "}:member:" + escapeUser(user)
}

// Object returns the key of an object that belongs to an organization. kind and id must satisfy
// [orgctx.ValidID].
func (k Keyspace) Object(org orgctx.ID, kind, id string) string {
	return k.prefix + "{" + org.String() + "}:object:" + kind + ":" + id
}

// Session returns the key of a server-side session.
func (k Keyspace) Session(key string) string { return k.prefix + "session:" + key }

// SessionEnded returns the key that says that the session with this ID was ended. id must satisfy
// [orgctx.ValidID]. Unlike the key of a session, it is not a secret.
func (k Keyspace) SessionEnded(id string) string { return k.prefix + "session-ended:" + id }

// UserDisabled returns the key that says that a user may not connect.
func (k Keyspace) UserDisabled(user string) string {
	return k.prefix + "user-disabled:" + escapeUser(user)
}

// Control returns the channel on which nodes hear of ended sessions, users, memberships and
// organizations.
func (k Keyspace) Control() string { return k.channels + "control" }

// Canary returns the channel on which a node sends messages to itself to check that they arrive.
func (k Keyspace) Canary(node string) string { return k.channels + "canary:" + node }

// CanaryIn returns a canary channel for a node of a Redis Cluster, in the slot of a tag. The tag
// must satisfy [orgctx.ValidID].
func (k Keyspace) CanaryIn(tag, node string) string {
	return k.channels + "canary:{" + tag + "}:" + node
}

// Nodes returns the sorted set of the gateways that have registered, by the time of their last
// renewal.
func (k Keyspace) Nodes() string { return k.prefix + "nodes" }

// Node returns the key of one gateway, which expires unless the gateway renews it. id must satisfy
// [orgctx.ValidID]. It is in the slot of [Keyspace.Nodes].
func (k Keyspace) Node(id string) string { return k.prefix + "node:{" + k.Nodes() + "}:" + id }

// Usage returns the hash of what organizations used in an hour: prefix:usage:YYYYMMDDHH, in UTC.
func (k Keyspace) Usage(hour time.Time) string {
	return k.prefix + "usage:" + hour.UTC().Format("2006010215")
}

// Questions returns the channel on which gateways ask each other.
func (k Keyspace) Questions() string { return k.channels + "questions" }

// Answers returns the list of the answers to one question. id must satisfy [orgctx.ValidID].
func (k Keyspace) Answers(id string) string { return k.prefix + "answers:" + id }

// Tasks returns the stream of the tasks of a kind. kind must satisfy [orgctx.ValidID]. All
// organizations share the stream, so each entry names its organization.
func (k Keyspace) Tasks(kind string) string { return k.prefix + "tasks:" + kind }

// DeadTasks returns the stream of the tasks of a kind that will not be tried again.
func (k Keyspace) DeadTasks(kind string) string { return k.Tasks(kind) + ":dead" }

// TaskLine returns the list of an organization's waiting tasks of a kind. Like the other names of a
// kind, it is in the slot of the kind's stream.
func (k Keyspace) TaskLine(org orgctx.ID, kind string) string {
	return k.ofTasks("line", kind) + ":" + org.String()
}

// TaskRing returns the sorted set of the organizations with waiting tasks of a kind, ordered by
// their turns.
func (k Keyspace) TaskRing(kind string) string { return k.ofTasks("ring", kind) }

// TaskLines returns the hash with the sizes and weights of the lines of a kind.
func (k Keyspace) TaskLines(kind string) string { return k.ofTasks("lines", kind) }

// TaskIdle returns the sorted set of the workers that wait for a task of a kind.
func (k Keyspace) TaskIdle(kind string) string { return k.ofTasks("idle", kind) }

// ofTasks returns a name that belongs to the stream of a kind. The stream's name is in braces, so
// Redis Cluster keeps both in one slot.
func (k Keyspace) ofTasks(what, kind string) string {
	return k.prefix + what + ":{" + k.Tasks(kind) + "}"
}

// TaskOnce returns the key that remembers a task that an organization dispatched with an
// idempotency key, which must satisfy [event.ValidGroupName]. The stream's name is in braces, so
// Redis Cluster keeps both in one slot.
func (k Keyspace) TaskOnce(org orgctx.ID, kind, idempotency string) string {
	return k.ofTasks("once", kind) + ":" + org.String() + ":" + idempotency
}

// Request returns the key that remembers a user's request with a request id, which must satisfy
// [orgctx.ValidID]. Like [Keyspace.TaskOnce], it begins with once, as keys of idempotency do.
func (k Keyspace) Request(org orgctx.ID, user, id string) string {
	return k.prefix + "once:{" + org.String() + "}:" + escapeUser(user) + ":" + id
}

// TaskEnd returns the key that remembers how a task ended. kind and id must satisfy
// [orgctx.ValidID].
func (k Keyspace) TaskEnd(org orgctx.ID, kind, id string) string {
	return k.prefix + "{" + org.String() + "}:task:" + kind + ":" + id
}

// Ask returns the hash of one request for a person's input. execution must satisfy
// [orgctx.ValidID].
func (k Keyspace) Ask(org orgctx.ID, execution string, taskIndex int) string {
	return k.prefix + "{" + org.String() + "}:ask:" + execution + ":" + strconv.Itoa(taskIndex)
}

// Stored returns the key of a value that a task or tool keeps. name must satisfy
// [event.ValidGroupName].
func (k Keyspace) Stored(org orgctx.ID, name string) string {
	return k.prefix + "{" + org.String() + "}:store:" + name
}

// WebhookRing returns the sorted set of the organizations with webhooks waiting, by their turns.
// Scripts make the other names of webhooks from it, all in one slot.
func (k Keyspace) WebhookRing() string { return k.webhook() + "ring" }

// WebhookGroups returns the set of the groups that have connections on a node.
func (k Keyspace) WebhookGroups(node string) string { return k.webhook() + "groups:" + node }

// WebhookDead returns the stream of the webhooks of an organization that could not be delivered.
func (k Keyspace) WebhookDead(org orgctx.ID) string { return k.webhook() + "dead:" + org.String() }

// WebhookDeadOrganizations returns the set of the organizations with such a stream.
func (k Keyspace) WebhookDeadOrganizations() string { return k.webhook() + "dead" }

func (k Keyspace) webhook() string { return k.prefix + "webhook:{" + k.prefix + "webhooks}:" }

// WebhookUserLine returns the name of the line in which webhooks about a user's connections wait,
// among the lines of an organization.
func WebhookUserLine(user string) string { return "user:" + escapeUser(user) }

// WebhookGroupLine is [WebhookUserLine] for webhooks about a group.
func WebhookGroupLine(g event.Group) string { return "group:" + g.Name() }
