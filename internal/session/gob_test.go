package session_test

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"math"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/sessions"

	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

func encodeGob(tb testing.TB, v any) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(v); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func decodeGob(src []byte) (map[any]any, error) {
	values := make(map[any]any)
	err := gob.NewDecoder(bytes.NewReader(src)).Decode(&values)
	return values, err
}

// usualSessions are what ReadGob takes.
func usualSessions() map[string]map[any]any {
	return map[string]map[any]any{
		"empty":   {},
		"minted":  {"user_id": "ann", "active_organization_id": "acme", "expires_at": int64(1798761600), "session_id": "7EXAMPLE"},
		"numbers": {"user_id": 42, "active_organization_id": int64(7)},
		"extreme": {"a": math.MinInt, "b": math.MaxInt, "c": int64(math.MinInt64), "d": int64(math.MaxInt64), "e": -1, "f": 0, "g": 63, "h": 64, "i": -65},
		"flags":   {"yes": true, "no": false},
		"texts":   {"": "", "long": strings.Repeat("x", 1000), "any bytes": "\x00\xff\n€"},
	}
}

// unusualSessions are what gob takes and ReadGob leaves to it.
func unusualSessions() map[string]any {
	type values map[any]any
	return map[string]any{
		"nil value":     map[any]any{"a": nil},
		"other integer": map[any]any{"a": uint8(1)},
		"float":         map[any]any{"a": 1.5},
		"bytes":         map[any]any{"a": []byte("b")},
		"list":          map[any]any{"a": []string{"b"}},
		"integer key":   map[any]any{1: "a"},
		"key of flag":   map[any]any{true: "a"},
		"named type":    values{"a": "b"},
	}
}

func TestReadGob(t *testing.T) {
	for name, want := range usualSessions() {
		t.Run(name, func(t *testing.T) {
			got, ok := session.ReadGob(encodeGob(t, want))
			if !ok {
				t.Fatal("got not ok, want the values")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
		})
	}
	for name, v := range unusualSessions() {
		t.Run(name, func(t *testing.T) {
			src := encodeGob(t, v)
			if _, err := decodeGob(src); err != nil {
				t.Fatalf("gob: %v", err)
			}
			if got, ok := session.ReadGob(src); ok {
				t.Errorf("got %v, want not ok", got)
			}
		})
	}
}

func TestReadGobLeavesWhatIsDamaged(t *testing.T) {
	const good = "0d7f040102ff80000110011000001cff80000106737472696e670c0300016105696e743634040400fe0257"
	tests := map[string]string{
		"nothing":                    "",
		"definition alone":           good[:28],
		"cut short":                  good[:len(good)-2],
		"more behind":                good + "00",
		"second message":             good + "03ff8000",
		"definition without its end": strings.Replace(good, "0d7f", "0c7f", 1),
		"number of another type":     strings.Replace(good, "1cff80", "1cff82", 1),
		"number that is gob's own":   strings.NewReplacer("0d7f", "0d0f", "0102ff80", "010210").Replace(good),
		"map of text":                strings.Replace(good, "0110011000", "010c011000", 1),
		"count without entries":      strings.Replace(good, "1cff800001", "1cff80007f", 1),
		"huge count":                 "0d7f040102ff80000110011000000cff8000f87fffffffffffffff",
		"huge message":               "f87fffffffffffffff7f0401",
		"number of nine bytes":       "f7010101010101010101",
		"value of wrong length":      strings.Replace(good, "040400fe0257", "040500fe0257", 1),
		"text called int64":          strings.Replace(good, "040400fe0257", "0c0400fe0257", 1),
		"unknown name":               strings.Replace(good, "696e743634", "696e743635", 1),
		"delta in a single value":    strings.Replace(good, "040400fe0257", "040401fe0257", 1),
	}
	if _, ok := session.ReadGob(mustHex(t, good)); !ok {
		t.Fatal("the undamaged one: got not ok")
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			if text == good {
				t.Fatal("not damaged at all")
			}
			if got, ok := session.ReadGob(mustHex(t, text)); ok {
				t.Errorf("got %v, want not ok", got)
			}
		})
	}
}

func mustHex(tb testing.TB, text string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// FuzzReadGob sees that what is read without gob, gob reads as the same.
func FuzzReadGob(f *testing.F) {
	for _, v := range usualSessions() {
		f.Add(encodeGob(f, v))
	}
	for _, v := range unusualSessions() {
		f.Add(encodeGob(f, v))
	}
	f.Add(mustHex(f, "0d7f040102ff80000110011000000cff8000f87fffffffffffffff"))
	f.Add(mustHex(f, "0e7f040102fe00800001100110000003ff800000")) // a number longer than it need be
	f.Fuzz(func(t *testing.T, src []byte) {
		got, ok := session.ReadGob(src)
		if !ok {
			return
		}
		want, err := decodeGob(src)
		if err != nil {
			t.Fatalf("got %v, and gob says %v", got, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("values (-gob +got):\n%s", diff)
		}
	})
}

// TestCookieStoreReadsWhatSessionsSaves saves a session as a web application does, with a store of
// its own from gorilla/sessions.
func TestCookieStoreReadsWhatSessionsSaves(t *testing.T) {
	for name, key := range map[string]session.KeyPair{"signed": keyB, "encrypted": keyA} {
		t.Run(name, func(t *testing.T) {
			web := sessions.NewCookieStore(key.Hash, key.Block)
			saved, err := web.New(request(""), session.DefaultName)
			if err != nil {
				t.Fatal(err)
			}
			saved.Values["user_id"], saved.Values["active_organization_id"], saved.Values["theme"] = int64(42), "acme", "dark"
			w := httptest.NewRecorder()
			if err := saved.Save(request(""), w); err != nil {
				t.Fatal(err)
			}
			r := request("")
			for _, c := range w.Result().Cookies() {
				r.AddCookie(c)
			}
			got, err := newCookieStore(t, session.Options{}, key).Resolve(t.Context(), r)
			if err != nil || got.UserID != "42" || got.Organization.String() != "acme" {
				t.Errorf("got user %q of %q, %v, want 42 of acme", got.UserID, got.Organization, err)
			}
		})
	}
}

// TestSessionsReadsWhatCookieStoreMints is the other way round.
func TestSessionsReadsWhatCookieStoreMints(t *testing.T) {
	c, err := newCookieStore(t, session.Options{}, keyA).Mint(t.Context(), session.Grant{UserID: "ann", Organization: testkit.Org(t, "acme")})
	if err != nil {
		t.Fatal(err)
	}
	r := request("")
	r.AddCookie(c)
	read, err := sessions.NewCookieStore(keyA.Hash, keyA.Block).New(r, session.DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	if read.IsNew || read.Values["user_id"] != "ann" || read.Values["active_organization_id"] != "acme" {
		t.Errorf("got %v, want ann of acme", read.Values)
	}
}

func BenchmarkResolve(b *testing.B) {
	s := newCookieStore(b, session.Options{}, keyB)
	c, err := s.Mint(b.Context(), session.Grant{UserID: "ann", Organization: testkit.Org(b, "acme")})
	if err != nil {
		b.Fatal(err)
	}
	r := request("")
	r.AddCookie(c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Resolve(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}
