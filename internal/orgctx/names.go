package orgctx

import (
	"errors"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxUserIDLength is the longest user id, in bytes.
	MaxUserIDLength = 128
	// MaxRoleLength is the longest role, in bytes.
	MaxRoleLength = 64
)

var (
	// ErrInvalidUserID is returned for text that cannot identify a user.
	ErrInvalidUserID = errors.New("user id must be 1 to 128 bytes of printable UTF-8 without spaces")
	// ErrInvalidRole is returned for text that cannot name a role.
	ErrInvalidRole = errors.New("role must be 1 to 64 characters of A-Z a-z 0-9 _ . : -")
)

// ValidUserID reports whether text can identify a user: 1 to [MaxUserIDLength] bytes of UTF-8 in
// which each character is visible. Ids are compared byte by byte, so ids that differ in case or in
// Unicode normalization are different users.
//
// Visible means letters, marks, numbers, punctuation and symbols ([unicode.IsPrint]), without
//   - spaces of any kind, controls, line ends, format characters such as bidi controls and
//     zero-width joiners, private and unassigned characters,
//   - marks and letters that draw nothing, such as variation selectors and Hangul fillers: Unicode
//     calls them default ignorable,
//   - U+FFFD, which decoders put where they could not read a character: two unreadable ids would be
//     one user.
//
// So an id cannot break or reorder a line of a log. It can still resemble another one, as "а" in
// Cyrillic does "a". A newer Unicode version may make more characters visible, never fewer.
func ValidUserID(text string) bool {
	if text == "" || len(text) > MaxUserIDLength {
		return false
	}
	for _, c := range text {
		if !visible(c) {
			return false
		}
	}
	return true
}

func visible(c rune) bool {
	switch {
	case c < utf8.RuneSelf:
		return '!' <= c && c <= '~'
	case c == utf8.RuneError: // also what range yields for bytes that are not UTF-8
		return false
	default:
		return unicode.IsPrint(c) && !unicode.In(c, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
	}
}

// ValidRole reports whether text can name a role: 1 to [MaxRoleLength] ASCII letters, digits,
// underscores, dots, colons and hyphens.
func ValidRole(text string) bool {
	if text == "" || len(text) > MaxRoleLength {
		return false
	}
	for i := range len(text) {
		if c := text[i]; !isIDByte(c) && c != '.' && c != ':' {
			return false
		}
	}
	return true
}

// isIDByte reports whether an identifier may contain the byte.
func isIDByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}
