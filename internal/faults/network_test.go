package faults_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"orgcast/internal/testkit"
)

// network is a TCP proxy, and so what lies between two programs. It can be lost, with all
// connections, or stand still, with all that is in them on hold.
type network struct {
	listener net.Listener
	dial     func() (net.Conn, error)
	serving  sync.WaitGroup

	mu    sync.Mutex
	lost  bool
	moves chan struct{} // closed while it does not stand still
	pairs map[net.Conn]struct{}
}

// startNetwork lets each new connection go where dial says.
func startNetwork(tb testing.TB, dial func() (net.Conn, error)) *network {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	n := &network{listener: l, dial: dial, moves: make(chan struct{}), pairs: make(map[net.Conn]struct{})}
	close(n.moves)
	n.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.serving.Go(func() { n.serve(c) })
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		n.dropAll()
		n.serving.Wait()
	})
	return n
}

// to returns a dial function for one address.
func to(addr string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return net.DialTimeout("tcp", addr, testkit.Patience) }
}

func (n *network) addr() string { return n.listener.Addr().String() }

// lose ends all connections and lets none through for so long.
func (n *network) lose(d time.Duration) {
	n.setLost(true)
	n.dropAll()
	time.Sleep(d)
	n.setLost(false)
}

func (n *network) setLost(lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost = lost
}

// stall lets nothing pass for so long. Nobody is told: connections stay, and new ones begin but get
// no answer.
func (n *network) stall(d time.Duration) {
	moves := make(chan struct{})
	n.mu.Lock()
	n.moves = moves
	n.mu.Unlock()
	time.Sleep(d)
	close(moves)
}

// pass waits while the network stands still.
func (n *network) pass() {
	n.mu.Lock()
	moves := n.moves
	n.mu.Unlock()
	<-moves
}

func (n *network) dropAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.pairs {
		_ = c.Close()
	}
}

// serve copies both ways until either end closes.
func (n *network) serve(near net.Conn) {
	defer near.Close()
	n.pass()
	far, err := n.dial()
	if err != nil {
		return
	}
	defer far.Close()
	n.mu.Lock()
	lost := n.lost
	if !lost {
		n.pairs[near], n.pairs[far] = struct{}{}, struct{}{}
	}
	n.mu.Unlock()
	if lost {
		return
	}
	var copying sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		copying.Go(func() {
			buffer := make([]byte, 4<<10)
			for {
				read, err := way[0].Read(buffer)
				n.pass()
				if read > 0 {
					if _, err := way[1].Write(buffer[:read]); err != nil {
						break
					}
				}
				if err != nil {
					break
				}
			}
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	copying.Wait()
	n.mu.Lock()
	delete(n.pairs, near)
	delete(n.pairs, far)
	n.mu.Unlock()
}
