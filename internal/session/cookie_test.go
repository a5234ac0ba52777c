package session_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/sessions"

	"orgcast/internal/session"
)

type headerVectors struct {
	Cases []struct {
		ID          string  `json:"id"`
		Header      string  `json:"header"`
		CookieName  string  `json:"cookie_name"`
		DjangoValue *string `json:"django_value"`
	} `json:"cases"`
}

func TestCookieValueIsDjangos(t *testing.T) {
	var vectors headerVectors
	readVectors(t, "cookie-header.json", &vectors)
	if len(vectors.Cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range vectors.Cases {
		t.Run(c.ID, func(t *testing.T) {
			got, ok := session.CookieValue(request(c.Header), c.CookieName)
			if ok != (c.DjangoValue != nil) || ok && got != *c.DjangoValue {
				t.Errorf("CookieValue(%q): got %q, %v, want %v", c.Header, got, ok, c.DjangoValue)
			}
		})
	}
}

// TestTwoCookiesOfOneName: the stores take the cookie that gorilla's session takes, so the gateway
// sees the user whom the application sees.
func TestTwoCookiesOfOneName(t *testing.T) {
	cookies := newCookieStore(t, session.Options{Name: "s"}, keyB)
	ann := signValues(t, "s", map[any]any{"user_id": "ann"})
	bob := signValues(t, "s", map[any]any{"user_id": "bob"})
	application := sessions.NewCookieStore(keyB.Hash)
	for _, lines := range [][]string{{"s=" + ann + "; s=" + bob}, {"s=" + ann, "s=" + bob}, {`s="` + ann + `"; s=` + bob}, {"s=" + bob + "; s=" + ann}, {"S=" + bob + "; s=" + ann}} {
		r := &http.Request{Header: http.Header{"Cookie": lines}}
		theirs, err := application.Get(r, "s")
		if err != nil {
			t.Fatal(err)
		}
		ours, err := cookies.Resolve(t.Context(), r)
		if err != nil || ours.UserID != theirs.Values["user_id"] {
			t.Errorf("cookies %.20q…: got %v, %v, want %v as the application", lines, ours.UserID, err, theirs.Values["user_id"])
		}
	}
	f := newRedisFixture(t, session.Options{})
	_, first := f.mint(t, session.Grant{UserID: "ann"})
	_, second := f.mint(t, session.Grant{UserID: "bob"})
	got, err := f.store.Resolve(t.Context(), request(first.Name+"="+first.Value+"; "+second.Name+"="+second.Value))
	if err != nil || got.UserID != "ann" {
		t.Errorf("in Redis: got %v, %v, want ann", got.UserID, err)
	}
}

func TestCookieValue(t *testing.T) {
	tests := map[string]struct {
		lines []string
		want  string
		ok    bool
	}{
		"none":                    {nil, "", false},
		"name without equals":     {[]string{"s"}, "", false},
		"last of two":             {[]string{"s=1; s=2"}, "2", true},
		"last of two lines":       {[]string{"s=1", "s=2; x=3"}, "2", true},
		"last is of another case": {[]string{"s=1; S=2"}, "1", true},
		"no-break space in name":  {[]string{"s=1; s\xa0=2"}, "2", true},
		"file separator in value": {[]string{"s=\x1c1\x85"}, "1", true},
		"one quote":               {[]string{`s="`}, `"`, true},
		"empty quotes":            {[]string{`s=""`}, "", true},
		"escaped quote":           {[]string{`s="a\"b"`}, `a"b`, true},
		"escaped backslash":       {[]string{`s="a\\b"`}, `a\b`, true},
		"octal":                   {[]string{`s="\101\377"`}, "A\xff", true},
		"not octal":               {[]string{`s="\401"`}, "401", true},
		"short octal":             {[]string{`s="\10"`}, "10", true},
		"backslash at the end":    {[]string{`s="a\"`}, `a\`, true},
		"unquoted backslash":      {[]string{`s=\101`}, `\101`, true},
		"not ASCII":               {[]string{"s=grün"}, "grün", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := request("")
			for _, line := range test.lines {
				r.Header.Add("Cookie", line)
			}
			got, ok := session.CookieValue(r, "s")
			if got != test.want || ok != test.ok {
				t.Errorf("CookieValue of %q: got %q, %v, want %q, %v", test.lines, got, ok, test.want, test.ok)
			}
		})
	}
}

func FuzzCookieValue(f *testing.F) {
	var vectors headerVectors
	readVectors(f, "cookie-header.json", &vectors)
	for _, c := range vectors.Cases {
		f.Add(c.Header)
	}
	f.Add(`s="\3`)
	f.Fuzz(func(t *testing.T, header string) {
		value, ok := session.CookieValue(request(header), "s")
		if !ok && value != "" || len(value) > len(header) {
			t.Errorf("CookieValue(%q): got %q, %v", header, value, ok)
		}
		// Whatever stands before it, the last cookie counts; whatever stands after it, another
		// name does not.
		for _, h := range []string{header + ";s=last", header + "; s = \"last\" ;x=1"} {
			if got, _ := session.CookieValue(request(h), "s"); got != "last" {
				t.Errorf("CookieValue(%q): got %q, want last", h, got)
			}
		}
		if strings.Contains(header, ";") {
			return
		}
		if got, _ := session.CookieValue(request("s=first; x"+header), "s"); got != "first" {
			t.Errorf("cookie of another name %q: got %q, want first", "x"+header, got)
		}
	})
}

func ExampleCookieValue() {
	r := request("sessionid=first; theme=dark; sessionid=last")
	value, ok := session.CookieValue(r, "sessionid")
	fmt.Println(value, ok)
	// Output: last true
}
