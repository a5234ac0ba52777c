package main

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orgcast/internal/app"
	"orgcast/internal/cli"
	"orgcast/internal/consumer"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv(asGateway) != "" {
		main() // exits
	}
	// net/http gives a client that was refused half a second to read why, and no shutdown waits for that.
	testkit.Main(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const (
	testOrigin     = "https://app.example.com"
	testKey        = "0123456789abcdef0123456789abcdef"
	testPublishKey = "publish-key-of-thirty-two-bytes!"
)

// environment is what getenv of a test answers.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

// list returns it as os.Environ does.
func (e environment) list() []string {
	list := []string{"PATH=/bin"}
	for name, value := range e {
		list = append(list, name+"="+value)
	}
	return list
}

// execute runs a subcommand to its end.
func execute(tb testing.TB, env environment, stdin string, args ...string) (stdout, stderr string, err error) {
	tb.Helper()
	var out, errOut testkit.SyncBuffer
	p := cli.Process{Getenv: env.get, Environ: env.list(), Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errOut}
	err = program().Run(tb.Context(), p, args)
	return out.String(), errOut.String(), err
}

// serving is a gateway, in this process as a rule, its ports chosen by the kernel.
type serving struct {
	tb              testing.TB
	env             environment
	public, private string // addresses
	log             *testkit.SyncBuffer
	cancel          context.CancelFunc // as a signal would
	spawned         *spawned           // if it is a separate process
	hangups         chan os.Signal
	done            chan error
}

func startServe(tb testing.TB, redisAddr string, more environment, routes ...consumer.Route) *serving {
	tb.Helper()
	return startExtended(tb, redisAddr, more, app.Extension{Routes: func(app.Parts) []consumer.Route { return routes }})
}

// startExtended starts a gateway with an extension.
func startExtended(tb testing.TB, redisAddr string, more environment, e app.Extension) *serving {
	tb.Helper()
	s := newServing(tb, redisAddr, more)
	g := program()
	g.Extension = e
	s.start(g)
	return s
}

// start starts the gateway in this process.
func (s *serving) start(g cli.Program) {
	s.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	p := cli.Process{Getenv: s.env.get, Environ: s.env.list(), Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: s.log, Hangups: s.hangups}
	go func() { s.done <- g.Run(ctx, p, nil) }()
	s.tb.Cleanup(func() {
		cancel()
		s.wait()
	})
	s.findAddresses()
}

// newServing returns a gateway that has its settings and is not started.
func newServing(tb testing.TB, redisAddr string, more environment) *serving {
	tb.Helper()
	s := &serving{tb: tb, log: new(testkit.SyncBuffer), hangups: make(chan os.Signal, 1), done: make(chan error, 1), env: environment{
		"ORGCAST_LISTEN": "127.0.0.1:0", "ORGCAST_ADMIN_LISTEN": "127.0.0.1:0", "ORGCAST_REDIS": "redis://" + redisAddr + "/0",
		"ORGCAST_SESSION_KEYS": testKey, "ORGCAST_ORIGINS": testOrigin, "ORGCAST_DIRECTORY": "session",
		"ORGCAST_PUBLISH_KEY": testPublishKey, "ORGCAST_DRAIN_WAIT": "0s", "ORGCAST_DRAIN": "0s",
		"ORGCAST_PING_INTERVAL": "10m", // clients that wait for something else answer no ping
	}}
	maps.Copy(s.env, more)
	return s
}

// findAddresses waits until the log says where the gateway serves.
func (s *serving) findAddresses() {
	s.tb.Helper()
	testkit.Eventually(s.tb, "serving", func() bool {
		for line := range strings.Lines(s.log.String()) {
			var entry struct{ Msg, Public, Private string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving" {
				s.public, s.private = entry.Public, entry.Private
			}
		}
		return s.public != ""
	})
}

// wait returns when the gateway has ended; again and again if need be.
func (s *serving) wait() error {
	s.tb.Helper()
	select {
	case err := <-s.done:
		s.done <- err
		return err
	case <-time.After(testkit.Patience):
		s.tb.Error("serve did not end")
		return nil
	}
}

// ask sends a request to the private listener.
func (s *serving) ask(method, path, body string) (int, string) {
	s.tb.Helper()
	request, err := http.NewRequestWithContext(s.tb.Context(), method, "http://"+s.private+path, strings.NewReader(body))
	if err != nil {
		s.tb.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+testPublishKey)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testkit.Patience}
	response, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(text)
}

func (s *serving) expectReady() {
	s.tb.Helper()
	testkit.Eventually(s.tb, "ready", func() bool { status, _ := s.ask("GET", "/readyz", ""); return status == 200 })
}

// mint logs a user in with `gateway session mint` and returns a handshake.
func (s *serving) mint(user, org string) testkit.Handshake {
	s.tb.Helper()
	out, errOut, err := execute(s.tb, s.env, "", "session", "mint", user, org)
	if err != nil {
		s.tb.Fatalf("session mint: %v\n%s", err, errOut)
	}
	return testkit.Handshake{Path: "/ws/events", Header: http.Header{"Origin": {testOrigin}, "Cookie": {strings.TrimSpace(out)}}}
}

// sessionID returns the id of a session, as an operator finds it out.
func (s *serving) sessionID(h testkit.Handshake) string {
	s.tb.Helper()
	_, value, _ := strings.Cut(h.Header.Get("Cookie"), "=")
	out, errOut, err := execute(s.tb, s.env, "", "session", "read", "--", value)
	if err != nil {
		s.tb.Fatalf("session read: %v\n%s", err, errOut)
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "session" {
			return fields[1]
		}
	}
	s.tb.Fatalf("no session in %s", out)
	return ""
}

func (s *serving) subscribe(dial testkit.DialFunc, user, org string) *testkit.Client {
	s.tb.Helper()
	c := testkit.Connect(s.tb, dial, s.mint(user, org))
	if err := c.SendText(`{"type":"subscribe","group":"all"}`); err != nil {
		s.tb.Fatal(err)
	}
	c.Expect(s.tb, `{"type":"subscribed","group":"all"}`)
	return c
}
