package redistest

import (
	"net"
	"strings"
	"testing"
)

// Pair is a master and its replica, without automatic failover.
type Pair struct {
	Master, Replica *Server

	tb testing.TB
}

// StartPair runs both until the test ends. It returns when the replica is in sync.
func StartPair(tb testing.TB) *Pair {
	tb.Helper()
	master := StartServer(tb, "--repl-diskless-sync-delay", "0")
	host, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		tb.Fatal(err)
	}
	p := &Pair{Master: master, Replica: StartServer(tb, "--replicaof", host+" "+port), tb: tb}
	p.AwaitInStep()
	return p
}

// AwaitInStep returns when the replica has everything that the master has.
func (p *Pair) AwaitInStep() {
	p.tb.Helper()
	eventually(p.tb, "the replica is in step", func() bool {
		return strings.Contains(ask(p.Replica.Addr, "INFO", "replication"), "master_link_status:up") && ask(p.Master.Addr, "WAIT", "1", "5000") == "1"
	})
}

// Promote makes the replica a master. The former master continues as before.
func (p *Pair) Promote() {
	p.tb.Helper()
	p.Replica.must("REPLICAOF", "NO", "ONE")
}

// Depose makes the master a replica of an unreachable master, so it keeps its data.
func (p *Pair) Depose() {
	p.tb.Helper()
	p.Master.must("REPLICAOF", "127.0.0.1", "1")
}
