package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"orgcast/internal/cli"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// asGateway is set in the environment of test binaries that are to be the gateway.
const asGateway = "TEST_AS_GATEWAY"

// run runs a subcommand as main does, without signals, to its end.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) error {
	p := cli.Process{Getenv: getenv, Stdin: stdin, Stdout: stdout, Stderr: stderr}
	return program().Run(ctx, p, args)
}

// spawned is a subcommand in its own process, with real signals and files.
type spawned struct {
	tb   testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// spawn starts a subcommand, which is killed with the test at the latest. What is nil of stdout and
// stderr is read by nobody and loses nothing.
func spawn(tb testing.TB, env environment, stdout, stderr io.Writer, args ...string) *spawned {
	tb.Helper()
	return spawnCommand(tb, env, stdout, stderr, os.Args[0], args...)
}

// spawnWithFiles is spawn with a limit of open files.
func spawnWithFiles(tb testing.TB, files int, env environment, stdout, stderr io.Writer, args ...string) *spawned {
	tb.Helper()
	limited := append([]string{"-c", `ulimit -n "$0" && exec "$@"`, strconv.Itoa(files), os.Args[0]}, args...)
	return spawnCommand(tb, env, stdout, stderr, "sh", limited...)
}

func spawnCommand(tb testing.TB, env environment, stdout, stderr io.Writer, name string, args ...string) *spawned {
	tb.Helper()
	s := &spawned{tb: tb, cmd: exec.Command(name, args...), done: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), asGateway+"=1", "GORACE=atexit_sleep_ms=0") // else each takes a second to end
	for name, value := range env {
		s.cmd.Env = append(s.cmd.Env, name+"="+value)
	}
	s.cmd.Stdout, s.cmd.Stderr = stdout, stderr
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // how it ended is in ProcessState
	}()
	tb.Cleanup(func() {
		_ = s.cmd.Process.Kill() // as a rule it has ended
		<-s.done
	})
	return s
}

func (s *spawned) signal(sig syscall.Signal) {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatalf("%v: %v", sig, err)
	}
}

// expectExit waits until the process ends, which it must do with the code.
func (s *spawned) expectExit(code int) {
	s.tb.Helper()
	select {
	case <-s.done:
	case <-time.After(testkit.Patience):
		s.tb.Fatal("the process does not end")
	}
	if got := s.cmd.ProcessState; got.ExitCode() != code {
		s.tb.Errorf("the process ended with %v, want exit code %d", got, code)
	}
}

// TestHangupEndsNoProcessThatStays: SIGHUP ends none of the subcommands that run until they are
// told to end. Of two signals that wait the kernel delivers the lower number first, so one that
// SIGHUP would end never gets as far as SIGTERM.
func TestHangupEndsNoProcessThatStays(t *testing.T) {
	redisAddr := redistest.Start(t)
	for name, tt := range map[string]struct {
		args     []string
		up       string // in the output as soon as it is at work
		reloaded bool
	}{
		"serve":  {args: []string{"serve"}, up: `"msg":"serving"`, reloaded: true},
		"worker": {args: []string{"worker"}, up: `"msg":"working"`, reloaded: true},
		"demo":   {args: []string{"demo", "--listen", "127.0.0.1:0"}, up: "sign in"},
		"bench":  {args: []string{"bench", "limit", "--conns", "10", "--rate", "10", "--duration", "1h"}, up: "measuring"},
	} {
		t.Run(name, func(t *testing.T) {
			out := new(testkit.SyncBuffer)
			p := spawn(t, newServing(t, redisAddr, nil).env, out, out, tt.args...)
			testkit.Eventually(t, "at work", func() bool { return strings.Contains(out.String(), tt.up) })
			p.signal(syscall.SIGHUP)
			if tt.reloaded {
				testkit.Eventually(t, "files are read again", func() bool { return strings.Contains(out.String(), "settings reloaded") })
				p.signal(syscall.SIGHUP)
			}
			p.signal(syscall.SIGTERM)
			p.expectExit(0)
			if t.Failed() {
				t.Log(out.String())
			}
		})
	}
}

// TestShortCommandsEndAsUsual: what does its work and ends has no files to read again, and a
// pipe that is closed ends it as it ends any tool.
func TestShortCommandsEndAsUsual(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	var errOut bytes.Buffer
	p := spawn(t, nil, writer, &errOut, "version")
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGPIPE {
		t.Errorf("ended with %v and %q, want SIGPIPE", p.cmd.ProcessState, &errOut)
	}
}

// TestGarbageCollectorIsTuned: a node with little memory in use collects seldom, unless GOGC says
// how often.
func TestGarbageCollectorIsTuned(t *testing.T) {
	addr := redistest.Start(t)
	for name, test := range map[string]struct {
		env  environment
		want func(percent float64) bool
	}{
		"by itself": {nil, func(percent float64) bool { return percent >= 100 }},
		"with GOGC": {environment{"GOGC": "70"}, func(percent float64) bool { return percent == 70 }},
	} {
		t.Run(name, func(t *testing.T) {
			s := spawnServe(t, addr, test.env)
			for range 3 { // more collections than one must leave it so
				if status, body := s.ask("GET", "/debug/pprof/heap?gc=1", ""); status != 200 {
					t.Fatalf("collecting: got %d %s", status, body)
				}
				testkit.Eventually(t, "the percentage", func() bool { return test.want(s.metric("go_gc_gogc_percent", "")) })
			}
		})
	}
}
