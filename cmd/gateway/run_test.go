package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"orgcast/internal/app"
	"orgcast/internal/bench"
	"orgcast/internal/cli"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
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

// syncBuffer is an output that a test reads while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

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
	var out, errOut syncBuffer
	p := cli.Process{Getenv: env.get, Environ: env.list(), Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errOut}
	err = program().Run(tb.Context(), p, args)
	return out.String(), errOut.String(), err
}

// serving is a gateway, in this process as a rule, its ports chosen by the kernel.
type serving struct {
	tb              testing.TB
	env             environment
	public, private string // addresses
	log             *syncBuffer
	cancel          context.CancelFunc // as a signal would
	spawned         *spawned           // if it is a process of its own
	hangups         chan os.Signal
	done            chan error
}

func startServe(tb testing.TB, redisAddr string, more environment, routes ...app.Route) *serving {
	tb.Helper()
	s := newServing(tb, redisAddr, more)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	p := cli.Process{Getenv: s.env.get, Environ: s.env.list(), Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: s.log, Hangups: s.hangups}
	g := program()
	g.Routes = routes
	go func() { s.done <- g.Run(ctx, p, nil) }()
	tb.Cleanup(func() {
		cancel()
		s.wait()
	})
	s.findAddresses()
	return s
}

// newServing returns a gateway that has its settings and is not started.
func newServing(tb testing.TB, redisAddr string, more environment) *serving {
	tb.Helper()
	s := &serving{tb: tb, log: new(syncBuffer), hangups: make(chan os.Signal, 1), done: make(chan error, 1), env: environment{
		"ORGCAST_LISTEN": "127.0.0.1:0", "ORGCAST_ADMIN_LISTEN": "127.0.0.1:0", "ORGCAST_REDIS": "redis://" + redisAddr + "/0",
		"ORGCAST_SESSION_KEYS": testKey, "ORGCAST_ORIGINS": testOrigin, "ORGCAST_DIRECTORY": "session",
		"ORGCAST_PUBLISH_KEY": testPublishKey, "ORGCAST_DRAIN_WAIT": "0s", "ORGCAST_DRAIN": "0s",
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
	out, errOut, err := execute(s.tb, s.env, "", "session", "read", value)
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

// TestRecorded: each way to record ends in the same history, answers with the position, and reaches
// browsers, which see it if they speak the subprotocol. An idempotency key counts once for all ways.
func TestRecorded(t *testing.T) {
	addr := redistest.Start(t)
	s := startServe(t, addr, nil)
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	plain := s.subscribe(dial, "ada", "acme")
	handshake := s.mint("ada", "acme")
	handshake.Header.Set("Sec-WebSocket-Protocol", "orgcast.v1")
	known := testkit.Connect(t, dial, handshake)
	if _, err := known.Next(); err != nil { // the welcome
		t.Fatal(err)
	}
	if err := known.SendText(`{"type":"subscribe","group":"all"}`); err != nil {
		t.Fatal(err)
	}
	if got, err := known.Next(); err != nil || !strings.HasPrefix(got, `{"type":"subscribed","group":"all","id":"0-0.`) {
		t.Fatalf("got %s, %v, want the confirmation with the place of an empty history", got, err)
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	script := readDoc(t, "internal/pubsub/record.lua") // as other languages load it

	record := map[string]func(key, event string) (id string){
		"command": func(key, event string) string {
			out, errOut, err := execute(t, s.env, "", "publish", "--record", "--idempotency-key", key, "acme", "all", event)
			if err != nil {
				t.Fatalf("publish: %v\n%s", err, errOut)
			}
			return strings.TrimSpace(out)
		},
		"HTTP": func(key, event string) string {
			status, body := s.ask("POST", "/v1/publish", `{"organization_id":"acme","group":"all","record":true,"idempotency_key":"`+key+`","event":`+event+`}`)
			var answer struct{ Results []struct{ ID string } }
			if err := json.Unmarshal([]byte(body), &answer); status != 200 || err != nil || len(answer.Results) != 1 {
				t.Fatalf("POST /v1/publish: got %d %s", status, body)
			}
			return answer.Results[0].ID
		},
		"script": func(key, event string) string {
			keys := []string{"orgcast:{acme}:history:all", "orgcast:{acme}:once:all:" + key}
			id, err := client.Eval(t.Context(), script, keys, "orgcast:{acme}:group:all", event, 1000, 86400000).Text()
			if err != nil {
				t.Fatal(err)
			}
			return id
		},
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	record["redis-cli"] = func(key, event string) string {
		out, err := exec.Command("redis-cli", "-p", port, "--eval", "../../internal/pubsub/record.lua",
			"orgcast:{acme}:history:all", "orgcast:{acme}:once:all:"+key, ",", "orgcast:{acme}:group:all", event, "1000", "86400000").Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	var ids []string
	for way, fn := range record {
		event := `{"organization_id":"acme","type":"note","way":"` + way + `"}`
		id := fn(way, event)
		ids = append(ids, id)
		plain.Expect(t, event)
		known.Expect(t, strings.TrimSuffix(event, "}")+`,"group":"all","id":"`+id+`"}`)
	}
	for _, way := range slices.Sorted(maps.Keys(record)) {
		for _, fn := range record {
			if id := fn(way, `{"organization_id":"acme","type":"note","way":"again"}`); !slices.Contains(ids, id) {
				t.Errorf("key %s again: got the id %s, want one of %v", way, id, ids)
			}
		}
	}
	entries, err := client.XRange(t.Context(), "orgcast:{acme}:history:all", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, entry := range entries {
		kept = append(kept, entry.ID)
	}
	if diff := cmp.Diff(ids, kept); diff != "" {
		t.Errorf("history: answers (-), stream (+):\n%s", diff)
	}
	out, errOut, err := execute(t, s.env, "\n{\"type\":\"note\",\"n\":1}\n \t\r\n{\"type\":\"note\",\"n\":2}\n\n", "publish", "--record", "acme", "all", "-")
	if lines := strings.Fields(out); err != nil || len(lines) != 2 || lines[0] == lines[1] {
		t.Errorf("lines: got %q %s %v, want two positions", out, errOut, err)
	}
	plain.Expect(t, `{"organization_id":"acme","type":"note","n":1}`) // and nothing again before it
	plain.Expect(t, `{"organization_id":"acme","type":"note","n":2}`)
}

// TestMainJob is the whole way: log in, subscribe, and get what a back end publishes in each of
// the ways there are, and nothing of another organisation; then the goodbye.
func TestMainJob(t *testing.T) {
	addr := redistest.Start(t)
	for name, more := range map[string]environment{
		"sessions in cookies": nil,
		"sessions in Redis":   {"ORGCAST_SESSION_STORE": "redis"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServe(t, addr, more)
			s.expectReady()
			dial := testkit.DialTCP(s.public)
			acme, globex := s.subscribe(dial, "ada", "acme"), s.subscribe(dial, "ada", "globex")

			publish := func(args ...string) {
				t.Helper()
				if _, errOut, err := execute(t, s.env, "", append([]string{"publish"}, args...)...); err != nil {
					t.Fatalf("publish: %v\n%s", err, errOut)
				}
			}
			publish("acme", "all", `{"type":"note","way":"command"}`)
			acme.Expect(t, `{"organization_id":"acme","type":"note","way":"command"}`)
			if _, errOut, err := execute(t, s.env, "{\"type\":\"note\",\"n\":1}\n{\"type\":\"note\",\"n\":2}\n", "publish", "acme", "all", "-"); err != nil {
				t.Fatalf("publish lines: %v\n%s", err, errOut)
			}
			acme.Expect(t, `{"organization_id":"acme","type":"note","n":1}`)
			acme.Expect(t, `{"organization_id":"acme","type":"note","n":2}`)
			if status, body := s.ask("POST", "/v1/publish", `{"organization_id":"acme","group":"all","event":{"type":"note","way":"HTTP"}}`); status != 200 {
				t.Fatalf("POST /v1/publish: got %d %s", status, body)
			}
			acme.Expect(t, `{"organization_id":"acme","type":"note","way":"HTTP"}`)
			client := redis.NewClient(&redis.Options{Addr: addr})
			defer client.Close()
			raw := `{"type":"note","organization_id":"acme","way":"redis-cli"}`
			for _, payload := range []string{`{"type":"note"}`, `{"type":"note","organization_id":"globex"}`, raw} {
				if err := client.Publish(t.Context(), "orgcast:{acme}:group:all", payload).Err(); err != nil {
					t.Fatal(err)
				}
			}
			acme.Expect(t, raw)
			publish("globex", "all", `{"type":"note","last":true}`)
			globex.Expect(t, `{"organization_id":"globex","type":"note","last":true}`) // and nothing before it

			if _, body := s.ask("GET", "/metrics", ""); !strings.Contains(body, "orgcast_isolation_violations_total 0") || !strings.Contains(body, "orgcast_connections 2") {
				t.Errorf("metrics: got %s", body)
			}
			if out, errOut, err := execute(t, environment{"ORGCAST_ADMIN_LISTEN": s.private}, "", "healthcheck"); err != nil || !strings.Contains(out, "ready") {
				t.Errorf("healthcheck: got %s %s %v", out, errOut, err)
			}
			s.cancel()
			if _, reason := acme.ExpectClose(t, 1012); !strings.HasPrefix(reason, `{"retry_after_ms":`) {
				t.Errorf("reason: got %q", reason)
			}
			globex.ExpectClose(t, 1012)
			if err := s.wait(); err != nil {
				t.Errorf("serve: got %v, want nil", err)
			}
			if log := s.log.String(); strings.Contains(log, "redis-cli") || strings.Contains(log, testKey) || strings.Contains(log, testPublishKey) {
				t.Errorf("the log shows content or keys: %s", log)
			}
			if _, _, err := execute(t, environment{"ORGCAST_ADMIN_LISTEN": s.private}, "", "healthcheck"); err == nil {
				t.Error("healthcheck of a gateway that is gone: got nil, want an error")
			}
		})
	}
}

// TestRedisAwayAtStart: the gateway starts, says that it is not ready, refuses nobody for good, and
// becomes ready by itself.
func TestRedisAwayAtStart(t *testing.T) {
	server := redistest.StartServer(t)
	server.Stop()
	s := startServe(t, server.Addr, nil)
	if status, body := s.ask("GET", "/readyz", ""); status != 503 || !strings.Contains(body, "events") {
		t.Errorf("without Redis: got %d %s, want 503", status, body)
	}
	if status, _ := s.ask("GET", "/healthz", ""); status != 200 {
		t.Errorf("healthz without Redis: got %d, want 200", status)
	}
	if _, _, err := execute(t, environment{"ORGCAST_ADMIN_LISTEN": s.private}, "", "healthcheck"); err == nil {
		t.Error("healthcheck: got nil, want an error")
	}
	server.Restart()
	s.expectReady()
	c := s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	if _, errOut, err := execute(t, s.env, "", "publish", "acme", "all", `{"type":"note"}`); err != nil {
		t.Fatalf("publish: %v\n%s", err, errOut)
	}
	c.Expect(t, `{"organization_id":"acme","type":"note"}`)
	server.Stop()
	testkit.Eventually(t, "not ready", func() bool { status, _ := s.ask("GET", "/readyz", ""); return status == 503 })
	_ = c.SendText(`{"type":"ping"}`) // whoever is connected stays so
	c.Expect(t, `{"type":"pong"}`)
}

// writeCertificate puts a certificate of gateway.test and its key into the folder and returns a pool that trusts it.
func writeCertificate(tb testing.TB, dir string) (certFile, keyFile string, pool *x509.CertPool) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gateway.test"}, DNSNames: []string{"gateway.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	err = errors.Join(
		os.WriteFile(certFile, certPEM, 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	if err != nil {
		tb.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, pool
}

// dialTLS connects to the public listener and trusts the pool.
func (s *serving) dialTLS(pool *x509.CertPool) testkit.DialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		// As a browser offers it; WebSockets need 1.1, so that must be what is agreed on.
		d := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: "gateway.test", NextProtos: []string{"h2", "http/1.1"}}}
		c, err := d.DialContext(ctx, "tcp", s.public)
		if err != nil {
			return nil, err
		}
		if got := c.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "http/1.1" { //nolint:forcetypeassert // as documented
			return nil, errors.Join(fmt.Errorf("ALPN: got %q, want http/1.1", got), c.Close())
		}
		return c, nil
	}
}

// TestTLS serves with a certificate of its own making.
func TestTLS(t *testing.T) {
	certFile, keyFile, pool := writeCertificate(t, t.TempDir())
	s := startServe(t, redistest.Start(t), environment{"ORGCAST_TLS_CERT": certFile, "ORGCAST_TLS_KEY": keyFile})
	s.expectReady()
	c := s.subscribe(s.dialTLS(pool), "ada", "acme")
	if _, errOut, err := execute(t, s.env, "", "publish", "acme", "all", `{"type":"note"}`); err != nil {
		t.Fatalf("publish: %v\n%s", err, errOut)
	}
	c.Expect(t, `{"organization_id":"acme","type":"note"}`)
	s.cancel()
	c.ExpectClose(t, 1012)
}

func TestCommands(t *testing.T) {
	good := environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_REDIS": "redis://user:hush@127.0.0.1:6379/0"}
	minted, _, err := execute(t, good, "", "session", "mint", "ada", "acme")
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(strings.TrimSpace(minted), "=")
	tests := map[string]struct {
		args   []string
		env    environment
		err    error // exit code, nil for 0
		failed bool  // any other error
		stdout []string
		stderr []string
	}{
		"help":                   {args: []string{"--help"}, stdout: []string{"demo", "serve", "publish", "healthcheck"}},
		"help as a word":         {args: []string{"help"}, stdout: []string{"gateway demo"}},
		"version":                {args: []string{"version"}, stdout: []string{"dev"}},
		"unknown subcommand":     {args: []string{"srve"}, err: cli.ErrUsage, stderr: []string{`"srve"`}},
		"help of serve":          {args: []string{"serve", "--help"}, stdout: []string{"--origins", "ORGCAST_ORIGINS", "--session-keys-file"}},
		"serve with nothing":     {args: []string{"serve"}, err: cli.ErrUsage, stderr: []string{"--origins", "--session-keys"}},
		"serve without origins":  {env: environment{"ORGCAST_SESSION_KEYS": testKey}, err: cli.ErrUsage, stderr: []string{"--origins"}},
		"origin list of none":    {env: environment{"ORGCAST_SESSION_KEYS": testKey, "ORGCAST_ORIGINS": "none"}, err: cli.ErrUsage, stderr: []string{"--origins"}},
		"surplus":                {args: []string{"serve", "now"}, env: good, err: cli.ErrUsage, stderr: []string{`"now"`}},
		"check":                  {args: []string{"check"}, env: good, stdout: []string{"No mistakes", testOrigin, "(set, not shown)", "user:xxxxx@"}},
		"check finds everything": {args: []string{"check", "--listen", "here", "--max-frame=1", "--tls-cert=x", "--colour"}, err: cli.ErrUsage, stderr: []string{"--listen", "--max-frame", "--tls-cert", "colour", "--origins", "--session-keys"}},
		"every part of a list":   {args: []string{"check", "--origins", "one.example,two.example"}, env: good, err: cli.ErrUsage, stderr: []string{`--origins (from flag): "one.example" must be an origin, such as https://app.example.com, https://*.example.com, http://localhost:3000 or none`, `"two.example" must be an origin`}},
		"every mistake of Redis": {args: []string{"check", "--redis-tls-ca", "ca.pem", "--redis-sentinel-master", "m"}, env: good, err: cli.ErrUsage, stderr: []string{"rediss://", "--redis-sentinels: must be set together"}},
		"no such certificate":    {args: []string{"check", "--tls-cert", "/nowhere", "--tls-key", "/nowhere"}, env: good, err: cli.ErrUsage, stderr: []string{"--tls-cert and --tls-key: open /nowhere"}},
		"check --markdown":       {args: []string{"check", "--markdown"}, stdout: []string{"| `--listen` | `ORGCAST_LISTEN` | `:8080` |"}},
		"help of check":          {args: []string{"check", "--help"}, stdout: []string{"Exit code 2"}},
		"public health, no path": {args: []string{"check", "--public-health", "healthz"}, env: good, err: cli.ErrUsage, stderr: []string{"--public-health (from flag): must be a path"}},
		"public health, sockets": {args: []string{"check", "--public-health", "/ws/healthz"}, env: good, err: cli.ErrUsage, stderr: []string{"must not be below /ws/"}},
		"version as a flag":      {args: []string{"--version"}, stdout: []string{"dev"}},
		"help of a subcommand":   {args: []string{"help", "serve"}, stdout: []string{"--origins", "ORGCAST_ORIGINS"}},
		"help of nothing":        {args: []string{"help", "srve"}, err: cli.ErrUsage, stderr: []string{`"srve"`}},
		"nothing at all":         {err: cli.ErrUsage, stderr: []string{"Usage: gateway", "gateway demo"}},
		"Kubernetes alone":       {env: environment{"ORGCAST_SERVICE_HOST": "10.0.0.1", "ORGCAST_PORT_8080_TCP": "tcp://10.0.0.1:8080"}, err: cli.ErrUsage, stderr: []string{"Usage: gateway"}},
		"variables, no argument": {env: environment{"ORGCAST_LISTEN": "127.0.0.1:0"}, err: cli.ErrUsage, stderr: []string{"invalid configuration", "--origins"}},
		"misspelled variable":    {args: []string{"check"}, env: environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_LISTN": ":1"}, err: cli.ErrUsage, stderr: []string{"ORGCAST_LISTN: unknown variable, did you mean ORGCAST_LISTEN?"}},
		"far from any variable":  {args: []string{"serve"}, env: environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_QWERTYUIOP": "1"}, err: cli.ErrUsage, stderr: []string{"ORGCAST_QWERTYUIOP: unknown variable (--allow-unknown-env"}},
		"known elsewhere": {args: []string{"check"}, env: environment{
			"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_IMAGE": "x", "ORGCAST_WORKER_ATTEMPTS": "3", "ORGCAST_PACE": "1s",
			"ORGCAST_SERVICE_HOST": "10.0.0.1", "ORGCAST_SERVICE_PORT_HTTP": "80", "ORGCAST_PORT": "tcp://10.0.0.1:80", "ORGCAST_PORT_80_TCP_ADDR": "10.0.0.1",
		}, stdout: []string{"No mistakes"}},
		"unknown, allowed":       {args: []string{"check", "--allow-unknown-env"}, env: environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_LISTN": ":1"}, stdout: []string{"No mistakes"}},
		"one port for both":      {args: []string{"check", "--listen", ":9090", "--admin-listen", ":9090"}, env: good, err: cli.ErrUsage, stderr: []string{"--listen and --admin-listen: must differ"}},
		"short keys":             {args: []string{"check"}, env: environment{"ORGCAST_SESSION_KEYS": "hush"}, err: cli.ErrUsage, stderr: []string{"key 1"}},
		"origin with a path":     {args: []string{"check", "--origins", "https://a.example/b"}, env: good, err: cli.ErrUsage, stderr: []string{"--origins"}},
		"origin of everything":   {args: []string{"check", "--origins", "*"}, env: good, err: cli.ErrUsage, stderr: []string{"--origins"}},
		"Redis URL":              {args: []string{"check", "--redis", "http://user:hush@x"}, env: good, err: cli.ErrUsage, stderr: []string{"is not a valid Redis URL"}},
		"master, no Sentinels":   {args: []string{"check", "--redis-sentinel-master", "m"}, env: good, err: cli.ErrUsage, stderr: []string{"--redis-sentinels: must be set together"}},
		"Sentinels, no master":   {args: []string{"check", "--redis-sentinels", "a:1"}, env: good, err: cli.ErrUsage, stderr: []string{"--redis-sentinel-master and"}},
		"the same to publish":    {args: []string{"publish", "--redis-sentinels", "a:1", "acme", "all", `{"type":"x"}`}, err: cli.ErrUsage, stderr: []string{"--redis-sentinel-master and"}},
		"lone password":          {args: []string{"check"}, env: environment{"ORGCAST_REDIS_SENTINEL_PASSWORD": "hush"}, err: cli.ErrUsage, stderr: []string{"--redis-sentinel-password"}},
		"certificates, no TLS":   {args: []string{"check", "--redis-tls-ca", "ca.pem"}, env: good, err: cli.ErrUsage, stderr: []string{"rediss://"}},
		"certificate, no key":    {args: []string{"check", "--redis", "rediss://a:1", "--redis-tls-cert", "c.pem"}, env: good, err: cli.ErrUsage, stderr: []string{"--redis-tls-key: must be set together"}},
		"no certificate":         {args: []string{"check", "--redis", "rediss://a:1", "--redis-tls-ca", "run_test.go"}, env: good, err: cli.ErrUsage, stderr: []string{"--redis-tls-ca: holds no"}},
		"no file":                {args: []string{"publish", "--redis", "rediss://a:1", "--redis-tls-ca", "/nowhere", "acme", "all", `{"type":"x"}`}, err: cli.ErrUsage, stderr: []string{"--redis-tls-ca: open /nowhere"}},
		"Sentinels, no host":     {args: []string{"check", "--redis-sentinels", "a:1,:2", "--redis-sentinel-master", "m"}, env: good, err: cli.ErrUsage, stderr: []string{`":2" is not HOST:PORT`}},
		"Cluster and Sentinels":  {args: []string{"check", "--redis-cluster", "a:1", "--redis-sentinels", "a:1", "--redis-sentinel-master", "m"}, env: good, err: cli.ErrUsage, stderr: []string{"a Cluster has no Sentinels"}},
		"Cluster, no port":       {args: []string{"check", "--redis-cluster", "a:1,b"}, env: good, err: cli.ErrUsage, stderr: []string{`"b" is not HOST:PORT`}},
		"Redis in RESP2":         {args: []string{"check", "--redis", "redis://a:1?protocol=2"}, env: good, err: cli.ErrUsage, stderr: []string{"--redis: protocol=2 is not supported"}},
		"Cluster, database":      {args: []string{"revoke", "--redis-cluster", "a:1", "--redis", "redis://a/1", "user", "ada"}, env: good, err: cli.ErrUsage, stderr: []string{"only database 0"}},
		"Cluster, bench":         {args: []string{"bench"}, env: environment{"ORGCAST_REDIS_CLUSTER": "a:1"}, err: cli.ExitError(bench.ExitFailed), stderr: []string{"not into a Cluster"}},
		"bench what":             {args: []string{"bench", "measure"}, err: cli.ExitError(bench.ExitFailed), stderr: []string{`bench cannot be called with ["measure"]`}},
		"bench all wrong":        {args: []string{"bench", "--speed", "3", "--conns", "0"}, err: cli.ExitError(bench.ExitFailed), stderr: []string{"-speed", "--conns (from flag)"}},
		"bench without keys":     {args: []string{"bench"}, err: cli.ExitError(bench.ExitFailed), stderr: []string{"--session-keys"}},
		"publish nothing":        {args: []string{"publish"}, err: cli.ErrUsage, stderr: []string{"ORGANIZATION GROUP JSON"}},
		"publish too much":       {args: []string{"publish", "acme", "all", "{}", "{}"}, err: cli.ErrUsage, stderr: []string{`publish cannot be called with ["acme" "all" "{}" "{}"]`}},
		"settings come last":     {args: []string{"publish", "acme", "all", `{"type":"x"}`, "--idempotency-key", "a b"}, err: cli.ErrUsage, stderr: []string{"--idempotency-key (from flag)"}},
		"revoke what":            {args: []string{"revoke", "everything"}, err: cli.ErrUsage, stderr: []string{`revoke cannot be called with ["everything"]`}},
		"publish a bad key":      {args: []string{"publish", "--record", "--idempotency-key", "a b", "acme", "all", `{"type":"x"}`}, err: cli.ErrUsage, stderr: []string{"idempotency key"}},
		"publish a lone key":     {args: []string{"publish", "--idempotency-key", "k", "acme", "all", `{"type":"x"}`}, failed: true},
		"publish lines, one key": {args: []string{"publish", "--record", "--idempotency-key", "k", "acme", "all", "-"}, failed: true},
		"publish to a user":      {args: []string{"publish", "--user", "a b", "acme", `{"type":"x"}`}, err: cli.ErrUsage, stderr: []string{"--user (from flag)"}},
		"publish to both":        {args: []string{"publish", "--user", "ada", "acme", "all", `{"type":"x"}`}, err: cli.ErrUsage, stderr: []string{"--user USER ORGANIZATION JSON"}},
		"mint a bad user":        {args: []string{"session", "mint", "a\nb"}, env: good, failed: true},
		"publish foreign":        {args: []string{"publish", "acme", "all", `{"type":"x","organization_id":"globex"}`}, failed: true},
		"publish no JSON":        {args: []string{"publish", "acme", "all", "hello"}, failed: true},
		"publish to no group":    {args: []string{"publish", "acme", "ü", `{"type":"x"}`}, failed: true},
		"publish for nobody":     {args: []string{"publish", "a:b", "all", `{"type":"x"}`}, failed: true},
		"session without verb":   {args: []string{"session"}, env: good, err: cli.ErrUsage, stderr: []string{"session mint"}},
		"session without keys":   {args: []string{"session", "mint", "ada"}, err: cli.ErrUsage, stderr: []string{"--session-keys"}},
		"session for nobody":     {args: []string{"session", "mint", "a b"}, env: good, failed: true},
		"session read":           {args: []string{"session", "read", value}, env: good, stdout: []string{"ada", "acme", "user.ada", "revoked       unknown"}},
		"session read, wrong":    {args: []string{"session", "read", value + "x"}, env: good, failed: true},
		"healthcheck, nobody":    {args: []string{"healthcheck", "--admin-listen", "127.0.0.1:1"}, failed: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, err := execute(t, test.env, "", test.args...)
			if test.failed {
				if errors.As(err, new(cli.ExitError)) || err == nil {
					t.Errorf("got %v, want an error for main to print", err)
				}
			} else if !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			for _, want := range test.stdout {
				if !strings.Contains(stdout, want) {
					t.Errorf("stdout does not tell of %q:\n%s", want, stdout)
				}
			}
			for _, want := range test.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr does not tell of %q:\n%s", want, stderr)
				}
			}
			if all := stdout + stderr + errorText(err); strings.Contains(all, "hush") || strings.Contains(all, testKey) {
				t.Errorf("a secret is shown:\n%s", all)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestPortInUse: a port that is taken is found out before anything has begun.
func TestPortInUse(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, _, err = execute(t, environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_LISTEN": "127.0.0.1:0", "ORGCAST_ADMIN_LISTEN": l.Addr().String()}, "", "serve")
	if err == nil || !strings.Contains(err.Error(), "--admin-listen: listen tcp "+l.Addr().String()) || !strings.Contains(err.Error(), "in use (try --admin-listen 127.0.0.1:") {
		t.Errorf("got %v, want that the address is in use, and which setting to change", err)
	}
}
