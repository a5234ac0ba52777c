package main

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"orgcast/internal/cli"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// provider is an identity provider on a loopback port.
type provider struct {
	*testkit.Issuer

	URL string
}

func startProvider(tb testing.TB) *provider {
	tb.Helper()
	p := &provider{Issuer: testkit.NewIssuer()}
	server := httptest.NewServer(p)
	tb.Cleanup(server.Close)
	p.URL = server.URL + "/.well-known/jwks.json"
	return p
}

// settings returns those of a gateway that reads its tokens.
func (p *provider) settings(more environment) environment {
	env := environment{
		"ORGCAST_SESSION_STORE": "jwt", "ORGCAST_JWT_JWKS_URL": p.URL, "ORGCAST_JWT_ISSUER": testkit.IssuerName, "ORGCAST_JWT_AUDIENCE": testkit.Audience,
		"ORGCAST_SESSION_KEYS": "", "ORGCAST_DIRECTORY": "", "ORGCAST_LEASE_PERIOD": "200ms", "ORGCAST_LEASE_DEADLINE": "1h",
	}
	maps.Copy(env, more)
	return env
}

// token returns a token for an hour.
func (p *provider) token(user, org, role string) string {
	return p.Token(testkit.Claims(user, org, time.Now().Add(time.Hour)), map[string]any{"role": role, "sid": "s-" + user})
}

// TestTokensDecide: with --session-store=jwt a token opens connections and names the role, a newer one prolongs them, and a
// revocation of the session ends them.
func TestTokensDecide(t *testing.T) {
	p := startProvider(t)
	addr := redistest.Start(t)
	s := startServe(t, addr, p.settings(environment{"ORGCAST_EVENTS_POLICY": "admins=role:admin, *=member"}))
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	native := func(token string) testkit.Handshake {
		return testkit.Handshake{Path: "/ws/events", Header: http.Header{"Authorization": {"Bearer " + token}}}
	}
	page := func(token string) testkit.Handshake {
		return testkit.Handshake{Path: "/ws/events", Header: http.Header{"Origin": {testOrigin}, "Sec-Websocket-Protocol": {"orgcast.jwt." + token}}}
	}
	admin := testkit.Connect(t, dial, native(p.token("ada", "acme", "admin")))
	if got := say(t, admin, `{"type":"subscribe","group":"admins"}`); !testkit.SameJSON(got, `{"type":"subscribed","group":"admins"}`) {
		t.Errorf("an admin got %s", got)
	}
	viewer := testkit.Connect(t, dial, page(p.token("eve", "acme", "viewer")))
	if got := say(t, viewer, `{"type":"subscribe","group":"admins"}`); code(got) != "unknown_group" {
		t.Errorf("a viewer got %s, want unknown_group", got)
	}
	if got := say(t, admin, `{"type":"token","token":"`+p.token("ada", "acme", "admin")+`"}`); !strings.Contains(got, `"token_accepted"`) {
		t.Errorf("a newer token: got %s, want token_accepted", got)
	}
	if got := say(t, admin, `{"type":"token","token":"`+p.token("eve", "acme", "viewer")+`"}`); code(got) != "token_refused" {
		t.Errorf("a token of another user: got %s, want token_refused", got)
	}
	if _, answer := testkit.Try(t, dial, native(p.token("ada", "acme", "")+"x")); answer.Status != 401 {
		t.Errorf("a forged token: got %d %s, want 401", answer.Status, answer.Body)
	}
	if _, _, err := execute(t, environment{"ORGCAST_REDIS": "redis://" + addr, "ORGCAST_SESSION_STORE": "jwt"}, "", "revoke", "session", "s-ada"); err != nil {
		t.Fatal(err)
	}
	admin.ExpectClose(t, 4401)
	if _, answer := testkit.Try(t, dial, native(p.token("ada", "acme", "admin"))); answer.Status != 401 {
		t.Errorf("a newer token of a session that was ended: got %d %s, want 401", answer.Status, answer.Body)
	}
	if log := s.log.String(); strings.Contains(log, "eyJ") {
		t.Errorf("the log shows a token:\n%s", log)
	}
	if _, metrics := s.ask("GET", "/metrics", ""); !strings.Contains(metrics, `orgcast_outgoing_calls_total{purpose="jwks",result="answered"} 1`) {
		t.Errorf("metrics do not show one call to the provider:\n%s", metrics)
	}
}

// TestNotReadyWithoutKeys: nobody could connect while there are no keys of the provider.
func TestNotReadyWithoutKeys(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	p.SetAway(true)
	s := startServe(t, redistest.Start(t), p.settings(nil))
	testkit.Eventually(t, "the reason is shown", func() bool {
		status, body := s.ask("GET", "/readyz", "")
		return status == http.StatusServiceUnavailable && strings.Contains(body, "identity provider")
	})
	p.SetAway(false)
	s.expectReady()
}

func TestJWTSettings(t *testing.T) {
	p := startProvider(t)
	good := p.settings(environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_REDIS": "redis://" + redistest.Start(t)})
	for name, test := range map[string]struct {
		args []string
		says []string
		err  error
	}{
		"complete":         {[]string{"check", "--connect"}, []string{"session store     ok", "ends no token that was issued before", "begins with http://", "directory         not needed"}, nil},
		"next to a cookie": {[]string{"check", "--session-store=jwt,http", "--session-cookie=sessionid", "--session-url=http://a.test/i", "--session-url-key=" + testPublishKey}, []string{"No mistakes found"}, nil},
		"too many cookies": {[]string{"check", "--session-store=jwt,redis", "--session-cookie=a,b"}, []string{"except jwt", "1 stores, 2 cookies"}, cli.ErrUsage},
		"no keys":          {[]string{"check", "--jwt-jwks-url="}, []string{"--jwt-jwks-url: required"}, cli.ErrUsage},
		"no issuer":        {[]string{"check", "--jwt-issuer="}, []string{"--jwt-issuer: required"}, cli.ErrUsage},
		"no audience":      {[]string{"check", "--jwt-audience="}, []string{"--jwt-audience: required"}, cli.ErrUsage},
		"not a URL":        {[]string{"check", "--jwt-jwks-url=id.example.com"}, []string{"--jwt-jwks-url"}, cli.ErrUsage},
		"token is read":    {[]string{"session", "read", p.token("ada", "acme", "")}, []string{"user          ada", "organization  acme", "session       s-ada"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			env := maps.Clone(good)
			if test.args[0] == "session" {
				delete(env, "ORGCAST_ORIGINS")
			}
			stdout, stderr, err := execute(t, env, "", test.args...)
			if !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			for _, want := range test.says {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("output does not tell of %q:\n%s%s", want, stdout, stderr)
				}
			}
		})
	}
}
