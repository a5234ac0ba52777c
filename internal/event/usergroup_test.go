package event_test

import (
	"strings"
	"testing"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Back ends in other languages compute these names too, so they must not change.
func TestUserGroupName(t *testing.T) {
	for user, want := range map[string]string{
		"ada":                   "user.ada",
		"42":                    "user.42",
		strings.Repeat("a", 64): "user." + strings.Repeat("a", 64),
		strings.Repeat("a", 65): "user..Y1NhxIu56rFBmOduqKt_GkFoXWrWKqkUbTAdTxfrCuA",
		"":                      "user..47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
		"auth0|123":             "user..QENEXq3u6ypdiFrzwTP2DvV1I6H_h7og7cxbbeOS62w",
		"ada.inbox":             "user..WdEKm10ZDdmtgGyiIDQkfxZfCxdI9rIfBTOindRa5K4",
	} {
		if got := event.UserGroupName(user); got != want {
			t.Errorf("UserGroupName(%q): got %q, want %q", user, got, want)
		}
	}
}

// TestNoUserOpensAnothersGroup: whatever the ids look like, a group of one user is never a group of
// another.
func TestNoUserOpensAnothersGroup(t *testing.T) {
	users := []string{
		"ada", "ada.inbox", "Ada", "a", "a|b", "a%7Cb", "a%7cb", "ü", "u\u0308", "..", ".", "...", "user.ada", "..47DE",
		".47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
		strings.Repeat("a", 64), strings.Repeat("a", 65), strings.Repeat("a", 128),
	}
	for _, owner := range users {
		for _, below := range []string{"", ".inbox", ".", "..", ".a.b"} {
			name := event.UserGroupName(owner) + below
			if !event.ValidGroupName(name) {
				t.Errorf("%q of %q is not a group name", name, owner)
			}
			for _, user := range users {
				if got, want := event.IsUserGroupName(name, user), user == owner; got != want {
					t.Errorf("IsUserGroupName(%q, %q): got %v, want %v: it is of %q", name, user, got, want, owner)
				}
			}
		}
	}
}

func FuzzUserGroupName(f *testing.F) {
	f.Add("ada", "ada.inbox", ".inbox")
	f.Add("ada", "Ada", "")
	f.Add("a|b", "a%7Cb", "")
	f.Add("ü", "u\u0308", ".x")
	f.Add("..", ".", "..")
	f.Add("", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", ".")
	f.Fuzz(func(t *testing.T, a, b, below string) {
		name := event.UserGroupName(a)
		if !event.ValidGroupName(name) || len(name) > len("user.")+orgctx.MaxIDLength {
			t.Errorf("UserGroupName(%q): got %q", a, name)
		}
		if !event.IsUserGroupName(name, a) || !event.IsUserGroupName(name+"."+below, a) {
			t.Errorf("%q is not of %q", name, a)
		}
		if a != b && (event.IsUserGroupName(name, b) || event.IsUserGroupName(name+"."+below, b)) {
			t.Errorf("%q is of %q, and of %q", name, a, b)
		}
	})
}
