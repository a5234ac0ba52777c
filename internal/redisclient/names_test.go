package redisclient_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"orgcast/internal/redisclient"
	"orgcast/internal/testkit"
)

// nameServer answers questions for addresses. The zero answer is that there is no such host.
type nameServer struct {
	t    *testing.T
	conn net.PacketConn

	mu     sync.Mutex
	answer netip.Addr
	fails  bool // with a failure of the server
	silent bool
	keeps  int           // so many questions are kept
	kept   chan struct{} // closed when they are
	late   []func()      // answers them
	asked  chan struct{} // closed at the first question
}

func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{t: t, conn: conn, asked: make(chan struct{}), kept: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(s.serve)
	t.Cleanup(func() {
		conn.Close()
		serving.Wait()
	})
	return s
}

// resolver returns one that asks this server alone.
func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

func (s *nameServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *nameServer) serve() {
	var first sync.Once
	for buf := make([]byte, 1500); ; {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		s.mu.Lock()
		packet := s.reply(buf[:n])
		answer := func() { _, _ = s.conn.WriteTo(packet, from) }
		switch {
		case s.keeps > 0:
			if s.late = append(s.late, answer); len(s.late) == s.keeps {
				close(s.kept)
			}
		case packet != nil:
			answer()
		}
		s.mu.Unlock()
		first.Do(func() { close(s.asked) })
	}
}

// release answers the questions that were kept.
func (s *nameServer) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, answer := range s.late {
		answer()
	}
}

// reply makes the answer to a question. s.mu is held.
func (s *nameServer) reply(packet []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil || s.silent {
		return nil
	}
	q := m.Questions[0]
	m.Header.Response, m.RecursionAvailable = true, true
	m.Additionals = nil
	switch {
	case s.fails:
		m.RCode = dnsmessage.RCodeServerFailure
	case !s.answer.IsValid():
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
			Body:   &dnsmessage.AResource{A: s.answer.As4()},
		}}
	}
	packet, err := m.Pack()
	if err != nil {
		s.t.Error(err)
	}
	return packet
}

// listen accepts connections on an address of this machine until the test ends.
func listen(t *testing.T, address string) (port string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	})
	t.Cleanup(func() {
		l.Close()
		accepting.Wait()
	})
	_, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// mustLeadTo dials redis.test and compares where the connection leads to.
func mustLeadTo(t *testing.T, n redisclient.Names, port, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	c, err := n.Dial(ctx, net.JoinHostPort("redis.test", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.RemoteAddr().String(); got != net.JoinHostPort(want, port) {
		t.Errorf("the connection leads to %s, want %s", got, net.JoinHostPort(want, port))
	}
}

// TestLookupOutlivesItsCaller: an answer may come after the one who dialed has given up, as when
// the first name server is down and a resolver waits five seconds for it. Until then, the next one
// who dials waits for it too.
func TestLookupOutlivesItsCaller(t *testing.T) {
	s := startNameServer(t)
	s.set(func() { s.answer, s.keeps = netip.MustParseAddr("127.0.0.1"), 2 }) // for A and AAAA
	n := redisclient.NewNames(s.resolver())
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-s.kept
		cancel()
	}()
	if _, err := n.Dial(ctx, "redis.test:6379"); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the end of its context", err)
	}
	answer := n.UnderWay("redis.test")
	if answer == nil {
		t.Fatal("the look-up ended with its caller")
	}
	s.release()
	got, err := answer()
	if want := []netip.Addr{netip.MustParseAddr("127.0.0.1")}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// TestLastAddress: while name servers do not answer, a connection leads to where the last one led.
func TestLastAddress(t *testing.T) {
	for name, broken := range map[string]func(s *nameServer){
		"silent": func(s *nameServer) { s.silent = true },
		"failed": func(s *nameServer) { s.fails = true },
	} {
		t.Run(name, func(t *testing.T) {
			port := listen(t, "127.0.0.1:0")
			s := startNameServer(t)
			s.set(func() { s.answer = netip.MustParseAddr("127.0.0.1") })
			n := redisclient.NewNames(s.resolver())
			mustLeadTo(t, n, port, "127.0.0.1")
			s.set(func() { broken(s) })
			mustLeadTo(t, n, port, "127.0.0.1")
		})
	}
}

// TestNameMoves: names are looked up each time, and a name that is gone leads nowhere.
func TestNameMoves(t *testing.T) {
	port := listen(t, "0.0.0.0:0")
	s := startNameServer(t)
	s.set(func() { s.answer = netip.MustParseAddr("127.0.0.1") })
	n := redisclient.NewNames(s.resolver())
	mustLeadTo(t, n, port, "127.0.0.1")
	s.set(func() { s.answer = netip.MustParseAddr("127.0.0.2") })
	mustLeadTo(t, n, port, "127.0.0.2")
	s.set(func() { s.answer = netip.Addr{} })
	var refused *net.DNSError
	if _, err := n.Dial(t.Context(), net.JoinHostPort("redis.test", port)); !errors.As(err, &refused) || !refused.IsNotFound {
		t.Errorf("got %v, want no such host", err)
	}
}

// TestDialWithoutName: addresses and other networks need no name server.
func TestDialWithoutName(t *testing.T) {
	port := listen(t, "127.0.0.1:0")
	s := startNameServer(t)
	n := redisclient.NewNames(s.resolver())
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	c, err := n.Dial(ctx, net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	select {
	case <-s.asked:
		t.Error("a name server was asked")
	case <-time.After(0):
	}
}
