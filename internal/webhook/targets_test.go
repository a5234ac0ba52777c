package webhook_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orgcast/internal/keyspace"
	"orgcast/internal/outgoing"
	"orgcast/internal/testkit"
	"orgcast/internal/webhook"
)

// TestMain makes the system trust the certificate of test servers, because calls trust no other.
func TestMain(m *testing.M) {
	s := httptest.NewTLSServer(nil)
	path := certificateFile()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	s.Close()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		panic(err)
	}
	if err := os.Setenv("SSL_CERT_FILE", path); err != nil {
		panic(err)
	}
	if _, err := x509.SystemCertPool(); err != nil { // reads the file, once for all
		panic(err)
	}
	if err := os.Remove(path); err != nil {
		panic(err)
	}
	testkit.Main(m)
}

func certificateFile() string {
	return filepath.Join(os.TempDir(), fmt.Sprint("orgcast-webhook-", os.Getpid(), ".pem"))
}

// TestTheCertificateFileIsGone: each run of the tests makes one.
func TestTheCertificateFileIsGone(t *testing.T) {
	if _, err := os.Stat(certificateFile()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: got %v, want no such file", certificateFile(), err)
	}
}

// callsTo returns a client of calls that may lead URLs of organizations to networks.
func callsTo(tb testing.TB, networks ...string) *outgoing.Client {
	tb.Helper()
	var o outgoing.Options
	for _, text := range networks {
		o.PrivateNetworks = append(o.PrivateNetworks, netip.MustParsePrefix(text))
	}
	c := outgoing.New(o)
	tb.Cleanup(c.Close)
	return c
}

