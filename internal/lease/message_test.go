package lease_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

// sameMessages lets cmp compare identifiers.
var sameMessages = cmp.Comparer(func(a, b lease.Message) bool { return a == b })

func TestDecode(t *testing.T) {
	acme, seven := testkit.Org(t, "acme"), testkit.Org(t, "7")
	tests := map[string]struct {
		payload string
		want    lease.Message
	}{
		"session ended":          {`{"type":"session.ended","session_id":"s1"}`, lease.Message{Type: lease.SessionEnded, SessionID: "s1"}},
		"user disabled":          {`{"user_id":42,"type":"user.disabled"}`, lease.Message{Type: lease.UserDisabled, UserID: "42"}},
		"member removed":         {`{"type":"member.removed","organization_id":"acme","user_id":"ada"}`, lease.Message{Type: lease.MemberRemoved, Organization: acme, UserID: "ada"}},
		"member role":            {` {"type":"member.role","organization_id":7,"user_id":"ada","role":"admin"} `, lease.Message{Type: lease.MemberRole, Organization: seven, UserID: "ada", Role: "admin"}},
		"role taken away":        {`{"type":"member.role","organization_id":7,"user_id":"ada","role":""}`, lease.Message{Type: lease.MemberRole, Organization: seven, UserID: "ada"}},
		"role null":              {`{"type":"member.role","organization_id":7,"user_id":"ada","role":null}`, lease.Message{Type: lease.MemberRole, Organization: seven, UserID: "ada"}},
		"organization suspended": {`{"type":"organization.suspended","organization_id":"acme"}`, lease.Message{Type: lease.OrganizationSuspended, Organization: acme}},
		"organization switched":  {`{"type":"organization.switched","session_id":"s1","organization_id":"acme"}`, lease.Message{Type: lease.OrganizationSwitched, SessionID: "s1", Organization: acme}},
		"switched to none":       {`{"type":"organization.switched","session_id":"s1","organization_id":null}`, lease.Message{Type: lease.OrganizationSwitched, SessionID: "s1"}},
		"any user":               {`{"type":"user.disabled","user_id":"auth0|\u00fc.x"}`, lease.Message{Type: lease.UserDisabled, UserID: "auth0|ü.x"}},
		"any role":               {`{"type":"member.role","organization_id":7,"user_id":"..","role":"billing:read.all"}`, lease.Message{Type: lease.MemberRole, Organization: seven, UserID: "..", Role: "billing:read.all"}},
		"longest, all escaped": {
			`{"type":"member.role","organization_id":"` + strings.Repeat(`\u0061`, 64) + `","user_id":"` + strings.Repeat(`\u0061`, 128) + `","role":"` + strings.Repeat(`\u0061`, 64) + `"}`,
			lease.Message{Type: lease.MemberRole, Organization: testkit.Org(t, strings.Repeat("a", 64)), UserID: strings.Repeat("a", 128), Role: strings.Repeat("a", 64)},
		},
		"escapes": {`{"typ\u0065":"session.ended","session_id":"s\u0031"}`, lease.Message{Type: lease.SessionEnded, SessionID: "s1"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := lease.Decode([]byte(test.payload))
			if err != nil {
				t.Fatalf("Decode: %v", err)
			}
			if diff := cmp.Diff(test.want, got, sameMessages); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := map[string]struct {
		payload string
		want    error
	}{
		"nothing":                   {``, lease.ErrMalformed},
		"null":                      {`null`, lease.ErrMalformed},
		"array":                     {`[{"type":"session.ended","session_id":"s1"}]`, lease.ErrMalformed},
		"trailing text":             {`{"type":"session.ended","session_id":"s1"}{}`, lease.ErrMalformed},
		"one brace too many":        {`{"type":"session.ended","session_id":"s1"}}`, lease.ErrMalformed},
		"a bracket behind":          {`{"type":"session.ended","session_id":"s1"} ]`, lease.ErrMalformed},
		"half":                      {`{"type":"session.ended"`, lease.ErrMalformed},
		"no type":                   {`{"session_id":"s1"}`, lease.ErrMalformed},
		"type no text":              {`{"type":7,"session_id":"s1"}`, lease.ErrMalformed},
		"type in capitals":          {`{"Type":"session.ended","session_id":"s1"}`, lease.ErrMalformed},
		"unknown type":              {`{"type":"session.renamed","what":"ever"}`, lease.ErrUnknownType},
		"our own type":              {`{"type":"missed"}`, lease.ErrUnknownType},
		"no session":                {`{"type":"session.ended"}`, lease.ErrMalformed},
		"empty session":             {`{"type":"session.ended","session_id":""}`, lease.ErrMalformed},
		"null session":              {`{"type":"session.ended","session_id":null}`, lease.ErrMalformed},
		"session of bad form":       {`{"type":"session.ended","session_id":"a:b"}`, lease.ErrMalformed},
		"session twice":             {`{"type":"session.ended","session_id":"s1","session_id":"s2"}`, lease.ErrMalformed},
		"field of another type":     {`{"type":"session.ended","session_id":"s1","user_id":"ada"}`, lease.ErrMalformed},
		"name in capitals":          {`{"type":"session.ended","SESSION_ID":"s1"}`, lease.ErrMalformed},
		"all members":               {`{"type":"member.removed","organization_id":"acme"}`, lease.ErrMalformed},
		"no organization":           {`{"type":"organization.suspended","organization_id":null}`, lease.ErrMalformed},
		"organization a float":      {`{"type":"organization.suspended","organization_id":7.0}`, lease.ErrMalformed},
		"organization true":         {`{"type":"organization.suspended","organization_id":true}`, lease.ErrMalformed},
		"organization in exponents": {`{"type":"organization.suspended","organization_id":1e3}`, lease.ErrMalformed},
		"role left out":             {`{"type":"member.role","organization_id":"acme","user_id":"ada"}`, lease.ErrMalformed},
		"role of bad form":          {`{"type":"member.role","organization_id":"acme","user_id":"ada","role":"a b"}`, lease.ErrMalformed},
		"user with a space":         {`{"type":"user.disabled","user_id":"a b"}`, lease.ErrMalformed},
		"user with a line end":      {`{"type":"user.disabled","user_id":"a\n"}`, lease.ErrMalformed},
		"user unreadable":           {`{"type":"user.disabled","user_id":"\ud800"}`, lease.ErrMalformed},
		"user empty":                {`{"type":"user.disabled","user_id":""}`, lease.ErrMalformed},
		"organization as a user":    {`{"type":"member.removed","organization_id":"auth0|1","user_id":"ada"}`, lease.ErrMalformed},
		"too long":                  {`{"type":"session.ended","session_id":"s1"` + strings.Repeat(" ", 2<<10) + `}`, lease.ErrMalformed},
		"not UTF-8":                 {"{\"type\":\"session.ended\",\"session_id\":\"\xff\"}", lease.ErrMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := lease.Decode([]byte(test.payload)); !errors.Is(err, test.want) || got != (lease.Message{}) {
				t.Errorf("Decode: got %+v, %v, want error %v", got, err, test.want)
			}
		})
	}
}

// FuzzDecode: an accepted message has only valid identifiers, means the same to encoding/json, and
// survives encoding.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"type":"session.ended","session_id":"s1"}`, `{"type":"user.disabled","user_id":7}`, `{"type":"member.removed","organization_id":"acme","user_id":"ada"}`,
		`{"type":"member.role","organization_id":"acme","user_id":"ada","role":null}`, `{"type":"organization.suspended","organization_id":-1}`,
		`{"type":"organization.switched","session_id":"s1","organization_id":""}`, `{"type":"x"}`, `[]`, `{"type":"session.ended","session_id":"\ud800"}`,
		`{"type":"user.disabled","user_id":"auth0|123"}`, `{"type":"user.disabled","user_id":"\u00fc"}`, `{"type":"user.disabled","user_id":".."}`,
		`{"type":"user.disabled","user_id":"a\u202eb"}`, `{"type":"user.disabled","user_id":"\ud800"}`,
		`{"type":"member.role","organization_id":"acme","user_id":"a@b.c","role":"billing:read"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		m, err := lease.Decode(payload)
		if err != nil {
			if m != (lease.Message{}) {
				t.Errorf("got %+v with error %v", m, err)
			}
			return
		}
		if !json.Valid(payload) {
			t.Errorf("took %q, which is no JSON", payload)
		}
		for _, id := range []string{m.SessionID, m.Organization.String()} {
			if id != "" && !orgctx.ValidID(id) {
				t.Errorf("took %q as an identifier", id)
			}
		}
		if m.UserID != "" && !orgctx.ValidUserID(m.UserID) || m.Role != "" && !orgctx.ValidRole(m.Role) {
			t.Errorf("took %q as a user, %q as a role", m.UserID, m.Role)
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("Marshal: %v", err)
		}
		if again, err := lease.Decode(text); err != nil || again != m {
			t.Errorf("encoded as %s: got %+v, %v, want %+v", text, again, err, m)
		}
	})
}

func ExampleMessage() {
	org, _ := orgctx.ParseID("acme")
	fmt.Println(lease.Message{Type: lease.MemberRemoved, Organization: org, UserID: "ada"})
	// Output: {"organization_id":"acme","type":"member.removed","user_id":"ada"}
}
