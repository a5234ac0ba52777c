package orgctx_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"orgcast/internal/orgctx"
)

func TestValidUserID(t *testing.T) {
	tests := map[string]struct {
		text string
		ok   bool
	}{
		"identifier":              {"ada", true},
		"number":                  {"42", true},
		"of an identity provider": {"auth0|123", true},
		"e-mail address":          {"ada+test@example.com", true},
		"URL":                     {"https://id.example.com/u/7?x=%20", true},
		"dots alone":              {"..", true},
		"umlaut":                  {"ü", true},
		"umlaut, two characters":  {"u\u0308", true},
		"Han":                     {"李", true},
		"emoji":                   {"🚀", true},
		"quotes and braces":       {`"'{}<>\`, true},
		"longest":                 {strings.Repeat("a", orgctx.MaxUserIDLength), true},
		"longest, in umlauts":     {strings.Repeat("ü", orgctx.MaxUserIDLength/2), true},
		"empty":                   {"", false},
		"too long":                {strings.Repeat("a", orgctx.MaxUserIDLength+1), false},
		"too long, in umlauts":    {strings.Repeat("ü", orgctx.MaxUserIDLength/2) + "a", false},
		"space":                   {"a b", false},
		"no-break space":          {"a\u00a0b", false},
		"wide space":              {"a\u3000b", false},
		"NUL":                     {"a\x00", false},
		"line end":                {"a\n", false},
		"escape":                  {"\x1b[2J", false},
		"DEL":                     {"a\x7f", false},
		"next line":               {"a\u0085b", false},
		"line separator":          {"a\u2028b", false},
		"right-to-left override":  {"a\u202eb", false},
		"right-to-left isolate":   {"a\u2067b", false},
		"zero-width space":        {"a\u200bb", false},
		"zero-width joiner":       {"a\u200db", false},
		"byte order mark":         {"\ufeffa", false},
		"soft hyphen":             {"a\u00adb", false},
		"tag":                     {"a\U000e0041", false},
		"variation selector":      {"a\ufe0f", false},
		"more of them":            {"a\U000e0100", false},
		"grapheme joiner":         {"a\u034f", false},
		"Hangul filler":           {"\u3164", false},
		"private use":             {"\ue000", false},
		"unassigned":              {"\u0378", false},
		"noncharacter":            {"\uffff", false},
		"replacement character":   {"a\ufffd", false},
		"not UTF-8":               {"a\xff", false},
		"half a surrogate pair":   {"\xed\xa0\x80", false},
		"cut in a character":      {"ü"[:1], false},
		"overlong":                {"\xc0\xaf", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := orgctx.ValidUserID(test.text); got != test.ok {
				t.Errorf("ValidUserID(%q): got %v, want %v", test.text, got, test.ok)
			}
		})
	}
}

// TestUserIDsAreVisible: no character of an id is a control, a format character or a space of any
// kind.
func TestUserIDsAreVisible(t *testing.T) {
	for c := rune(0); c <= unicode.MaxRune; c++ {
		text := string(c)
		if unicode.In(c, unicode.C, unicode.Z, unicode.White_Space, unicode.Bidi_Control, unicode.Join_Control, unicode.Variation_Selector) && orgctx.ValidUserID(text) {
			t.Errorf("ValidUserID(%q): got true, want false", text)
		}
		if orgctx.ValidID(text) && !orgctx.ValidUserID(text) {
			t.Errorf("ValidUserID(%q): got false, want true, as for identifiers", text)
		}
	}
}

func FuzzValidUserID(f *testing.F) {
	for _, seed := range []string{"", "ada", "ada.inbox", "a|b", "a%7Cb", "ü", "u\u0308", "..", "a b", "a\n", "\xff", "\ufffd", "a\u202eb", "\u3164", strings.Repeat("a", 129)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if orgctx.ValidID(text) && !orgctx.ValidUserID(text) {
			t.Errorf("ValidUserID(%q): got false of an identifier", text)
		}
		if !orgctx.ValidUserID(text) {
			return
		}
		if text == "" || len(text) > orgctx.MaxUserIDLength || !utf8.ValidString(text) || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsGraphic(c) || unicode.IsSpace(c) }) {
			t.Errorf("ValidUserID(%q): got true", text)
		}
	})
}

func FuzzValidRole(f *testing.F) {
	for _, seed := range []string{"", "admin", "billing:read", "org.admin", "a b", "a,b", "a=b", "*", "é", "a\n", strings.Repeat("a", 64), strings.Repeat("a", 65)} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`\A[A-Za-z0-9_.:-]{1,64}\z`)
	f.Fuzz(func(t *testing.T, text string) {
		if got, want := orgctx.ValidRole(text), form.MatchString(text); got != want {
			t.Errorf("ValidRole(%q): got %v, want %v", text, got, want)
		}
	})
}
