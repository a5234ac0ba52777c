package keyspace_test

import (
	"net/url"
	"strings"
	"testing"

	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

// FuzzUserInNames: a user id in a name can be decoded, contains no separator, and differs from
// every other user's.
func FuzzUserInNames(f *testing.F) {
	for _, seed := range [][2]string{
		{"ada", "ada.inbox"},
		{"a|b", "a%7Cb"},
		{"a%7Cb", "a%7cb"},
		{"ü", "u\u0308"},
		{"..", "%2E%2E"},
		{"", "%"},
		{"\xff", "\x00"},
		{"}:member:a", "{b}"},
		{strings.Repeat("ü", 64), strings.Repeat("a", 128)},
	} {
		f.Add(seed[0], seed[1])
	}
	keys := testkit.Keys(f)
	org := testkit.Org(f, "acme")
	f.Fuzz(func(t *testing.T, user, other string) {
		for begin, nameOf := range map[string]func(user string) string{
			"orgcast:{acme}:member:": func(user string) string { return keys.Member(org, user) },
			"orgcast:{acme}:bytes:":  func(user string) string { return keys.MemberBytesOf(org, user) },
			"orgcast:user-disabled:": keys.UserDisabled,
		} {
			name := nameOf(user)
			written, ok := strings.CutPrefix(name, begin)
			read, err := url.PathUnescape(written)
			if !ok || err != nil || read != user || strings.ContainsAny(written, ":{}*?[]\\ ") {
				t.Errorf("%q is written %q, which reads %q, %v", user, name, read, err)
			}
			if orgctx.ValidID(user) && written != user {
				t.Errorf("%q is written %q: identifiers stay as they are", user, written)
			}
			if user != other && name == nameOf(other) {
				t.Errorf("%q and %q are both written %q", user, other, name)
			}
		}
	})
}
