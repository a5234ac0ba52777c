package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"orgcast/internal/testkit"
)

// TestSessionsRefused tries cookies of each store that must not open a connection. Where there are two stores, the
// browser also has a good cookie of somebody else, which must make no difference.
func TestSessionsRefused(t *testing.T) { eachWay(t, sessionsRefusedOn) }

func sessionsRefusedOn(t *testing.T, on way) {
	t.Helper()
	n := startNode(t, on.setup())
	good := n.cookie("ada", "acme")
	value := n.vault.value(good)
	ended := n.cookie("ada", "acme")
	if n.vault.signOut == nil {
		ended = n.vault.loginUntil("ada", "acme", time.Now())
	} else {
		n.vault.signOut(ended)
	}
	for name, test := range map[string]struct {
		cookies []string // header lines
		status  int
		code    string
	}{
		"no cookie":                {nil, 401, "unauthenticated"},
		"another cookie":           {[]string{"another=" + value}, 401, "unauthenticated"},
		"empty cookie":             {[]string{n.vault.name + "="}, 401, "unauthenticated"},
		"tampered cookie":          {[]string{n.vault.with(good, tamper(value))}, 401, "unauthenticated"},
		"cut cookie":               {[]string{n.vault.with(good, value[:len(value)-8])}, 401, "unauthenticated"},
		"not of a cookie's bytes":  {[]string{n.vault.with(good, "\xff")}, 401, "unauthenticated"},
		"expired":                  {[]string{n.vault.loginUntil("ada", "acme", time.Now().Add(-time.Minute))}, 401, "unauthenticated"},
		"ended":                    {[]string{ended}, 401, "unauthenticated"},
		"wrong one of two cookies": {[]string{strings.Join(n.vault.withWrongOne(good), "; ")}, 401, "unauthenticated"},
		"wrong one of two headers": {n.vault.withWrongOne(good), 401, "unauthenticated"},
		"suspended member":         {[]string{n.cookie("sam", "acme")}, 403, "forbidden"},
		"suspended organization":   {[]string{n.cookie("ian", "initech")}, 403, "forbidden"},
		"unknown organization":     {[]string{n.cookie("ada", "nowhere")}, 403, "forbidden"},
		"not a member":             {[]string{n.cookie("grace", "acme")}, 403, "forbidden"},
		"no organization":          {[]string{n.cookie("ada", "")}, 403, "forbidden"},
		"directory down":           {[]string{n.cookie("ada", "down")}, 503, "overloaded"},
	} {
		t.Run(name, func(t *testing.T) {
			h := on.over.handshake("/ws/events", http.Header{"Origin": {origin}, "Cookie": test.cookies})
			n.expectRefused(t, h, test.status, test.code, test.status == http.StatusServiceUnavailable)
		})
	}
	on.over.connect(t, n.dial, "/ws/events", http.Header{"Origin": {origin}, "Cookie": {good}})
}

// TestFirstOfTwoStoresDecides: a browser with cookies of two stores, and two users, is the user of the first one, in
// whatever order the cookies stand. Nothing that the first store refuses or cannot say makes it the other user.
func TestFirstOfTwoStoresDecides(t *testing.T) { overEach(t, firstOfTwoStoresDecidesOver) }

func firstOfTwoStoresDecidesOver(t *testing.T, over via) {
	t.Helper()
	n := startNode(t, setup{over: over, store: storeKind{open: severalVault}})
	both := n.cookie("ada", "acme")
	site, own, _ := strings.Cut(both, "; ")
	subscribe := func(cookies string) *testkit.Client {
		return over.subscribe(t, n.dial, http.Header{"Origin": {origin}, "Cookie": {cookies}}, "all")
	}
	ada := []*testkit.Client{subscribe(both), subscribe(own + "; " + site), subscribe(site)}
	grace := subscribe(own)
	for _, c := range ada {
		defer c.Close()
	}
	acme, globex := n.publish("acme", "all", "for ada"), n.publish("globex", "all", "for grace")
	for _, c := range ada {
		c.Expect(t, acme)
	}
	grace.Expect(t, globex)
	handshake := func(cookies string) testkit.Handshake {
		return over.handshake("/ws/events", http.Header{"Origin": {origin}, "Cookie": {cookies}})
	}
	n.vault.stop()
	n.expectRefused(t, handshake(both), 503, "overloaded", true)
	subscribe(own) // the other store works
	n.vault.resume()
	n.vault.signOut(both)
	n.expectRefused(t, handshake(both), 401, "unauthenticated", false)
	n.expectRefused(t, handshake(own+"; "+site), 401, "unauthenticated", false)
}
