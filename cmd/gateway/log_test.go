package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/cli"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// dropped returns how many log lines were dropped for the reason.
func (s *serving) dropped(reason string) int {
	s.tb.Helper()
	_, text := s.ask(http.MethodGet, "/metrics", "")
	_, rest, _ := strings.Cut(text, `orgcast_log_dropped_total{reason="`+reason+`"} `)
	number, _, ok := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(number)
	if !ok || err != nil {
		s.tb.Fatalf("no count of lines dropped as %s in\n%s", reason, text)
	}
	return n
}

// visit opens a connection and ends it.
func (s *serving) visit(user testkit.Handshake) {
	s.tb.Helper()
	c := testkit.Connect(s.tb, testkit.DialTCP(s.public), user)
	_ = c.Send(testkit.CloseFrame(1000, "")) // the end of it says whether it came
	c.ExpectClose(s.tb, 1000)
}

// pipe returns a pipe whose ends are closed with the test at the latest.
func pipe(tb testing.TB) (reader, writer *os.File) {
	tb.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _, _ = reader.Close(), writer.Close() })
	return reader, writer
}

// readUntil copies lines to the log until one has the text.
func (s *serving) readUntil(lines *bufio.Scanner, text string) {
	s.tb.Helper()
	for lines.Scan() {
		_, _ = fmt.Fprintln(s.log, lines.Text())
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	s.tb.Fatalf("the log ended before %q: %v\n%s", text, lines.Err(), s.log)
}

// TestServeOutlivesItsLogReader: `gateway serve 2>fifo`, and the fifo's reader exits. The gateway
// serves on, counts the lines that nobody gets, and gives the next ones to the next reader.
func TestServeOutlivesItsLogReader(t *testing.T) {
	s := newServing(t, redistest.Start(t), nil)
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(flag int) *os.File {
		t.Helper()
		f, err := os.OpenFile(path, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	first := open(os.O_RDONLY | syscall.O_NONBLOCK)
	stderr := open(os.O_WRONLY)
	// Standard output is the same: neither may end the process.
	p := spawn(t, s.env, stderr, stderr, "serve")
	if err := stderr.Close(); err != nil {
		t.Fatal(err)
	}
	s.readUntil(bufio.NewScanner(first), `"msg":"serving"`)
	s.findAddresses()
	s.expectReady()
	c := s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	user := s.mint("grace", "globex")

	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	s.visit(user)
	testkit.Eventually(t, "the line is counted", func() bool { return s.dropped("failed") > 0 })
	expectPong(t, c)

	second := open(os.O_RDONLY | syscall.O_NONBLOCK)
	s.visit(user)
	lines := bufio.NewScanner(second)
	s.readUntil(lines, `"msg":"connection ended"`)
	p.signal(syscall.SIGTERM)
	c.ExpectClose(t, 1012)
	s.readUntil(lines, `"msg":"stopped"`)
	p.expectExit(0)
}

// TestNobodyReadsTheLog: the log goes into a pipe that is full. Lines are dropped and counted, and
// nothing waits: connections end, events arrive, and the process ends when it is told to.
func TestNobodyReadsTheLog(t *testing.T) {
	redisAddr := redistest.Start(t)
	s := newServing(t, redisAddr, nil)
	reader, writer := pipe(t)
	ctx, cancel := context.WithCancel(context.Background())
	// With a small journal 300 lines are more than it and a pipe hold.
	p := cli.Process{Getenv: s.env.get, Environ: s.env.list(), Stdin: strings.NewReader(""), Stdout: writer, Stderr: writer, LogBytes: 2 << 10}
	go func() { s.done <- program().Run(ctx, p, nil) }()
	t.Cleanup(func() {
		cancel()
		s.wait()
	})
	s.readUntil(bufio.NewScanner(reader), `"msg":"serving"`)
	s.findAddresses()
	s.expectReady()

	c := s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	for user := range 3 {
		h := s.mint(fmt.Sprintf("u%d", user), "acme")
		for range 100 {
			s.visit(h)
		}
	}
	testkit.Eventually(t, "lines are dropped", func() bool { return s.dropped("full") > 0 })
	testkit.Eventually(t, "connections end", func() bool {
		_, text := s.ask(http.MethodGet, "/metrics", "")
		return strings.Contains(text, "orgcast_connections 1\n")
	})
	client := redis.NewClient(&redis.Options{Addr: redisAddr})
	defer client.Close()
	for _, payload := range []string{"malformed", `{"organization_id":"acme","type":"note"}`} {
		if err := client.Publish(t.Context(), "orgcast:{acme}:group:all", payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c.Expect(t, `{"organization_id":"acme","type":"note"}`)
	cancel() // as SIGTERM would
	c.ExpectClose(t, 1012)
	if err := s.wait(); err != nil {
		t.Errorf("serve: %v", err)
	}
}

// TestServeOutlivesAFullDisk: the log goes to a disk that is full.
func TestServeOutlivesAFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	// Where it serves is in the log, so its ports are chosen here.
	s := newServing(t, redistest.Start(t), nil)
	s.public, s.private = testkit.FreeAddress(t), testkit.FreeAddress(t)
	s.env["ORGCAST_LISTEN"], s.env["ORGCAST_ADMIN_LISTEN"] = s.public, s.private
	p := spawn(t, s.env, full, full, "serve")
	s.expectReady()
	c := s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	s.visit(s.mint("grace", "globex"))
	testkit.Eventually(t, "two lines are counted", func() bool { return s.dropped("failed") >= 2 }) // serving, and the visit
	expectPong(t, c)
	p.signal(syscall.SIGTERM)
	c.ExpectClose(t, 1012)
	p.expectExit(0)
}

// TestOthersOutliveTheirReaders: worker, demo and bench write to pipes that nobody reads anymore,
// too.
func TestOthersOutliveTheirReaders(t *testing.T) {
	redisAddr := redistest.Start(t)
	for name, tt := range map[string]struct {
		args []string
		up   string // in the output as soon as it is at work
		code int
	}{
		"worker": {args: []string{"worker"}, up: `"msg":"working"`},
		"demo":   {args: []string{"demo", "--listen", "127.0.0.1:0"}, up: "sign in"},
		// Its output is what it is for, so without a reader it fails, but in order.
		"bench": {args: []string{"bench", "limit", "--conns", "10", "--rate", "10", "--duration", "1h"}, up: "measuring", code: 3},
	} {
		t.Run(name, func(t *testing.T) {
			reader, writer := pipe(t)
			s := newServing(t, redisAddr, nil)
			p := spawn(t, s.env, writer, writer, tt.args...)
			if err := writer.Close(); err != nil {
				t.Fatal(err)
			}
			s.readUntil(bufio.NewScanner(reader), tt.up)
			if err := reader.Close(); err != nil {
				t.Fatal(err)
			}
			p.signal(syscall.SIGTERM) // it logs its end
			p.expectExit(tt.code)
		})
	}
}

// TestNoLineIsLostAtTheEnd: an ordinary end writes all that was logged, in order.
func TestNoLineIsLostAtTheEnd(t *testing.T) {
	s := newServing(t, redistest.Start(t), nil)
	reader, writer := pipe(t)
	p := spawn(t, s.env, writer, writer, "serve")
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(reader)
	s.readUntil(lines, `"msg":"serving"`)
	s.findAddresses()
	s.expectReady()
	const connections = 50
	for i := range connections {
		testkit.Connect(t, testkit.DialTCP(s.public), s.mint("ada", "org"+strconv.Itoa(i)))
	}
	p.signal(syscall.SIGTERM)
	last := ""
	for lines.Scan() {
		last = lines.Text()
		_, _ = fmt.Fprintln(s.log, last)
	}
	p.expectExit(0)
	if got := strings.Count(s.log.String(), `"msg":"connection ended"`); got != connections {
		t.Errorf("got %d lines of connections that ended, want %d", got, connections)
	}
	if !strings.Contains(last, `"msg":"stopped"`) {
		t.Errorf("the last line is %s, want the one of the end", last)
	}
}

// TestDyingProcessSaysWhy: an error that ends a subcommand is on standard error, behind the log,
// and the exit code is 1. So is a mistake in the settings, with 2.
func TestDyingProcessSaysWhy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	used := l.Addr().String()
	for name, tt := range map[string]struct {
		env  environment
		args []string
		want string
		code int
	}{
		"serve":             {environment{"ORGCAST_ADMIN_LISTEN": used}, []string{"serve"}, "gateway: --admin-listen: listen tcp " + used, 1},
		"worker":            {environment{"ORGCAST_ADMIN_LISTEN": used}, []string{"worker"}, "gateway: --admin-listen: listen tcp " + used, 1},
		"demo":              {nil, []string{"demo", "--listen", used}, "gateway: --listen: listen tcp " + used, 1},
		"serve, a setting":  {environment{"ORGCAST_LOG_LEVEL": "loud"}, []string{"serve"}, "--log-level", 2},
		"serve, help":       {nil, []string{"serve", "--help"}, "Run the gateway.", 0},
		"unknown":           {nil, []string{"unknown"}, `unknown subcommand "unknown"`, 2},
		"publish, argument": {nil, []string{"publish", "acme", "no group", "{}"}, "gateway: ", 2},
	} {
		t.Run(name, func(t *testing.T) {
			env := newServing(t, "127.0.0.1:1", tt.env).env
			out := new(testkit.SyncBuffer)
			spawn(t, env, out, out, tt.args...).expectExit(tt.code)
			if got := out.String(); !strings.Contains(got, tt.want) || strings.Count(got, tt.want) != 1 {
				t.Errorf("got %q, want %q in it, once", got, tt.want)
			}
		})
	}
}

// TestOneOrganizationsBadEventsHideNoOthers: an organization whose back end publishes nothing but
// what is malformed fills no log, and the first bad event of another one, or for another reason, is
// still told.
func TestOneOrganizationsBadEventsHideNoOthers(t *testing.T) {
	redisAddr := redistest.Start(t)
	// As many as there are must be taken, or the organization's budget is what stops them.
	s := startServe(t, redisAddr, environment{"ORGCAST_EVENTS_PER_SECOND": "0"})
	s.expectReady()
	acme := s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	s.subscribe(testkit.DialTCP(s.public), "grace", "globex")
	client := redis.NewClient(&redis.Options{Addr: redisAddr})
	defer client.Close()
	const flood = 2000
	_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for range flood {
			p.Publish(t.Context(), "orgcast:{acme}:group:all", "malformed")
		}
		p.Publish(t.Context(), "orgcast:{globex}:group:all", "malformed")
		p.Publish(t.Context(), "orgcast:{acme}:group:all", `{"type":"note"}`)
		p.Publish(t.Context(), "orgcast:{acme}:group:all", `{"organization_id":"acme","type":"note"}`)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	acme.Expect(t, `{"organization_id":"acme","type":"note"}`) // behind all of them
	for _, want := range []string{
		`"group":"globex/all","reason":"not_an_object"`, `"group":"acme/all","reason":"no_organization"`,
	} {
		testkit.Eventually(t, want, func() bool { return strings.Contains(s.log.String(), want) })
	}
	told := strings.Count(s.log.String(), `"group":"acme/all","reason":"not_an_object"`)
	if counted := s.dropped("sampled"); told == 0 || told > flood/2 || told+counted < flood {
		t.Errorf("%d bad events are told and %d lines counted, want far fewer than %d told and the rest counted", told, counted, flood)
	}
	if _, metrics := s.ask(http.MethodGet, "/metrics", ""); !strings.Contains(metrics, `orgcast_events_dropped_total{reason="not_an_object"} `+strconv.Itoa(flood+1)+"\n") {
		t.Error("not all bad events are counted")
	}
}
