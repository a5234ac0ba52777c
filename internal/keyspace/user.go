package keyspace

import (
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
