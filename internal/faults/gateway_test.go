package faults_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			p.tb.Errorf("a line of the log is no JSON: %s", lines.Text())
		} else if entry.Msg == "serving" {
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

// stop asks the process to shut down, and does not wait.
func (p *process) stop() { p.signal(syscall.SIGTERM) }

func (p *process) signal(sig syscall.Signal) {
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.tb.Errorf("%v: %v", sig, err)
	}
}

// errNotReady is the answer of a gateway that is not ready.
var errNotReady = errors.New("not ready")

// ready asks the private listener.
func (p *process) ready(ctx context.Context) bool {
	_, err := p.ask(ctx, "/readyz")
	return err == nil
}

// ask reads a page of the private listener.
func (p *process) ask(ctx context.Context, path string) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, testkit.Patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.private+path, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusServiceUnavailable {
		return "", errNotReady
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", path, answer.Status)
	}
	body, err := io.ReadAll(answer.Body)
	return string(body), err
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

// watch looks every 50 ms until the test ends. A gateway that gives no answer, because it hangs or
// the machine is busy, has not said that it is not ready.
func watch(tb testing.TB, p *process) *readiness {
	tb.Helper()
	r := new(readiness)
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	tb.Cleanup(func() {
		cancel()
		watching.Wait()
	})
	watching.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			_, err := p.ask(ctx, "/readyz")
			if err == nil || errors.Is(err, errNotReady) {
				r.note(time.Now(), err == nil)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	return r
}

// note keeps what the gateway says if it is a change.
func (r *readiness) note(now time.Time, ready bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.changes); n == 0 || r.changes[n-1].ready != ready {
		r.changes = append(r.changes, change{now, ready})
	}
}

// first returns when readiness first became what is asked for, after a moment.
func (r *readiness) first(after time.Time, ready bool) (at time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.changes {
		if c.at.After(after) && c.ready == ready {
			return c.at, true
		}
	}
	return time.Time{}, false
}

// balancer is in front of gateways, as a load balancer is: it gives each new connection to the next
// one that answers.
type balancer struct {
	*network

	mu    sync.Mutex
	nodes []*process
	next  int
}

func startBalancer(tb testing.TB, nodes ...*process) *balancer {
	tb.Helper()
	b := new(balancer)
	b.use(nodes...)
	b.network = startNetwork(tb, b.choose)
	return b
}

// use replaces the gateways, for new connections.
func (b *balancer) use(nodes ...*process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes = slices.Clone(nodes) // the caller goes on changing its own
}

// choose connects to a gateway.
func (b *balancer) choose() (c net.Conn, err error) {
	b.mu.Lock()
	nodes, first := slices.Clone(b.nodes), b.next
	b.next++
	b.mu.Unlock()
	for i := range nodes {
		if c, err = net.DialTimeout("tcp", nodes[(first+i)%len(nodes)].public, testkit.Patience); err == nil {
			return c, nil
		}
	}
	return nil, err
}
