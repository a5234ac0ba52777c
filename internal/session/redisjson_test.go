package session_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// jsonSessions are what a web application may have stored, and what to make of it at start.
var jsonSessions = map[string]struct {
	text    string
	user    string
	org     string
	wantErr error
}{
	"text":                    {`{"user_id":"ann","active_organization_id":"acme","expires_at":4102444800}`, "ann", "acme", nil},
	"integers":                {`{"user_id":7,"active_organization_id":8,"expires_at":4102444800}`, "7", "8", nil},
	"integers beyond 2^53":    {`{"user_id":9007199254740993,"active_organization_id":340282366920938463463374607431768211455,"expires_at":4102444800}`, "9007199254740993", "340282366920938463463374607431768211455", nil},
	"white space":             {" { \"user_id\" : \"ann\" , \"expires_at\" : 4102444800 } ", "ann", "", nil},
	"escapes":                 {`{"user_\u0069d":"\u0061nn","expires_at":4102444800}`, "ann", "", nil},
	"organization null":       {`{"user_id":"ann","active_organization_id":null,"expires_at":4102444800}`, "ann", "", nil},
	"organization 0":          {`{"user_id":"ann","active_organization_id":0,"expires_at":4102444800}`, "ann", "", nil},
	"organization empty":      {`{"user_id":"ann","active_organization_id":"","expires_at":4102444800}`, "ann", "", nil},
	"other fields":            {`{"user_id":"ann","cart":[{"a":1.5}],"expires_at":4102444800}`, "ann", "", nil},
	"nobody":                  {`{"expires_at":4102444800}`, "", "", session.ErrNone},
	"other case of user_id":   {`{"USER_ID":"ann","expires_at":4102444800}`, "", "", session.ErrNone},
	"expired":                 {`{"user_id":"ann","expires_at":1767225660}`, "", "", session.ErrExpired},
	"user null":               {`{"user_id":null,"expires_at":4102444800}`, "", "", session.ErrInvalid},
	"user true":               {`{"user_id":true,"expires_at":4102444800}`, "", "", session.ErrInvalid},
	"user 7.0":                {`{"user_id":7.0,"expires_at":4102444800}`, "", "", session.ErrInvalid},
	"user 7e2":                {`{"user_id":7e2,"expires_at":4102444800}`, "", "", session.ErrInvalid},
	"user -0":                 {`{"user_id":-0,"expires_at":4102444800}`, "", "", session.ErrInvalid},
	"user list":               {`{"user_id":["ann"],"expires_at":4102444800}`, "", "", session.ErrInvalid},
	"user with braces":        {`{"user_id":"{ann}","expires_at":4102444800}`, "{ann}", "", nil},
	"user not ASCII":          {`{"user_id":"\u00e4","expires_at":4102444800}`, "ä", "", nil},
	"user with a bar":         {`{"user_id":"auth0|123","expires_at":4102444800}`, "auth0|123", "", nil},
	"user with a space":       {`{"user_id":"a b","expires_at":4102444800}`, "", "", session.ErrInvalid},
	"user with a line end":    {`{"user_id":"a\nb","expires_at":4102444800}`, "", "", session.ErrInvalid},
	"user written backwards":  {`{"user_id":"a\u202eb","expires_at":4102444800}`, "", "", session.ErrInvalid},
	"user of half a pair":     {`{"user_id":"a\ud800","expires_at":4102444800}`, "", "", session.ErrInvalid},
	"organization not ASCII":  {`{"user_id":"ann","active_organization_id":"\u00e4","expires_at":4102444800}`, "", "", session.ErrInvalid},
	"organization false":      {`{"user_id":"ann","active_organization_id":false,"expires_at":4102444800}`, "", "", session.ErrInvalid},
	"organization object":     {`{"user_id":"ann","active_organization_id":{},"expires_at":4102444800}`, "", "", session.ErrInvalid},
	"organization with colon": {`{"user_id":"ann","active_organization_id":"a:b","expires_at":4102444800}`, "", "", session.ErrInvalid},
	"no expiry":               {`{"user_id":"ann"}`, "", "", session.ErrInvalid},
	"expiry text":             {`{"user_id":"ann","expires_at":"4102444800"}`, "", "", session.ErrInvalid},
	"expiry float":            {`{"user_id":"ann","expires_at":4102444800.5}`, "", "", session.ErrInvalid},
	"expiry 0":                {`{"user_id":"ann","expires_at":0}`, "", "", session.ErrInvalid},
	"expiry far beyond":       {`{"user_id":"ann","expires_at":99999999999999999999}`, "", "", session.ErrInvalid},
	"null":                    {`null`, "", "", session.ErrInvalid},
	"list":                    {`["user_id"]`, "", "", session.ErrInvalid},
	"two objects":             {`{"user_id":"ann","expires_at":4102444800}{}`, "", "", session.ErrInvalid},
	"cut":                     {`{"user_id":"ann"`, "", "", session.ErrInvalid},
	"not UTF-8":               {"{\"user_id\":\"ann\",\"x\":\"\xff\",\"expires_at\":4102444800}", "", "", session.ErrInvalid},
	"huge":                    {`{"user_id":"ann","expires_at":4102444800,"x":"` + strings.Repeat("x", 1<<20) + `"}`, "", "", session.ErrInvalid},
}

func TestRedisStoreReadsWhatOthersStored(t *testing.T) {
	f := newRedisFixture(t, session.Options{Name: "s"})
	for name, test := range jsonSessions {
		t.Run(name, func(t *testing.T) {
			if err := f.client.Set(t.Context(), f.keys.Session(someKey), test.text, time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
			got, err := f.store.Resolve(t.Context(), request("s="+someKey))
			if !errors.Is(err, test.wantErr) {
				t.Fatalf("got %+v, %v, want error %v", got, err, test.wantErr)
			}
			if got.UserID != test.user || got.Organization.String() != test.org {
				t.Errorf("got user %q of %q, want %q of %q", got.UserID, got.Organization, test.user, test.org)
			}
			if err != nil && strings.Contains(err.Error(), "ann") {
				t.Errorf("the error quotes the session: %v", err)
			}
		})
	}
	t.Run("wrong kind of key", func(t *testing.T) {
		f.client.Del(t.Context(), f.keys.Session(someKey))
		f.client.SAdd(t.Context(), f.keys.Session(someKey), "x")
		if _, err := f.store.Resolve(t.Context(), request("s="+someKey)); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
	})
}

func FuzzSessionJSON(f *testing.F) {
	for _, s := range jsonSessions {
		if len(s.text) < 1000 {
			f.Add(s.text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := session.DecodeJSON(text, start)
		if err != nil {
			if got != (session.Identity{}) {
				t.Errorf("got %+v beside %v, want nothing", got, err)
			}
			return
		}
		if !orgctx.ValidUserID(got.UserID) || !got.Expires.After(start) {
			t.Errorf("%q: got %+v", text, got)
		}
		// An independent reader finds the same digits.
		var fields map[string]any
		dec := json.NewDecoder(strings.NewReader(text))
		dec.UseNumber()
		if err := dec.Decode(&fields); err != nil {
			t.Fatalf("%q was accepted and is no object: %v", text, err)
		}
		if want := fmt.Sprint(fields["user_id"]); got.UserID != want {
			t.Errorf("%q: got user %q, want %q", text, got.UserID, want)
		}
	})
}
