package main

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// mintAlone logs a user in who belongs to no organization.
func (s *serving) mintAlone(user string) testkit.Handshake {
	s.tb.Helper()
	out, errOut, err := execute(s.tb, s.env, "", "session", "mint", user)
	if err != nil {
		s.tb.Fatalf("session mint: %v\n%s", err, errOut)
	}
	return testkit.Handshake{Path: "/ws/connection_test/", Header: http.Header{"Origin": {testOrigin}, "Cookie": {strings.TrimSpace(out)}}}
}

// TestUsersWithoutOrganizationShareALimit: users without an organization get no more out of a node
// than the members of one do. All of them together count as one, under their own name in Redis.
func TestUsersWithoutOrganizationShareALimit(t *testing.T) {
	addr := redistest.Start(t)
	s := startServe(t, addr, environment{"ORGCAST_MAX_PER_ORGANIZATION": "3"})
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	knock := func(from, to int) (admitted int) {
		t.Helper()
		for i := from; i < to; i++ {
			c, answer := testkit.Try(t, dial, s.mintAlone("user-"+strconv.Itoa(i)))
			if c == nil && answer.Status != http.StatusTooManyRequests {
				t.Fatalf("got %d %s, want 429", answer.Status, answer.Body)
			}
			if c != nil {
				admitted++
			}
		}
		return admitted
	}
	if got := knock(0, 40); got != 3 {
		t.Errorf("got %d of 40 admitted, want 3", got)
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	if shares, err := client.HGetAll(t.Context(), "orgcast:{.none}:connections").Result(); len(shares) != 1 || err != nil {
		t.Errorf("orgcast:{.none}:connections: got %v, %v, want the share of one node", shares, err)
	}
	s.subscribe(dial, "ada", "acme") // another one's limit is another one
	if err := client.HSet(t.Context(), "orgcast:{.none}:org", "max_connections", 5).Err(); err != nil {
		t.Fatal(err)
	}
	if got := knock(40, 50); got != 2 {
		t.Errorf("after the limit was raised from 3 to 5: got %d admitted, want 2", got)
	}
}

// startWithFiles is startServe in its own process, with a limit of open files.
func startWithFiles(tb testing.TB, files int, more environment) *serving {
	tb.Helper()
	s := newServing(tb, redistest.Start(tb), more)
	s.spawned = spawnWithFiles(tb, files, s.env, nil, s.log, "serve")
	s.findAddresses()
	s.expectReady()
	return s
}

// expectHealthy sees that the private listener answers.
func (s *serving) expectHealthy() {
	s.tb.Helper()
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if status, body := s.ask("GET", path, ""); status != http.StatusOK {
			s.tb.Errorf("%s: got %d %s, want 200", path, status, body)
		}
	}
}

// metricLine reports whether /metrics has the line.
func (s *serving) metricLine(line string) bool {
	_, body := s.ask("GET", "/metrics", "")
	return strings.Contains(body, "\n"+line+"\n")
}

// TestFilesAreKeptForHealthAndRedis: however many connect, the private listener answers, Redis is
// reached, and those over the limit are told so.
func TestFilesAreKeptForHealthAndRedis(t *testing.T) {
	s := startWithFiles(t, 256, nil)
	dial := testkit.DialTCP(s.public)
	first := s.subscribe(dial, "ada", "acme")
	h := s.mint("alan", "acme")
	admitted := 1
	for range 300 {
		c, answer := testkit.Try(t, dial, h)
		switch {
		case c != nil:
			admitted++
		case answer.Status != http.StatusServiceUnavailable || !strings.Contains(answer.Body, "overloaded"):
			t.Fatalf("got %d %s, want 503 overloaded", answer.Status, answer.Body)
		}
	}
	if want := 64; admitted != want {
		t.Errorf("got %d connections, want %d of 256 files", admitted, want)
	}
	for range 40 { // idle strangers on top of them
		c, err := net.Dial("tcp", s.public)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	s.expectHealthy()
	if status, body := s.ask("POST", "/v1/publish", `{"organization_id":"acme","group":"all","event":{"type":"note"}}`); status != http.StatusOK {
		t.Errorf("publish: got %d %s", status, body)
	}
	first.Expect(t, `{"organization_id":"acme","type":"note"}`)
	if log := s.log.String(); !strings.Contains(log, "few open files") || strings.Contains(log, "too many open files") {
		t.Errorf("the log does not warn of few files, or ran out of them: %s", log)
	}
}

// TestStrangersThatNeverReadHoldNothing: who sends requests without a session, one behind the
// other, and reads no answer, loses the socket with the first of them.
func TestStrangersThatNeverReadHoldNothing(t *testing.T) {
	const files = 700
	s := startWithFiles(t, files, nil)
	requests := bytes.Repeat([]byte("GET /x HTTP/1.1\r\nHost: a\r\n\r\n"), 100)
	for range 690 {
		c, err := net.Dial("tcp", s.public)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write(requests) // the node may have had enough already
	}
	s.expectHealthy()
	testkit.Eventually(t, "no stranger has a socket", func() bool { return s.metricLine("orgcast_handshake_sockets 0") })
	s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	if log := s.log.String(); strings.Contains(log, "too many open files") {
		t.Errorf("files ran out: %s", log)
	}
}

// TestTooFewFiles: a limit of connections that the files do not allow, or hardly any files, is told
// before the first browser is refused.
func TestTooFewFiles(t *testing.T) {
	for name, test := range map[string]struct {
		files int
		args  []string
		code  int
		want  string
	}{
		"check, hardly any":         {63, []string{"check"}, 2, "open files: the limit of 63 is too low: it must be at least 64"},
		"serve, hardly any":         {63, []string{"serve"}, 2, "open files: the limit of 63 is too low: it must be at least 64"},
		"check, more than there is": {256, []string{"check", "--max-connections", "65"}, 2, "--max-connections: 65 is too high: a limit of 256 open files allows 64 connections"},
		"serve, more than there is": {256, []string{"serve", "--max-connections", "65"}, 2, "--max-connections: 65 is too high: a limit of 256 open files allows 64 connections"},
		"check, few":                {256, []string{"check"}, 0, "Warning: few open files: a limit of 256 allows 64 connections"},
		"check, just enough":        {64, []string{"check", "--max-connections", "16"}, 0, "No mistakes found."},
		"check, plenty":             {1024, []string{"check", "--max-connections", "768"}, 0, "No mistakes found."},
	} {
		t.Run(name, func(t *testing.T) {
			out := new(testkit.SyncBuffer)
			p := spawnWithFiles(t, test.files, newServing(t, "127.0.0.1:1", nil).env, out, out, test.args...)
			p.expectExit(test.code)
			if !strings.Contains(out.String(), test.want) {
				t.Errorf("got %s, want %q", out.String(), test.want)
			}
		})
	}
}
