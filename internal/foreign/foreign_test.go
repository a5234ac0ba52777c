package foreign_test

import (
	"encoding/base64"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orgcast/internal/foreign"
)

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// samples are what the real programs wrote, as it stood in a header.
var samples = map[string]struct {
	value string
	want  foreign.Kind
}{
	"Django, a key":                     {"3kx0vq8f2a7m1c9z5b6n4t0r8w2y6u1s", foreign.Django},
	"Django, signed and compressed":     {".eJxVjEEOgjAQRe_StWlgaGfQpXvOQGbawaKmTSisjHdXEha6_e-9_zIjb2sat6rLOEdzMQ7M6XcUDg_NO4l3zrdiQ8nrMovdFXvQaocS9Xk93L-DxDV9a_YKEX2D4HsHDQaKhAIkk1BDnWjPwAyt65D0LKTT1DkkwtgjYivm_QHz9DeF:1vb66i:jSNDldkoGq5Pju1TyxgZDeAFLAhf3MXP1L-Lepsu1ao", foreign.DjangoSigned},
	"Django, signed":                    {"eyJhIjoxfQ:1vb66i:3fhrHynLY4QkloSkSoEFp2RJsw0BiSmk6yI2OuVDAzY", foreign.DjangoSigned},
	"Django 2.2, signed":                {"eyJhIjoxfQ:1vb66i:veGU-7c1dSAcnPEfAaVp7cPTIPk", foreign.DjangoSigned},
	"Rails 6.1":                         {"rsdUMCR3lkBKTQDMfu7Wi81QicDUZPE%2BNh1T2XUwCJ5OjLkCQJ3WA4VbHGkRBfEWc0ShrMUnDp0qXXKUYQnefMLRt0OVOoEX7f2gpkfcXHaVwcCQUOBc5WMmq%2BGJH1S6Sey6NrYUkksyK7aa8xY%3D--x2V7K3rdZzFewukN--Uhg%2FpAL%2B%2FWDWJoopn3conA%3D%3D", foreign.Rails},
	"Rails 6.1, signed":                 {"eyJ1c2VyX2lkIjo3fQ%3D%3D--1d48f007b40d3acebdc481042629cbfa12a2258a", foreign.RailsSigned},
	"express-session 1.19":              {"s%3AE6q2NIGjeMuQ7owccUMqlY2ash3_vxxO.OpkFErC%2Bs1lB%2BlvCNiZXf5hrwPv3hL2BPoBxVlxYZRA", foreign.Express},
	"Laravel 8":                         {"eyJpdiI6IlJqZHhDRGp6b2c2RUpiMlZRWUdvdVE9PSIsInZhbHVlIjoia2t2UDkrNll6eU15WXBla3JDN1NWa1l3TG03cElRREZwak0wQldiN2ppbW1hRDRqOTZEYnc3UGNMZzBRNDJqSENtRTkrbzIyWGVQY1FzWGxsbkNuNjBBdG1WWDQrSm5xTGRrTGpRVXhDcnErY3I2cHV5N3lqME52WDlqSUlya0giLCJtYWMiOiI3YzkyNWMwYmE4YTc3NjFkMzRmZWZlMGE3NWU0MTIxNzNkMDhjM2M4NjVjMWFhYmQ3N2MzOWRkMzE3YTdlMDNjIiwidGFnIjoiIn0%3D", foreign.Laravel},
	"gorilla":                           {"MTc2NzIyNTYwMHxEWDhFQVFMX2dBQUJFQUVRQUFCUV80QUFBZ1p6ZEhKcGJtY01DUUFIZFhObGNsOXBaQVp6ZEhKcGJtY01CQUFDTkRJR2MzUnlhVzVuREJnQUZtRmpkR2wyWlY5dmNtZGhibWw2WVhScGIyNWZhV1FHYzNSeWFXNW5EQU1BQVRjPXxFbqG1gGdNZzU2vJ3uXs0K_1rxUukKWV6tkmv2nYxjCA==", foreign.Gorilla},
	"Orgcast, in Redis":                 {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", foreign.OrgcastRecord},
	"JSON Web Token":                    {b64(`{"alg":"HS256","typ":"JWT"}`) + "." + b64(`{"sub":"7"}`) + "." + b64(strings.Repeat("s", 32)), foreign.JWT},
	"JSON Web Token, encrypted":         {b64(`{"alg":"dir","enc":"A256GCM"}`) + ".." + b64("iv") + "." + b64("text") + "." + b64("tag"), foreign.JWTEncrypted},
	"iron-session":                      {"Fe26.2*1*7d5a*c2FsdA*aXY*dGV4dA*1767225600000*bWFjc2FsdA*bWFj~2", foreign.IronSession},
	"in quotes":                         {`"3kx0vq8f2a7m1c9z5b6n4t0r8w2y6u1s"`, foreign.Django},
	"nothing":                           {"", ""},
	"a word":                            {"hello", ""},
	"hexadecimal digits":                {"0123456789abcdef0123456789abcdef", ""},
	"three words":                       {"a.b.c", ""},
	"a token of another header":         {b64(`{"typ":"JWT"}`) + ".YQ.YQ", ""},
	"a token whose algorithm is 1":      {b64(`{"alg":1}`) + ".YQ.YQ", ""},
	"one escape too few":                {"%zz", ""},
	"too long":                          {"s:" + strings.Repeat("x", 9000), ""},
	"Laravel's form with numbers":       {base64.StdEncoding.EncodeToString([]byte(`{"iv":1,"value":2,"mac":3}`)), ""},
	"gorilla's form, a short signature": {base64.URLEncoding.EncodeToString([]byte("1767225600|YQ==|" + strings.Repeat("m", 31))), ""},
}

func TestLook(t *testing.T) {
	for name, test := range samples {
		t.Run(name, func(t *testing.T) {
			if got := foreign.Look(test.value); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestAdvice: every kind has a name, says what to set, and points to a page that exists.
func TestAdvice(t *testing.T) {
	for name, test := range samples {
		kind := test.want
		if kind == "" {
			continue
		}
		if kind.Title() == "" || !strings.Contains(kind.Advice(), "--session-store=") || !strings.Contains(kind.Advice(), kind.Page()) {
			t.Errorf("%s: got %q, %q, want a name, a setting and the page", name, kind.Title(), kind.Advice())
		}
		if _, err := os.Stat(filepath.Join("..", "..", kind.Page())); err != nil {
			t.Error(err)
		}
	}
	if got := foreign.Kind("").Advice(); got != "" {
		t.Errorf("unknown: got %q, want nothing", got)
	}
}

func TestNamed(t *testing.T) {
	for name, want := range map[string]foreign.Kind{
		"sessionid": foreign.Django, "__Secure-sessionid": foreign.Django, "connect.sid": foreign.Express, "laravel_session": foreign.Laravel,
		"_notes_session": foreign.Rails, "__Host-_notes_session": foreign.Rails, "__Secure-next-auth.session-token": foreign.JWTEncrypted,
		"authjs.session-token": foreign.JWTEncrypted, "orgcast_session": "", "SessionID": "", "": "",
	} {
		if got := foreign.Named(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	r := &http.Request{Header: http.Header{"Cookie": {"theme=dark; lang=en", "a; connect.sid=s%3Ax"}}}
	if got := foreign.Carried(r); got != foreign.Express {
		t.Errorf("a request with connect.sid: got %q, want %q", got, foreign.Express)
	}
	if got := foreign.Carried(new(http.Request)); got != "" {
		t.Errorf("a request without cookies: got %q, want none", got)
	}
}

func FuzzLook(f *testing.F) {
	for _, sample := range samples {
		f.Add(sample.value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		kind := foreign.Look(value)
		if kind != "" && kind.Title() == "" {
			t.Errorf("%q has no name", kind)
		}
		if len(value) > 8<<10 && kind != "" {
			t.Errorf("got %q for %d bytes, want that so many are not looked at", kind, len(value))
		}
		if quoted := foreign.Look(`"` + value + `"`); kind != "" && len(value) < 8000 && quoted != kind {
			t.Errorf("got %q, and in quotes %q", kind, quoted)
		}
	})
}
