package outgoing_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"orgcast/internal/outgoing"
	"orgcast/internal/testkit"
)

// TestPrivateAddresses: a URL of an organization leads to no private address, in whatever spelling,
// unless the operator lists the network; a URL of the operator does.
func TestPrivateAddresses(t *testing.T) {
	var calls atomic.Int32
	s := receive(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) })
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "2130706433", "0x7f.1", "127.1"} {
		e := newEndpoint(t, newClient(t, "10.0.0.0/8"), outgoing.EndpointOptions{URL: "http://" + host + ":" + port, FromOrganization: true})
		if _, err := post(t, e, "acme"); err == nil {
			t.Errorf("%s: no error", host)
		}
	}
	if calls.Load() != 0 {
		t.Fatalf("%d calls reached a private address", calls.Load())
	}
	listed := newEndpoint(t, newClient(t, "127.0.0.0/8"), outgoing.EndpointOptions{URL: s.URL, FromOrganization: true})
	operators := newEndpoint(t, newClient(t), outgoing.EndpointOptions{URL: s.URL})
	for what, e := range map[string]*outgoing.Endpoint{"listed": listed, "operator's": operators} {
		if _, err := post(t, e, "acme"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestConnectionsAreNotShared: a connection that waits after an operator's call never serves an
// organization's URL.
func TestConnectionsAreNotShared(t *testing.T) {
	s := receive(t, func(http.ResponseWriter, *http.Request) {})
	c := newClient(t)
	if _, err := post(t, newEndpoint(t, c, outgoing.EndpointOptions{URL: s.URL}), "acme"); err != nil {
		t.Fatal(err)
	}
	_, err := post(t, newEndpoint(t, c, outgoing.EndpointOptions{URL: s.URL, FromOrganization: true}), "acme")
	if !errors.Is(err, outgoing.ErrPrivateAddress) {
		t.Errorf("got %v, want %v", err, outgoing.ErrPrivateAddress)
	}
	if err != nil && strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("the error says where the name led: %v", err)
	}
}

// TestRebinding: a name that resolves to an allowed address at first and to a private one later is
// refused then.
func TestRebinding(t *testing.T) {
	var private atomic.Int32
	h := func(_ http.ResponseWriter, r *http.Request) {
		if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && strings.HasPrefix(addr.String(), "127.0.0.1:") {
			private.Add(1)
		}
	}
	var listening net.ListenConfig
	l, err := listening.Listen(t.Context(), "tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(h)}}
	s.Start()
	t.Cleanup(s.Close)
	names := newNameServer(t)
	c := newClient(t)
	c.Resolve(t, names.resolver())
	_, port, _ := net.SplitHostPort(l.Addr().String())
	e := newEndpoint(t, c, outgoing.EndpointOptions{URL: "http://rebind.example:" + port, FromOrganization: true, Timeout: testkit.Patience})
	names.answer.Store(&[4]byte{127, 0, 0, 2})
	if _, err := post(t, e, "acme"); err != nil {
		t.Fatalf("while the name leads to an allowed address: %v", err)
	}
	c.Close() // the connection that waits leads to the allowed address still
	names.answer.Store(&[4]byte{127, 0, 0, 1})
	if _, err := post(t, e, "acme"); !errors.Is(err, outgoing.ErrPrivateAddress) || private.Load() != 0 {
		t.Errorf("got %v, and %d calls to the private address", err, private.Load())
	}
}

// nameServer answers every question for an IPv4 address with one.
type nameServer struct {
	conn   net.PacketConn
	answer atomic.Pointer[[4]byte]
}

func newNameServer(tb testing.TB) *nameServer {
	tb.Helper()
	var listening net.ListenConfig
	conn, err := listening.ListenPacket(tb.Context(), "udp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	n := &nameServer{conn: conn}
	var wg sync.WaitGroup
	wg.Go(n.serve)
	tb.Cleanup(func() { _ = conn.Close(); wg.Wait() })
	return n
}

func (n *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp4", n.conn.LocalAddr().String())
	}}
}

func (n *nameServer) serve() {
	buf := make([]byte, 1500)
	for {
		size, from, err := n.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.Authoritative, m.Additionals = true, true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: &dnsmessage.AResource{A: *n.answer.Load()},
			}}
		}
		if b, err := m.Pack(); err == nil {
			_, _ = n.conn.WriteTo(b, from)
		}
	}
}

func TestAllows(t *testing.T) {
	for text, want := range map[string]bool{
		"93.184.215.14": true, "8.8.8.8": true, "2606:2800:21f:cb07:6820:80da:af6b:8b2c": true, "::ffff:93.184.215.14": true,
		"10.1.2.3": false, "172.16.0.1": false, "172.31.255.255": false, "172.32.0.1": true, "192.168.1.1": false, "127.0.0.1": false,
		"169.254.169.254": false, "100.64.0.1": false, "100.128.0.1": true, "0.0.0.0": false, "224.0.0.1": false, "255.255.255.255": false,
		"198.18.0.1": false, "192.0.2.1": false, "::1": false, "::": false, "fe80::1": false, "fc00::1": false, "fd00:ec2::254": false,
		"ff02::1": false, "::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "2002:a00:1::": false, "2001:db8::1": false, "2001::1": false,
		"fe80::1%eth0": false, "2606:4700::1%1": false, "10.200.0.1": true, "::ffff:10.200.0.1": true, "fd12::1": true,
	} {
		networks := []netip.Prefix{netip.MustParsePrefix("10.200.0.0/16"), netip.MustParsePrefix("fd12::/16")}
		if got := outgoing.Allows(networks, netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: got %t, want %t", text, got, want)
		}
	}
}
