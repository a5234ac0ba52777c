package demo_test

import (
	"net/http"
	"testing"

	"orgcast/internal/demo"
	"orgcast/internal/directory"
	"orgcast/internal/lease"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

// newRights returns a demo with a directory and sessions in Redis, and what waits for its next
// announcement.
func newRights(t *testing.T) (h http.Handler, announced func() lease.Message) {
	t.Helper()
	client := newRedis(t)
	ctx := t.Context()
	keys := testkit.Keys(t)
	if err := demo.Seed(ctx, client, keys); err != nil {
		t.Fatal(err)
	}
	store, err := session.NewRedisStore(client, keys, session.Options{Name: cookieName, Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	members, err := directory.NewRedis(client, keys)
	if err != nil {
		t.Fatal(err)
	}
	o := newTown().options()
	o.Minter, o.Sessions, o.Membership = store, store, members
	o.Authority = &demo.Authority{Sessions: store, Members: members, Announcer: lease.NewAnnouncer(client, keys)}
	h, err = demo.Handler(o)
	if err != nil {
		t.Fatal(err)
	}
	control := client.Subscribe(ctx, keys.Control())
	t.Cleanup(func() { _ = control.Close() })
	if _, err := control.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	announced = func() lease.Message {
		t.Helper()
		received, err := control.ReceiveMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		m, err := lease.Decode([]byte(received.Payload))
		if err != nil {
			t.Fatalf("announced %s: %v", received.Payload, err)
		}
		return m
	}
	return h, announced
}

// TestRights: each change is in the record, and is announced unless the page asks to be quiet.
func TestRights(t *testing.T) {
	t.Parallel()
	h, announced := newRights(t)
	ctx := t.Context()
	mira, other := signIn(t, h, "mira", "left"), signIn(t, h, "mira", "right")
	act := func(what, body string, status int) {
		t.Helper()
		if resp := do(h, postJSON("/demo/"+what, body, mira, other)); resp.StatusCode != status {
			t.Fatalf("%s %s: got status %d, want %d", what, body, resp.StatusCode, status)
		}
	}
	who := func(status int) {
		t.Helper()
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "/demo/who?seat=left", http.NoBody)
		r.AddCookie(mira)
		if resp := do(h, r); resp.StatusCode != status {
			t.Errorf("who: got status %d, want %d", resp.StatusCode, status)
		}
	}
	who(200)
	act("switch", `{"seat":"left","organization_id":"nowhere"}`, 403)
	act("switch", `{"seat":"left","organization_id":""}`, 400)
	act("switch", `{"seat":"left","organization_id":"globex","quiet":true}`, 200)
	act("switch", `{"seat":"left","organization_id":"acme"}`, 200) // the quiet one was not announced
	if m := announced(); m.Type != lease.OrganizationSwitched || m.Organization.String() != "acme" || m.SessionID != session.DeriveID(mira.Value) {
		t.Errorf("switch: announced %v", m)
	}
	act("member", `{"seat":"left","active":false}`, 200)
	if m := announced(); m.Type != lease.MemberRemoved || m.Organization.String() != "acme" || m.UserID != "mira" {
		t.Errorf("member: announced %v", m)
	}
	who(403)
	act("member", `{"seat":"left","active":true}`, 200)
	who(200)
	act("organization", `{"seat":"left","active":false}`, 200)
	if m := announced(); m.Type != lease.OrganizationSuspended || m.Organization.String() != "acme" {
		t.Errorf("organization: announced %v", m)
	}
	who(403)
	act("organization", `{"seat":"left","active":true}`, 200)
	who(200)
	act("sign-out", `{"seat":"left"}`, 200)
	if m := announced(); m.Type != lease.SessionEnded || m.SessionID != session.DeriveID(mira.Value) {
		t.Errorf("sign-out: announced %v", m)
	}
	who(401)
	act("sign-out", `{"seat":"left"}`, 401)
	act("member", `{"seat":"right","active":true}`, 200) // one device's logout leaves the other alone
	act("switch", `{"seat":"left!","organization_id":"acme"}`, 400)
	act("switch", `{"seat":"left","user":"ada"}`, 400)
	form := postJSON("/demo/sign-out", `seat=right`, other)
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	checkRefusal(t, do(h, form), 415, "bad_request")
	foreign := postJSON("/demo/sign-out", `{"seat":"right"}`, other)
	foreign.Header.Set("Sec-Fetch-Site", "cross-site")
	checkRefusal(t, do(h, foreign), 403, "foreign_origin")
	// Without an authority there is nothing to ask.
	checkRefusal(t, do(newHandler(t, newTown()), postJSON("/demo/sign-out", `{}`)), 404, "not_found")
}

// TestSeatOfAnotherPerson: who signs in at a seat ends the session of someone else there, so that
// no tab is one person on its socket and another in what it asks for. The same person keeps the
// session.
func TestSeatOfAnotherPerson(t *testing.T) {
	t.Parallel()
	h, announced := newRights(t)
	ada := signIn(t, h, "ada", "left")
	again := do(h, postJSON("/demo/sign-in", `{"user":"ada","seat":"left"}`, ada))
	if again.StatusCode != http.StatusOK || len(again.Cookies()) != 0 {
		t.Errorf("the same person: got status %d and %d cookies, want 200 and none", again.StatusCode, len(again.Cookies()))
	}
	other := do(h, postJSON("/demo/sign-in", `{"user":"alan","seat":"left"}`, ada))
	if other.StatusCode != http.StatusOK || len(other.Cookies()) != 1 {
		t.Fatalf("another person: got status %d and %d cookies, want 200 and one", other.StatusCode, len(other.Cookies()))
	}
	if m := announced(); m.Type != lease.SessionEnded || m.SessionID != session.DeriveID(ada.Value) {
		t.Errorf("announced %v, want the end of ada's session", m)
	}
	who := func(c *http.Cookie) int {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/demo/who?seat=left", http.NoBody)
		r.AddCookie(c)
		return do(h, r).StatusCode
	}
	if got := who(ada); got != http.StatusUnauthorized {
		t.Errorf("ada: got status %d, want 401", got)
	}
	if got := who(other.Cookies()[0]); got != http.StatusOK {
		t.Errorf("alan: got status %d, want 200", got)
	}
	// The browser's real cookie is nobody's seat: each sign-in is a separate session.
	jar := signIn(t, h, "ada", "")
	if next := do(h, postJSON("/demo/sign-in", `{"user":"ada","seat":""}`, jar)); len(next.Cookies()) != 1 || next.Cookies()[0].Value == jar.Value {
		t.Error("without a seat: got no session of its own")
	}
}

// TestReset: whatever was suspended or removed is as at the start, even if nobody can sign in
// anymore.
func TestReset(t *testing.T) {
	t.Parallel()
	h, announced := newRights(t)
	greta := signIn(t, h, "greta", "left")
	for what, body := range map[string]string{"member": `{"seat":"left"}`, "organization": `{"seat":"left"}`} {
		if resp := do(h, postJSON("/demo/"+what, body, greta)); resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: got status %d", what, resp.StatusCode)
		}
		announced()
	}
	who := func(want int, code string) {
		t.Helper()
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/demo/who?seat=left", http.NoBody)
		r.AddCookie(greta)
		resp := do(h, r)
		if want == http.StatusOK && resp.StatusCode == want {
			return
		}
		checkRefusal(t, resp, want, code)
	}
	who(http.StatusForbidden, "organization_suspended")
	if resp := do(h, postJSON("/demo/reset", `{}`)); resp.StatusCode != http.StatusOK {
		t.Fatalf("reset: got status %d", resp.StatusCode)
	}
	who(http.StatusOK, "")
}
