package keyspace

import (
	"net/url"
	"strings"

	"orgcast/internal/orgctx"
)

// escapeUser returns a user id as it is written in names: each byte other than A-Z a-z 0-9 _ -
// becomes % and two capital hexadecimal digits. So an id contains no separator of names, and no two
// ids are written alike. An id that satisfies [orgctx.ValidID] is written unchanged.
func escapeUser(user string) string {
	if orgctx.ValidID(user) {
		return user
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	b.Grow(3 * len(user))
	for i := range len(user) {
		if c := user[i]; orgctx.ValidID(user[i : i+1]) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&0xf]})
		}
	}
	return b.String()
}

// PresenceField returns the field of a user of a node in the hash [Keyspace.Presence]: NODE:USER,
// with the id spelled as in names. The field of no user, NODE:, is about the node itself. node must
// satisfy [orgctx.ValidID].
func PresenceField(node, user string) string { return node + ":" + escapeUser(user) }

// ParsePresenceField returns what a field is about. ok is false for any other field.
func ParsePresenceField(field string) (node, user string, ok bool) {
	node, escaped, ok := strings.Cut(field, ":")
	if !ok || !orgctx.ValidID(node) {
		return "", "", false
	}
	user, err := url.PathUnescape(escaped)
	if err != nil || user != "" && !orgctx.ValidUserID(user) || escapeUser(user) != escaped {
		return "", "", false
	}
	return node, user, true
}
