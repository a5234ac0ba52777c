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

// Policy says which groups of its own organization a page may subscribe to. Its rules never change.
// It is safe for concurrent use.
type Policy struct {
	rules []rule
	key   atomic.Pointer[[]byte] // for tokens; if empty, every token is refused
}

type rule struct {
	prefix string // of the group name
	exact  bool
	allows func(p *Policy, who session.Identity, g event.Group, token string, now time.Time) bool
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
	p := new(Policy)
	p.SetSigningKey(signingKey)
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
		p.rules = append(p.rules, r)
	}
	return p, nil
}

// SetSigningKey replaces the key of tokens. Tokens signed with the previous key are no longer
// valid. Groups that were joined with them stay joined.
func (p *Policy) SetSigningKey(key []byte) { p.key.Store(&key) }

// Allows reports whether the identity may subscribe to the group. token is the token that the page
// sent, or "". The group must belong to the identity's own organization, whatever the rules.
func (p *Policy) Allows(who session.Identity, g event.Group, token string, now time.Time) bool {
	if who.Organization.IsZero() || g.Organization() != who.Organization {
		return false
	}
	for _, r := range p.rules {
		name := g.Name()
		if name == r.prefix || !r.exact && strings.HasPrefix(name, r.prefix) {
			return r.allows(p, who, g, token, now)
		}
	}
	return false
}

func anyMember(*Policy, session.Identity, event.Group, string, time.Time) bool { return true }

func onlySelf(_ *Policy, who session.Identity, g event.Group, _ string, _ time.Time) bool {
	return event.IsUserGroupName(g.Name(), who.UserID)
}

func withRole(role string) func(*Policy, session.Identity, event.Group, string, time.Time) bool {
	return func(_ *Policy, who session.Identity, _ event.Group, _ string, _ time.Time) bool {
		return who.Role == role
	}
}

// maxTokenExpiry is the latest end of a token, in Unix seconds: the year 5138. A later end was
// probably given in milliseconds by mistake, and would make the token valid for far too long.
const maxTokenExpiry = 99_999_999_999

func withToken(p *Policy, _ session.Identity, g event.Group, token string, now time.Time) bool {
	until, mac, ok := strings.Cut(token, ".")
	key := *p.key.Load()
	if !ok || len(key) == 0 {
		return false
	}
	expires, err := strconv.ParseInt(until, 10, 64)
	if err != nil || now.Unix() >= expires || expires > maxTokenExpiry {
		return false
	}
	got, err := hex.DecodeString(mac)
	return err == nil && hmac.Equal(got, groupMAC(key, g, until))
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
