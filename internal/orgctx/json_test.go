package orgctx_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"orgcast/internal/orgctx"
)

// TestTextOrInteger: integers are their digits, never a float's; nothing else becomes an
// identifier.
func TestTextOrInteger(t *testing.T) {
	for raw, want := range map[string]string{
		`"acme"`: "acme", `"7"`: "7", `7`: "7", `-7`: "-7", `0`: "0", `""`: "", `"a b"`: "a b", `"\u0061\n"`: "a\n", `"ü"`: "ü", `"\\"`: `\`,
		`9007199254740993`: "9007199254740993", `123456789012345678901234567890`: "123456789012345678901234567890",
	} {
		if got, ok := orgctx.TextOrInteger([]byte(raw)); got != want || !ok {
			t.Errorf("%s: got %q, %v, want %q", raw, got, ok, want)
		}
	}
	for _, raw := range []string{``, `true`, `false`, `null`, `7.0`, `1e2`, `1E2`, `-`, `{}`, `[]`, `["7"]`, `{"a":7}`, `0.7`, `-1.5`} {
		if got, ok := orgctx.TextOrInteger([]byte(raw)); got != "" || ok {
			t.Errorf("%s: got %q, %v, want nothing", raw, got, ok)
		}
	}
}

// FuzzTextOrInteger: it reads text as encoding/json does, and of numbers no other spelling than
// their own.
func FuzzTextOrInteger(f *testing.F) {
	for _, seed := range []string{`"a"`, `7`, `"\ud800"`, `1e2`, `null`, `-0`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		raw = strings.Trim(raw, " \t\r\n")
		if !json.Valid([]byte(raw)) || !utf8.ValidString(raw) {
			return
		}
		text, ok := orgctx.TextOrInteger([]byte(raw))
		switch c := raw[0]; {
		case c == '"':
			var want string
			if err := json.Unmarshal([]byte(raw), &want); err != nil || !ok || text != want {
				t.Errorf("%s: got %q, %v, want %q (%v)", raw, text, ok, want, err)
			}
		case c == '-' || '0' <= c && c <= '9':
			if ok != !strings.ContainsAny(raw, ".eE") || ok && text != raw {
				t.Errorf("%s: got %q, %v", raw, text, ok)
			}
		case ok:
			t.Errorf("%s: got %q, want nothing", raw, text)
		}
	})
}
