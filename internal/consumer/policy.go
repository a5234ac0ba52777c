package consumer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// DefaultPolicy decides by a group's first word who may join it.
const DefaultPolicy = "all=member, room.*=member, user.*=self, role.admin=role:admin, *=signed"

// Policy says which groups of its own organization a page may subscribe to. It is safe for
// concurrent use.
type Policy struct{ now atomic.Pointer[rules] }

// rules are what a policy says at one time. They never change.
type rules struct {
	list []rule
	key  []byte // for tokens; if empty, every token is refused
}

type rule struct {
	prefix string // of the group name
	exact  bool
	allows func(p *rules, who session.Identity, g event.Group, token string, now time.Time) bool
}

var errBadPolicy = errors.New("invalid policy")

// ParsePolicy parses a comma-separated list of rules, PATTERN=WHO. The first rule whose pattern
// fits a group decides. If no rule fits, the group cannot be joined. A pattern is a group name, or
// the start of one followed by "*". WHO is "member" (everyone in the organization), "self" (the
// group is the user's own or below it, see [event.IsUserGroupName]), "role:NAME" (members with that
// role, as the directory says) or "signed" (anyone with a token of the back end, see [SignGroup]).
// signingKey is the key of those tokens. It needs at least 32 bytes if a rule says "signed" and
// tokens are to be accepted. It may be empty, and then every token is refused.
func ParsePolicy(text string, signingKey []byte) (*Policy, error) {
	now := &rules{key: signingKey}
	for part := range strings.SplitSeq(text, ",") {
		pattern, who, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return nil, fmt.Errorf("%w: %q must be PATTERN=WHO", errBadPolicy, part)
		}
		prefix, open := strings.CutSuffix(pattern, "*")
		if (prefix != "" || !open) && !event.ValidGroupName(prefix) {
			return nil, fmt.Errorf("%w: %q is not a valid group name", errBadPolicy, pattern)
		}
		r := rule{prefix: prefix, exact: !open}
		role, isRole := strings.CutPrefix(who, "role:")
		switch {
		case who == "member":
			r.allows = anyMember
		case who == "self":
			r.allows = onlySelf
		case who == "signed":
			r.allows = withToken
		case isRole && orgctx.ValidRole(role):
			r.allows = withRole(role)
		default:
			return nil, fmt.Errorf("%w: %q must be member, self, role:NAME or signed", errBadPolicy, who)
		}
		now.list = append(now.list, r)
	}
	p := new(Policy)
	p.now.Store(now)
	return p, nil
}

// Become replaces the rules and the key of tokens with those of another policy. Tokens signed with
// the previous key are no longer valid. Groups that were joined so far stay joined.
func (p *Policy) Become(next *Policy) { p.now.Store(next.now.Load()) }

// Allows reports whether the identity may subscribe to the group. token is the token that the page
// sent, or "". The group must belong to the identity's own organization, whatever the rules.
func (p *Policy) Allows(who session.Identity, g event.Group, token string, at time.Time) bool {
	if who.Organization.IsZero() || g.Organization() != who.Organization {
		return false
	}
	now := p.now.Load()
	for _, r := range now.list {
		name := g.Name()
		if name == r.prefix || !r.exact && strings.HasPrefix(name, r.prefix) {
			return r.allows(now, who, g, token, at)
		}
	}
	return false
}

func anyMember(*rules, session.Identity, event.Group, string, time.Time) bool { return true }

func onlySelf(_ *rules, who session.Identity, g event.Group, _ string, _ time.Time) bool {
	return event.IsUserGroupName(g.Name(), who.UserID)
}

func withRole(role string) func(*rules, session.Identity, event.Group, string, time.Time) bool {
	return func(_ *rules, who session.Identity, _ event.Group, _ string, _ time.Time) bool {
		return who.Role == role
	}
}

// maxTokenExpiry is the latest end of a token, in Unix seconds: the year 5138. A later end was
// probably given in milliseconds by mistake, and would make the token valid for far too long.
const maxTokenExpiry = 99_999_999_999

func withToken(p *rules, _ session.Identity, g event.Group, token string, now time.Time) bool {
	until, mac, ok := strings.Cut(token, ".")
	if !ok || len(p.key) == 0 {
		return false
	}
	expires, err := strconv.ParseInt(until, 10, 64)
	if err != nil || now.Unix() >= expires || expires > maxTokenExpiry {
		return false
	}
	got, err := hex.DecodeString(mac)
	return err == nil && hmac.Equal(got, groupMAC(p.key, g, until))
}

// SignGroup returns the token that lets a page subscribe to the group until expires: decimal Unix
// seconds, a dot, and the hexadecimal HMAC-SHA256, with the key, of
// "orgcast.v1.group\nORGANIZATION\nGROUP\nSECONDS". Back ends in any language can compute it.
func SignGroup(key []byte, g event.Group, expires time.Time) string {
	until := strconv.FormatInt(expires.Unix(), 10)
	return until + "." + hex.EncodeToString(groupMAC(key, g, until))
}

func groupMAC(key []byte, g event.Group, until string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("orgcast.v1.group\n" + g.Organization().String() + "\n" + g.Name() + "\n" + until))
	return h.Sum(nil)
}
