package main

import (
	"maps"
	"net"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestRedisTLS: with the authority's certificate and one of its own a gateway works over TLS, with
// user, password and database of the URL, and comes back after Redis was away; and nothing is said
// to a server that cannot prove who it is.
func TestRedisTLS(t *testing.T) {
	server := redistest.StartTLS(t)
	admin := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer admin.Close()
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "gateway", "on", ">hush", "~*", "&*", "+@all").Err(); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(server.TLSAddr)
	if err != nil {
		t.Fatal(err)
	}
	const url = "rediss://gateway:hush@127.0.0.1:"
	whole := environment{
		"ORGCAST_REDIS": url + port + "/3", "ORGCAST_REDIS_TLS_CA": server.CA, "ORGCAST_REDIS_TLS_CERT": server.Cert, "ORGCAST_REDIS_TLS_KEY": server.Key,
	}
	publish := func(env environment) error {
		_, _, err := execute(t, env, "", "publish", "--record", "acme", "all", `{"type":"note"}`)
		return err
	}
	for name, test := range map[string]struct {
		env  environment
		want string // part of the error
	}{
		"as it should be":                       {env: environment{}},
		"the authority is not the system's":     {env: environment{"ORGCAST_REDIS_TLS_CA": ""}, want: "unknown authority"},
		"the server has another name":           {env: environment{"ORGCAST_REDIS": "rediss://gateway:hush@localhost:" + port}, want: "match localhost"},
		"the server asks for a certificate":     {env: environment{"ORGCAST_REDIS_TLS_CERT": "", "ORGCAST_REDIS_TLS_KEY": ""}, want: "certificate required"},
		"the password is another one":           {env: environment{"ORGCAST_REDIS": "rediss://gateway:hash@127.0.0.1:" + port}, want: "WRONGPASS"},
		"without TLS, where only TLS is spoken": {env: environment{"ORGCAST_REDIS": "redis://gateway:hush@127.0.0.1:" + port, "ORGCAST_REDIS_TLS_CA": "", "ORGCAST_REDIS_TLS_CERT": "", "ORGCAST_REDIS_TLS_KEY": ""}, want: "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			env := maps.Clone(whole)
			maps.Copy(env, test.env)
			switch err := publish(env); {
			case test.want == "" && err != nil:
				t.Errorf("got %v, want nil", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}

	s := startServe(t, "127.0.0.1:1", whole)
	s.expectReady()
	c := s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	expectNote := func() {
		t.Helper()
		if err := publish(whole); err != nil {
			t.Fatal(err)
		}
		c.Expect(t, `{"type":"note","organization_id":"acme"}`)
	}
	expectNote()
	server.Pause()
	testkit.Eventually(t, "not ready while Redis hangs", func() bool { status, _ := s.ask("GET", "/readyz", ""); return status == 503 })
	server.Resume()
	s.expectReady()
	expectNote()
}