func mustKeys(tb testing.TB, text string) outgoing.Keys {
	tb.Helper()
	k, err := outgoing.ParseKeys(text)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// TestTwoOrganizations: each with its own receiver, equal users and equal group names. No receiver gets
// the other's webhooks, and no signature of one verifies with the key of the other.
func TestTwoOrganizations(t *testing.T) {
	client, keys := redisClient(t), testkit.Keys(t)
	acme, globex, others := newTLSReceiver(t), newTLSReceiver(t), newReceiver(t)
	own := "whsec_" + strings.Repeat("c2VjcmV0", 5)
	set := func(org string, values ...any) {
		if err := client.HSet(t.Context(), keys.Organization(testkit.Org(t, org)), values...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("acme", "webhook_url", acme.URL)
	set("globex", "webhook_url", globex.URL, "webhook_key", own)
	n := startNode(t, setup{client: client, url: others.URL, own: true, calls: callsTo(t, "127.0.0.0/8")})
	for _, org := range []string{"acme", "globex", "initech"} {
		n.recorder.Connected(conn(t, org, "ada", "0"))
		n.comes(testkit.Group(t, org, "room.1"))
	}
	all := map[string]*receiver{"acme": acme, "globex": globex, "initech": others}
	testkit.Eventually(t, "each receiver has two", func() bool {
		return len(acme.accepted()) == 2 && len(globex.accepted()) == 2 && len(others.accepted()) == 2
	})
	derived := func(org string) string { return webhook.DeriveKeys(testkit.Org(t, org), []string{master}) }
	for org, r := range all {
		for _, d := range r.all() {
			if d.Organization != org {
				t.Errorf("%s: got %s", org, d.Body)
			}
			for whose, text := range map[string]string{"acme": derived("acme"), "globex": own, "initech": derived("initech"), "globex's derived": derived("globex")} {
				err := mustKeys(t, text).Verify(d.Header, []byte(d.Body), time.Now())
				if (err == nil) != (whose == org) {
					t.Errorf("%s's webhook with the key of %s: got %v", org, whose, err)
				}
			}
		}
	}
	for org, want := range map[string]string{"acme": derived("acme"), "globex": own} {
		if got, err := webhook.ReadKeys(t.Context(), client, keys, testkit.Org(t, org), []string{master}); err != nil || got != want {
			t.Errorf("key of %s: got %s, %v, want %s", org, got, err, want)
		}
	}
}

// TestReceiversOfOrganizations: which URLs of organizations are called.
func TestReceiversOfOrganizations(t *testing.T) {
	tls, plain := newTLSReceiver(t), newReceiver(t)
	_, port, _ := strings.Cut(strings.TrimPrefix(tls.URL, "https://"), ":")
	for name, test := range map[string]struct {
		url      string
		networks []string
		off      bool
		reason   string // empty if it is called
	}{
		"a private address":           {url: tls.URL, reason: "private_address"},
		"a name of a private address": {url: "https://localhost:" + port, reason: "private_address"},
		"a number":                    {url: "https://2130706433:" + port, reason: "unreachable"},
		"a listed network":            {url: tls.URL, networks: []string{"127.0.0.0/8"}},
		"another listed network":      {url: tls.URL, networks: []string{"10.0.0.0/8"}, reason: "private_address"},
		"without TLS":                 {url: plain.URL, networks: []string{"127.0.0.0/8"}, reason: "misconfigured"},
		"not allowed by the operator": {url: tls.URL, networks: []string{"127.0.0.0/8"}, off: true, reason: "no_receiver"},
		"not a URL":                   {url: "https://", reason: "misconfigured"},
		"with a password":             {url: strings.Replace(tls.URL, "//", "//u:p@", 1), networks: []string{"127.0.0.0/8"}, reason: "misconfigured"},
	} {
		t.Run(name, func(t *testing.T) {
			client, keys, org := redisClient(t), testkit.Keys(t), testkit.Org(t, "acme")
			before := len(tls.all()) + len(plain.all())
			// It is written by a node that knows of a receiver.
			writer := startNode(t, setup{client: client, url: plain.URL, silent: true})
			writer.recorder.Connected(conn(t, "acme", "ada", "0"))
			testkit.Eventually(t, "it waits", func() bool { return writer.metric("orgcast_webhooks", "waiting") == 1 })
			if err := client.HSet(t.Context(), keys.Organization(org), "webhook_url", test.url).Err(); err != nil {
				t.Fatal(err)
			}
			n := startNode(t, setup{client: client, own: !test.off, calls: callsTo(t, test.networks...), deliver: webhook.DelivererOptions{RetryFor: time.Nanosecond}})
			if test.reason == "" {
				testkit.Eventually(t, "it is delivered", func() bool { return len(tls.all())+len(plain.all()) == before+1 })
				return
			}
			testkit.Eventually(t, "it is dead", func() bool { return n.metric("orgcast_webhooks", "dead") == 1 })
			list, err := webhook.NewLetters(client, keys).List(t.Context(), org, "", 10)
			if err != nil || len(list) != 1 || list[0].Reason != test.reason {
				t.Errorf("got %+v, %v, want the reason %s", list, err, test.reason)
			}
			if got := len(tls.all()) + len(plain.all()); got != before {
				t.Errorf("the receiver was called %d times", got-before)
			}
		})
	}
}

// TestNobodyListens: without a receiver, nothing is written.
func TestNobodyListens(t *testing.T) {
	client, r := redisClient(t), newTLSReceiver(t)
	keys := testkit.Keys(t)
	if err := client.HSet(t.Context(), keys.Organization(testkit.Org(t, "acme")), "webhook_url", r.URL).Err(); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, setup{client: client, own: true, calls: callsTo(t, "127.0.0.0/8")})
	n.recorder.Connected(conn(t, "globex", "ada", "0"))
	n.recorder.Connected(conn(t, "acme", "ada", "0"))
	n.comes(testkit.Group(t, "globex", "room.1"))
	testkit.Eventually(t, "one is delivered, and the group is counted", func() bool { return len(r.accepted()) == 1 && n.groupsInRedis() == 1 })
	if got := n.metric("orgcast_webhooks_total", ""); got != 1 {
		t.Errorf("got %v webhooks, want 1", got)
	}
}

// TestKeysInExchange: while there are two master keys, each webhook verifies with either.
func TestKeysInExchange(t *testing.T) {
	r := newReceiver(t)
	n := startNode(t, setup{client: redisClient(t), url: r.URL})
	next := "the next master key of these tests, also of 32 bytes"
	n.targets.SetMasters([]string{next, master})
	n.recorder.Connected(conn(t, "acme", "ada", "0"))
	testkit.Eventually(t, "it is delivered", func() bool { return len(r.accepted()) == 1 })
	d := r.accepted()[0]
	for _, m := range []string{next, master} {
		if err := mustKeys(t, webhook.DeriveKeys(testkit.Org(t, "acme"), []string{m})).Verify(d.Header, []byte(d.Body), time.Now()); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
	if got := len(strings.Fields(d.Signature)); got != 2 {
		t.Errorf("got %d signatures, want 2", got)
	}
}

// TestNoKey: without a key nothing is sent: a receiver must not get used to calls that anybody could
// have made.
func TestNoKey(t *testing.T) {
	client, r := redisClient(t), newReceiver(t)
	n := startNode(t, setup{client: client, url: r.URL, deliver: webhook.DelivererOptions{RetryFor: time.Nanosecond}})
	n.targets.SetMasters(nil)
	n.recorder.Connected(conn(t, "acme", "ada", "0"))
	testkit.Eventually(t, "it is dead", func() bool { return n.metric("orgcast_webhooks", "dead") == 1 })
	if len(r.all()) != 0 {
		t.Errorf("got %v", r.all())
	}
	if _, err := webhook.ReadKeys(t.Context(), client, testkit.Keys(t), testkit.Org(t, "acme"), nil); err == nil {
		t.Error("a key without a master key")
	}
}

// TestDerivedKey: the key of an organization, as other programs would compute it.
func TestDerivedKey(t *testing.T) {
	const want = "whsec_Zflbh4sYNBkLBqO55Oftg3rZMz7/txvLwmMYVfnv2Y4="
	if got := webhook.DeriveKeys(testkit.Org(t, "acme"), []string{"0123456789abcdef0123456789abcdef"}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestUsersAreEscaped: no two users share a line, whatever characters their ids have.
func TestUsersAreEscaped(t *testing.T) {
	lines := make(map[string]string)
	for _, user := range []string{"ada", "ada:x", "ada%3Ax", "ü", "a|b", ".."} {
		line := keyspace.WebhookUserLine(user)
		if other, ok := lines[line]; ok {
			t.Errorf("%s and %s share %s", user, other, line)
		}
		lines[line] = user
	}
}
