package redistest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
)

// SentinelMaster is the name under which the Sentinels of [StartSentinels] know their master.
const SentinelMaster = "orgcast"

// Sentinels is a master with a replica and three Sentinels that monitor them.
type Sentinels struct {
	// Addrs are the addresses of the Sentinels.
	Addrs []string
	// Servers are the initial master and its replica.
	Servers [2]*Server

	tb testing.TB
}

// StartSentinels runs them until the test ends. It returns when the Sentinels know each other, so
// that a failover is possible. A master that does not answer for a second counts as failed.
func StartSentinels(tb testing.TB) *Sentinels {
	tb.Helper()
	s := &Sentinels{tb: tb}
	s.Servers[0] = StartServer(tb, "--repl-diskless-sync-delay", "0")
	host, port, err := net.SplitHostPort(s.Servers[0].Addr)
	if err != nil {
		tb.Fatal(err)
	}
	s.Servers[1] = StartServer(tb, "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")
	m := SentinelMaster
	text := fmt.Sprintf("sentinel monitor %s %s %s 2\nsentinel down-after-milliseconds %s 1000\nsentinel failover-timeout %s 5000\n", m, host, port, m, m)
	for range 3 {
		s.Addrs = append(s.Addrs, startAnywhere(tb, &Server{sentinel: text}).Addr)
	}
	s.eventually("the replica is in step", func() bool {
		return strings.Contains(ask(s.Servers[1].Addr, "INFO", "replication"), "master_link_status:up")
	})
	for _, addr := range s.Addrs {
		s.eventually("a Sentinel knows the others", func() bool {
			return strings.Contains(ask(addr, "INFO", "sentinel"), "status=ok") && strings.Contains(ask(addr, "INFO", "sentinel"), "slaves=1,sentinels=3")
		})
	}
	return s
}

// Failover makes the Sentinels replace the master, as an operator does for maintenance, and returns
// when a Sentinel names another.
func (s *Sentinels) Failover() {
	s.tb.Helper()
	before := s.Master()
	s.eventually("the failover is accepted", func() bool {
		return strings.HasPrefix(ask(s.Addrs[0], "SENTINEL", "FAILOVER", SentinelMaster), "OK")
	})
	s.AwaitMasterOtherThan(before)
}

// Master returns the address of the master as the first Sentinel knows it.
func (s *Sentinels) Master() string {
	s.tb.Helper()
	lines := strings.Split(ask(s.Addrs[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SentinelMaster), "\n")
	if len(lines) != 2 {
		s.tb.Fatalf("master: got %q", lines)
	}
	return net.JoinHostPort(lines[0], lines[1])
}

// AwaitMasterOtherThan returns when another server is the master.
func (s *Sentinels) AwaitMasterOtherThan(addr string) {
	s.tb.Helper()
	s.eventually("another master", func() bool { return s.Master() != addr })
}

func (s *Sentinels) eventually(what string, condition func() bool) {
	s.tb.Helper()
	eventually(s.tb, what, condition)
}

// eventually waits for a state of other processes. Each check asks them, so it checks less often
// than tests do.
func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	testkit.Poll(tb, 20*time.Millisecond, what, condition)
}

// ask sends one command and returns its answer as text, "" if there is none. Each element of a list
// is a line.
func ask(addr string, command ...any) string {
	client := newClient(addr)
	defer client.Close() //nolint:errcheck // nothing left to lose
	ctx, cancel := patience()
	defer cancel()
	answer := client.Do(ctx, command...)
	if list, err := answer.StringSlice(); err == nil {
		return strings.Join(list, "\n")
	}
	if answer.Err() != nil {
		return ""
	}
	return fmt.Sprint(answer.Val())
}

// newClient returns a client that tries once.
func newClient(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true, ContextTimeoutEnabled: true,
	})
}

// patience bounds one command.
func patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 5*time.Second)
}
