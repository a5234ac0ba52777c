// Package redistest runs a real redis-server for a test: on its own loopback port, in its own
// directory, without persistence, until the test ends. A test that needs Redis fails if it finds no
// redis-server. It is never skipped.
package redistest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"orgcast/internal/testkit"
)

const (
	// readyTimeout is how long a server may take to answer. It takes some 10 ms on an idle machine.
	readyTimeout = testkit.Patience
	// readyInterval is the pause between two checks whether a starting server answers.
	readyInterval = 5 * time.Millisecond
	// startAttempts is how many ports are tried, because another process may take one that was
	// free.
	startAttempts = 10
	// firstPort and lastPort are below the ports that Linux gives to outgoing connections, so a
	// port stays free for Restart while clients keep dialing.
	firstPort, lastPort = 16400, 32000
)

// Server is a redis-server for tests of faults. Its methods fail the test instead of returning
// errors, and must be called in the test's goroutine.
type Server struct {
	// Addr is host:port. It stays the same over Stop and Restart.
	Addr string

	tb   testing.TB
	bin  string
	dir  string
	port int
	args []string
	// sentinel is the configuration of a Sentinel besides its port, empty for a server.
	sentinel string
	// bus is the port for communication within a Cluster, 0 without one.
	bus int

	mu   sync.Mutex
	proc *process // nil while stopped
}

// process is one life of the server.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed by the goroutine that waits for the process
}

// Start runs a server until the test ends and returns its address.
func Start(tb testing.TB) (addr string) {
	tb.Helper()
	return StartServer(tb).Addr
}

// StartServer runs a server until the test ends. args are added to its command line, for example
// "--appendonly", "yes" for data that outlives Restart.
func StartServer(tb testing.TB, args ...string) *Server {
	tb.Helper()
	return startAnywhere(tb, &Server{args: args})
}

// startAnywhere finds a port and starts the server there.
func startAnywhere(tb testing.TB, s *Server) *Server {
	tb.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		tb.Fatal("redis-server is needed: apt-get install redis-server")
	}
	s.tb, s.bin, s.dir = tb, bin, tb.TempDir()
	tb.Cleanup(s.Stop)
	cluster := s.bus != 0
	for range startAttempts {
		s.port = firstPort + rand.IntN(lastPort-firstPort) //nolint:gosec // a port is no secret
		s.Addr = loopback(s.port)
		if cluster {
			s.bus = firstPort + rand.IntN(lastPort-firstPort) //nolint:gosec // a port is no secret
		}
		if !portFree(s.Addr) || s.bus != 0 && (s.bus == s.port || !portFree(loopback(s.bus))) {
			continue
		}
		if err = s.start(); err == nil {
			return s
		}
	}
	tb.Fatalf("redis-server did not start: %v\n%s", err, s.log())
	return nil
}

// Stop kills the server, like a crash. Stopping twice is not an error.
func (s *Server) Stop() {
	s.mu.Lock()
	p := s.proc
	s.proc = nil
	s.mu.Unlock()
	if p != nil {
		p.kill()
	}
}

// Restart stops the server if it runs and starts it again on the same port. It comes back empty
// unless it was started with persistence.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	if err := s.start(); err != nil {
		s.tb.Fatalf("redis-server did not start again: %v\n%s", err, s.log())
	}
}

// Pause makes the server hang: its connections stay open and the kernel accepts new ones, but the
// server does not answer.
func (s *Server) Pause() {
	s.tb.Helper()
	s.signal(syscall.SIGSTOP)
}

// Resume ends Pause.
func (s *Server) Resume() {
	s.tb.Helper()
	s.signal(syscall.SIGCONT)
}

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		s.tb.Fatalf("signal %v: redis-server is stopped", sig)
	}
	if err := s.proc.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("signal %v to redis-server: %v", sig, err)
	}
}

// start runs the server and returns when it answers.
func (s *Server) start() error {
	logFile, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close() //nolint:errcheck // the process has its own copy

	args := append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--enable-debug-command", "local",
	}, s.args...)
	if s.bus != 0 {
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(s.bus))
	}
	if s.sentinel != "" {
		file := filepath.Join(s.dir, "sentinel.conf") // Sentinel keeps its state there
		text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\n%s", s.port, s.dir, s.sentinel)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		args = []string{file, "--sentinel"}
	}
	cmd := exec.Command(s.bin, args...) //nolint:gosec,noctx // found in PATH; ended by Stop
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = processAttributes()
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // a killed process returns an error
	}()

	deadline := time.Now().Add(readyTimeout)
	for !answers(s.Addr, cmd.Process.Pid) {
		select {
		case <-p.done:
			return fmt.Errorf("it ended at once: %s", cmd.ProcessState)
		case <-time.After(readyInterval):
		}
		if time.Now().After(deadline) {
			p.kill()
			return fmt.Errorf("no answer within %v", readyTimeout)
		}
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	return nil
}

// kill ends the process, paused or not, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended already
	<-p.done
}

// log returns what the server wrote, for the message of a failing test.
func (s *Server) log() string {
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// portFree reports whether no process listens at addr right now.
func portFree(addr string) bool {
	l, err := net.Listen("tcp", addr) //nolint:noctx // returns at once
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// answers reports whether the process pid, and not another server that took the port first,
// answers at addr and has finished loading.
func answers(addr string, pid int) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second) //nolint:noctx // bounded
	if err != nil {
		return false
	}
	defer c.Close() //nolint:errcheck // nothing left to lose
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	if _, err := fmt.Fprint(c, "INFO\r\n"); err != nil {
		return false
	}
	var ours bool
	for lines := bufio.NewScanner(c); lines.Scan(); {
		switch line := strings.TrimSpace(lines.Text()); {
		case line == "process_id:"+strconv.Itoa(pid):
			ours = true
		case strings.HasPrefix(line, "loading:"):
			return ours && line == "loading:0"
		case strings.HasPrefix(line, "sentinel_masters:"):
			return ours
		case strings.HasPrefix(line, "-"):
			return false
		}
	}
	return false
}
