// Package keyspace makes every name that Orgcast uses in Redis, and nothing else does. A name that
// belongs to an organisation is made from an [orgctx.ID] or an [event.Group], never from text, so
// no name reaches another organisation. The organisation stands in braces: Redis Cluster keeps
// all names of one organisation in one slot.
package keyspace

import (
	"errors"
	"strings"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// DefaultPrefix starts every name unless the operator chose another prefix.
const DefaultPrefix = "orgcast"

// ErrInvalidPrefix is returned for a prefix that would make names ambiguous.
var ErrInvalidPrefix = errors.New("keyspace: prefix is not 1 to 64 characters of A-Z a-z 0-9 _ -")

// Keyspace makes names with one prefix. The zero Keyspace is not usable; call [New].
type Keyspace struct {
	prefix string // with the colon
}

// New returns the Keyspace of a prefix, which has the form of an identifier.
func New(prefix string) (Keyspace, error) {
	if !orgctx.ValidID(prefix) {
		return Keyspace{}, ErrInvalidPrefix
	}
	return Keyspace{prefix: prefix + ":"}, nil
}

const groupInfix = "}:group:"

// GroupChannel returns the pub/sub channel of a group: prefix:{ORG}:group:NAME.
func (k Keyspace) GroupChannel(g event.Group) string {
	return k.prefix + "{" + g.Organization().String() + groupInfix + g.Name()
}

// ParseGroupChannel returns the group whose channel this is. ok is false for any other name.
func (k Keyspace) ParseGroupChannel(channel string) (g event.Group, ok bool) {
	rest, ok := strings.CutPrefix(channel, k.prefix+"{")
	if !ok {
		return event.Group{}, false
	}
	orgText, name, ok := strings.Cut(rest, groupInfix)
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

// Organization returns the hash that says whether an organisation is active.
func (k Keyspace) Organization(org orgctx.ID) string { return k.prefix + "{" + org.String() + "}:org" }

// Member returns the hash of one user's membership of an organisation. user must satisfy
// [orgctx.ValidID].
func (k Keyspace) Member(org orgctx.ID, user string) string {
	return k.prefix + "{" + org.String() + "}:member:" + user
}

// Session returns the key of a server-side session.
func (k Keyspace) Session(key string) string { return k.prefix + "session:" + key }

// Canary returns the channel on which a node sends messages to itself to see that they arrive.
func (k Keyspace) Canary(node string) string { return k.prefix + "canary:" + node }
