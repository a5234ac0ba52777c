package faults_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"orgcast/internal/testkit"
)

const (
	origin     = "https://app.example.com"
	sessionKey = "0123456789abcdef0123456789abcdef"
)

// buildGateway compiles the real binary.
func buildGateway(tb testing.TB) (binary string) {
	tb.Helper()
	binary = filepath.Join(tb.TempDir(), "gateway")
	if out, err := exec.CommandContext(tb.Context(), "go", "build", "-o", binary, "orgcast/cmd/gateway").CombinedOutput(); err != nil {
		tb.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// process is a gateway that runs by itself.
type process struct {
	tb              testing.TB
	cmd             *exec.Cmd
	public, private string
	done            chan struct{}

	mu  sync.Mutex
	log []string
}

// startGateway runs a gateway until the test ends at the latest.
func startGateway(tb testing.TB, binary string, env ...string) *process {
	tb.Helper()
	p := &process{tb: tb, cmd: exec.Command(binary, "serve"), done: make(chan struct{})}
	p.cmd.Env = append([]string{
		"ORGCAST_LISTEN=127.0.0.1:0", "ORGCAST_ADMIN_LISTEN=127.0.0.1:0", "ORGCAST_ORIGINS=" + origin,
		"ORGCAST_SESSION_KEYS=" + sessionKey, "ORGCAST_DIRECTORY=session", "ORGCAST_EVENTS_POLICY=*=member", "ORGCAST_DRAIN_WAIT=200ms", "ORGCAST_DRAIN=2s",
		"ORGCAST_LOG_LEVEL=info",
	}, env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	serving := make(chan struct{})
	go p.follow(bufio.NewScanner(stderr), serving)
	tb.Cleanup(p.kill)
	select {
	case <-serving:
	case <-p.done:
		tb.Fatalf("gateway ended at once:\n%s", p.lines())
	case <-time.After(testkit.Patience):
		tb.Fatalf("gateway does not serve:\n%s", p.lines())
	}
	return p
}

// follow keeps the log and finds the addresses in it.
func (p *process) follow(lines *bufio.Scanner, serving chan struct{}) {
	for lines.Scan() {
		var entry struct{ Level, Msg, Public, Private string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
			p.public, p.private = entry.Public, entry.Private
			close(serving)
		}
		if entry.Msg == "connection ended" {
			continue // one for each
		}
		p.mu.Lock()
		p.log = append(p.log, lines.Text())
		p.mu.Unlock()
	}
	_ = p.cmd.Wait() // how it ended is in ProcessState
	close(p.done)
}

// lines returns what the gateway logged, but for the ends of connections.
func (p *process) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// kill ends the process as a crash would. Ending twice is no error.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended already
	<-p.done
}

// stop asks the process to say goodbye, and does not wait.
func (p *process) stop() { p.signal(syscall.SIGTERM) }

func (p *process) signal(sig syscall.Signal) {
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.tb.Errorf("%v: %v", sig, err)
	}
}

// ready asks the private listener.
func (p *process) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.private+"/readyz", nil)
	if err != nil {
		return false
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// readiness watches a gateway's readiness.
type readiness struct {
	mu      sync.Mutex
	changes []change
}

type change struct {
	at    time.Time
	ready bool
}

// watch looks every 50 ms until ctx ends.
func watch(ctx context.Context, p *process) *readiness {
	r := new(readiness)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			now := p.ready(ctx)
			r.mu.Lock()
			if n := len(r.changes); n == 0 || r.changes[n-1].ready != now {
				r.changes = append(r.changes, change{time.Now(), now})
			}
			r.mu.Unlock()
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return r
}

// first returns how long after since readiness first became what is asked for.
func (r *readiness) first(since time.Time, ready bool) (time.Duration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.changes {
		if c.at.After(since) && c.ready == ready {
			return c.at.Sub(since), true
		}
	}
	return 0, false
}

// balancer is a TCP proxy in front of gateways, as a load balancer is: it gives each new connection
// to one that is ready. It can also lose the network.
type balancer struct {
	listener net.Listener
	serving  sync.WaitGroup

	mu    sync.Mutex
	nodes []*process
	next  int
	cut   bool
	pairs map[net.Conn]struct{}
}

func startBalancer(tb testing.TB, nodes ...*process) *balancer {
	tb.Helper()
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	b := &balancer{listener: l, nodes: nodes, pairs: make(map[net.Conn]struct{})}
	b.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.serving.Go(func() { b.serve(c) })
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		b.dropAll()
		b.serving.Wait()
	})
	return b
}

func (b *balancer) addr() string { return b.listener.Addr().String() }

// use replaces the gateways, for new connections.
func (b *balancer) use(nodes ...*process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes = nodes
}

// setCut loses the network, or finds it again.
func (b *balancer) setCut(cut bool) {
	b.mu.Lock()
	b.cut = cut
	b.mu.Unlock()
	if cut {
		b.dropAll()
	}
}

func (b *balancer) dropAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.pairs {
		_ = c.Close()
	}
}

func (b *balancer) serve(browser net.Conn) {
	defer browser.Close()
	b.mu.Lock()
	nodes, first, cut := slices.Clone(b.nodes), b.next, b.cut
	b.next++
	b.mu.Unlock()
	if cut {
		return
	}
	for i := range nodes {
		node, err := net.DialTimeout("tcp", nodes[(first+i)%len(nodes)].public, time.Second)
		if err != nil {
			continue
		}
		b.join(browser, node)
		return
	}
}

// join copies both ways until either end closes.
func (b *balancer) join(browser, node net.Conn) {
	b.mu.Lock()
	b.pairs[browser], b.pairs[node] = struct{}{}, struct{}{}
	b.mu.Unlock()
	var copying sync.WaitGroup
	for _, way := range [][2]net.Conn{{browser, node}, {node, browser}} {
		copying.Go(func() {
			buffer := make([]byte, 4<<10)
			for {
				n, err := way[0].Read(buffer)
				if n > 0 {
					if _, err := way[1].Write(buffer[:n]); err != nil {
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
	b.mu.Lock()
	delete(b.pairs, browser)
	delete(b.pairs, node)
	b.mu.Unlock()
}
