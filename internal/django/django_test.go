package django_test

import (
	"bytes"
	"compress/zlib"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orgcast/internal/django"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// secret is a key of the vectors: text, or bytes in base64.
type secret struct {
	UTF8 *string `json:"utf8"`
	B64  []byte  `json:"b64"`
}

func (s secret) bytes() []byte {
	if s.UTF8 != nil {
		return []byte(*s.UTF8)
	}
	return s.B64
}

// keyring names the keys with which a case is read.
type keyring struct {
	SecretKey string   `json:"secret_key"`
	Fallbacks []string `json:"fallbacks"`
	MaxAge    float64  `json:"max_age"`
	Now       float64  `json:"now"`
}

type vectors struct {
	Secrets map[string]secret `json:"secrets"`
	Base62  []struct {
		N    int64  `json:"n"`
		Text string `json:"text"`
	} `json:"base62"`
	Cases []struct {
		ID           string  `json:"id"`
		CookieValue  string  `json:"cookie_value"`
		LookupKey    string  `json:"lookup_key"`
		Row          *row    `json:"row"`
		SignedAt     *int64  `json:"signed_at"`
		Verify       keyring `json:"verify"`
		Expect       expect  `json:"expect"`
		PasswordHash string  `json:"session_auth_hash"`

		PasswordField  string   `json:"password_field"`
		SecretKey      string   `json:"secret_key"`
		Fallbacks      []string `json:"fallbacks"`
		FallbackHashes []string `json:"fallback_hashes"`
		LegacyHash     string   `json:"legacy_sha1_hash"`
	} `json:"cases"`
}

type row struct {
	Key     string    `json:"session_key"`
	Data    string    `json:"session_data"`
	Expires time.Time `json:"expire_date"`
}

type expect struct {
	Accept  any     `json:"accept"` // a bool, or "either"
	Session *string `json:"session_json"`
}

func readVectors(tb testing.TB, name string) *vectors {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	v := new(vectors)
	if err := json.Unmarshal(text, v); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	if len(v.Cases) == 0 {
		tb.Fatalf("%s: no cases", name)
	}
	return v
}

func (v *vectors) keys(k keyring) (keys [][]byte) {
	for _, name := range append([]string{k.SecretKey}, k.Fallbacks...) {
		keys = append(keys, v.Secrets[name].bytes())
	}
	return keys
}

func opener(tb testing.TB, salt string, keys [][]byte) *django.Opener {
	tb.Helper()
	o, err := django.NewOpener(salt, keys)
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

// object reports whether a text is a JSON object, or Python's dialect of one.
func object(text []byte) bool {
	if strings.Contains(string(text), "NaN") {
		return text[0] == '{'
	}
	var o map[string]json.RawMessage
	return json.Unmarshal(text, &o) == nil && o != nil
}

// check compares what opening gave with what a case wants.
func (e expect) check(t *testing.T, text []byte, err error) {
	t.Helper()
	accepted := err == nil && object(text)
	if e.Accept != "either" && accepted != e.Accept {
		t.Errorf("got %.100q, %v, want accepted %v", text, err, e.Accept)
	}
	if !accepted || e.Session == nil {
		return
	}
	if got, want := fold(t, text), fold(t, []byte(*e.Session)); got != want {
		t.Errorf("session:\n got %s\nwant %s", got, want)
	}
}

// fold returns JSON in one spelling. Of equal keys the last one counts.
func fold(t *testing.T, text []byte) string {
	t.Helper()
	for _, word := range []string{"-Infinity", "Infinity", "NaN"} { // Python's
		text = bytes.ReplaceAll(text, []byte(":"+word), []byte(`:"`+word+`"`))
		text = bytes.ReplaceAll(text, []byte("["+word), []byte(`["`+word+`"`))
		text = bytes.ReplaceAll(text, []byte(","+word), []byte(`,"`+word+`"`))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestSignedCookieVectors reads cookies that Django wrote, and altered ones.
func TestSignedCookieVectors(t *testing.T) {
	v := readVectors(t, "django-signed-cookies.json")
	for _, c := range v.Cases {
		t.Run(c.ID, func(t *testing.T) {
			text, signed, err := opener(t, django.SaltCookies, v.keys(c.Verify)).Open(c.CookieValue)
			if age := c.Verify.Now - float64(signed.Unix()); err == nil && age > c.Verify.MaxAge {
				err = errors.New("too old")
			}
			if err == nil && c.SignedAt != nil && signed.Unix() != *c.SignedAt {
				t.Errorf("signed at: got %d, want %d", signed.Unix(), *c.SignedAt)
			}
			c.Expect.check(t, text, err)
		})
	}
}

// TestRowVectors reads rows of the table of sessions. The gateway has no store for them; but the form is that of
// cookies, with another salt and without an age.
func TestRowVectors(t *testing.T) {
	v := readVectors(t, "django-db-sessions.json")
	for _, c := range v.Cases {
		t.Run(c.ID, func(t *testing.T) {
			var text []byte
			err := errors.New("no row")
			now := time.UnixMicro(int64(c.Verify.Now * 1e6))
			if c.Row != nil && c.LookupKey == c.Row.Key && len(c.LookupKey) >= 8 && c.Row.Expires.After(now) {
				text, _, err = opener(t, django.SaltRows, v.keys(c.Verify)).Open(c.Row.Data)
			}
			c.Expect.check(t, text, err)
		})
	}
}

// TestOneSalt: a row is not a cookie, although both are signed with the same key.
func TestOneSalt(t *testing.T) {
	v := readVectors(t, "django-db-sessions.json")
	keys := [][]byte{v.Secrets["K1"].bytes()}
	for _, c := range v.Cases {
		if c.Row == nil {
			continue
		}
		if _, _, err := opener(t, django.SaltCookies, keys).Open(c.Row.Data); !errors.Is(err, django.ErrSignature) {
			t.Errorf("%s: a row read as a cookie: got %v, want %v", c.ID, err, django.ErrSignature)
		}
	}
}

func TestAuthHashVectors(t *testing.T) {
	v := readVectors(t, "django-auth-hash.json")
	for _, c := range v.Cases {
		names, hashes := append([]string{c.SecretKey}, c.Fallbacks...), append([]string{c.PasswordHash}, c.FallbackHashes...)
		for i, name := range names {
			if got := django.AuthHash(v.Secrets[name].bytes(), c.PasswordField); got != hashes[i] || got == c.LegacyHash {
				t.Errorf("%s: with %s: got %s, want %s", c.ID, name, got, hashes[i])
			}
		}
	}
}

func TestBase62Vectors(t *testing.T) {
	for _, want := range readVectors(t, "django-signed-cookies.json").Base62 {
		if got, ok := django.Base62(want.Text); !ok || got != want.N {
			t.Errorf("%q: got %d, %v, want %d", want.Text, got, ok, want.N)
		}
	}
	for _, text := range []string{"", "-", "--1", "1 ", "zzzzzzz", "zzzzzzzzzzzz", "é"} {
		if got, ok := django.Base62(text); ok {
			t.Errorf("%q: got %d, want that it is refused", text, got)
		}
	}
}

// sign signs as Django does.
func sign(key string, payload []byte, compress bool) string {
	text := base64.RawURLEncoding.EncodeToString(payload)
	if compress {
		var b bytes.Buffer
		z := zlib.NewWriter(&b)
		_, _ = z.Write(payload) // to memory
		_ = z.Close()
		text = "." + base64.RawURLEncoding.EncodeToString(b.Bytes())
	}
	text += ":1vb66i"
	derived := sha256.Sum256([]byte(django.SaltCookies + "signer" + key))
	mac := hmac.New(sha256.New, derived[:])
	mac.Write([]byte(text))
	return text + ":" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// TestDecompressionIsBounded: a value of a few bytes cannot become a large session.
func TestDecompressionIsBounded(t *testing.T) {
	o := opener(t, django.SaltCookies, [][]byte{[]byte("key")})
	for name, test := range map[string]struct {
		size int
		want error
	}{"the longest": {django.MaxPayload, nil}, "one byte more": {django.MaxPayload + 1, django.ErrPayload}, "a bomb": {10 << 20, django.ErrPayload}} {
		value := sign("key", bytes.Repeat([]byte("x"), test.size), true)
		payload, _, err := o.Open(value)
		if !errors.Is(err, test.want) || err == nil && len(payload) != test.size {
			t.Errorf("%s, %d bytes from %d: got %d bytes, %v, want %v", name, test.size, len(value), len(payload), err, test.want)
		}
	}
	if _, _, err := o.Open(sign("key", make([]byte, django.MaxValue), false)); !errors.Is(err, django.ErrSignature) {
		t.Errorf("a value that is too long: got %v, want %v", err, django.ErrSignature)
	}
}

func TestNoKeys(t *testing.T) {
	for name, keys := range map[string][][]byte{"none": nil, "an empty one": {[]byte("k"), nil}} {
		if _, err := django.NewOpener(django.SaltCookies, keys); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

// FuzzOpen: what nobody signed is refused, what was signed comes back, and nothing is longer than allowed.
func FuzzOpen(f *testing.F) {
	v := readVectors(f, "django-signed-cookies.json")
	for _, c := range v.Cases {
		f.Add(c.CookieValue, []byte(c.ID), true)
	}
	o := opener(f, django.SaltCookies, [][]byte{v.Secrets["K1"].bytes()})
	own := opener(f, django.SaltCookies, [][]byte{[]byte("current"), []byte("fallback")})
	known := make(map[string]bool)
	for _, c := range v.Cases {
		known[c.CookieValue] = true
	}
	f.Fuzz(func(t *testing.T, value string, payload []byte, compress bool) {
		got, _, err := o.Open(value)
		if err == nil && (!known[value] || len(got) > django.MaxPayload) {
			t.Errorf("a value that nobody signed gave %d bytes", len(got))
		}
		if len(payload) > 8<<10 {
			return
		}
		signed := sign("fallback", payload, compress)
		if got, _, err = own.Open(signed); err != nil || !bytes.Equal(got, payload) {
			t.Errorf("got %q, %v, want %q", got, err, payload)
		}
		if _, _, err = own.Open(signed + "A"); !errors.Is(err, django.ErrSignature) {
			t.Errorf("one character more: got %v, want %v", err, django.ErrSignature)
		}
		// A payload of any form, behind a good signature.
		_, _, _ = own.Open(resign(value))
	})
}

// resign replaces the signature of a value.
func resign(value string) string {
	text, _, _ := strings.Cut(value, ":")
	derived := sha256.Sum256([]byte(django.SaltCookies + "signercurrent"))
	mac := hmac.New(sha256.New, derived[:])
	mac.Write([]byte(text + ":1"))
	return text + ":1:" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func ExampleOpener_Open() {
	o, err := django.NewOpener(django.SaltCookies, [][]byte{[]byte("test-only-key-1-insecure-insecure-insecure-0123456789abcdef")})
	if err != nil {
		fmt.Println(err)
		return
	}
	payload, signed, err := o.Open("eyJhIjoxfQ:1vb66i:3fhrHynLY4QkloSkSoEFp2RJsw0BiSmk6yI2OuVDAzY")
	fmt.Println(string(payload), signed.Unix(), err)
	// Output: {"a":1} 1767225600 <nil>
}
