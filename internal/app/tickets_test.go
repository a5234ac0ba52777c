package app

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"
)

// TestTicketsOfOtherNodes: a browser resumes at any node that has the same secret, for one to two
// periods, even if the clock of that node is a little ahead or behind, and at no other one.
func TestTicketsOfOtherNodes(t *testing.T) {
	const secret, other = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	start := time.Unix(1_800_000_000, 0).Truncate(ticketPeriod) // a boundary of periods
	for name, test := range map[string]struct {
		secret string
		after  time.Duration
		want   bool
	}{
		"at once":                       {secret, 0, true},
		"in the next period":            {secret, ticketPeriod, true},
		"at the end of the next period": {secret, 2*ticketPeriod - time.Second, true},
		"in the one after it":           {secret, 2 * ticketPeriod, false},
		"a clock that is behind":        {secret, -time.Minute, true},
		"a clock far behind":            {secret, -ticketPeriod - time.Second, false},
		"another secret":                {other, 0, false},
		"no secret":                     {"", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				client := &tls.Config{ServerName: "127.0.0.1", ClientSessionCache: tls.NewLRUClientSessionCache(1), MinVersion: version, MaxVersion: version}
				if ticketed(secret, start).accept(t, client) {
					t.Fatal("the first handshake was resumed")
				}
				if got := ticketed(test.secret, start.Add(test.after)).accept(t, client); got != test.want {
					t.Errorf("%s: resumed: got %v, want %v", tls.VersionName(version), got, test.want)
				}
			}
		})
	}
}

// TestTicketsAfterReload: a new secret takes effect at once, and the same one changes nothing.
func TestTicketsAfterReload(t *testing.T) {
	const secret, next = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	node := ticketed(secret, time.Unix(1_800_000_000, 0))
	client := &tls.Config{ServerName: "127.0.0.1", ClientSessionCache: tls.NewLRUClientSessionCache(1), MinVersion: tls.VersionTLS13}
	for i, step := range []struct {
		secret string
		want   bool
	}{{secret, false}, {secret, true}, {next, false}, {next, true}, {"", false}} {
		node.tickets.set(step.secret)
		if got := node.accept(t, client); got != step.want {
			t.Errorf("handshake %d: resumed: got %v, want %v", i, got, step.want)
		}
	}
}

// ticketed returns the certificate of a node whose clock stands still.
func ticketed(secret string, now time.Time) *certificate {
	c := new(certificate)
	c.tickets.now = func() time.Time { return now }
	c.tickets.set(secret)
	return c
}

// accept does one handshake, and reports whether it was resumed.
func (c *certificate) accept(t *testing.T, client *tls.Config) bool {
	t.Helper()
	c.current.Store(testCertificate(t))
	client.RootCAs = x509.NewCertPool()
	leaf, err := x509.ParseCertificate(c.current.Load().Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	client.RootCAs.AddCert(leaf)
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close(); _ = theirs.Close() }()
	go func() {
		s := tls.Server(ours, c.config())
		_, _ = s.Write([]byte("x")) // after the ticket
	}()
	secure := tls.Client(theirs, client)
	if _, err := io.ReadFull(secure, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return secure.ConnectionState().DidResume
}

// testCertificate returns a certificate of 127.0.0.1.
func testCertificate(t *testing.T) *tls.Certificate {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return &s.TLS.Certificates[0]
}
