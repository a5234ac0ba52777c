package event

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"orgcast/internal/orgctx"
)

// userGroupPrefix is the prefix of users' groups.
const userGroupPrefix = "user."

// UserGroupName returns the name of a user's own group: "user." and the user id, if the id
// satisfies [orgctx.ValidID]. Any other id could be mistaken for a group of another user, as
// "ada.inbox" in user.ada.inbox. Such an id is replaced by a dot and the SHA-256 of the id in
// base64url without padding, which cannot be an id.
func UserGroupName(user string) string {
	if orgctx.ValidID(user) {
		return userGroupPrefix + user
	}
	sum := sha256.Sum256([]byte(user))
	return userGroupPrefix + "." + base64.RawURLEncoding.EncodeToString(sum[:])
}

// IsUserGroupName reports whether name is the name of the user's own group, or of a group below it:
// that name, a dot and more text.
func IsUserGroupName(name, user string) bool {
	rest, ok := strings.CutPrefix(name, UserGroupName(user))
	return ok && (rest == "" || rest[0] == '.')
}
