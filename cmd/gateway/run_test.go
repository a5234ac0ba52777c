package main

import (
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
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

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
	script := readDoc(t, "clients/lua/record.v1.lua") // as other languages load it

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
		out, err := exec.Command("redis-cli", "-p", port, "--eval", "../../clients/lua/record.v1.lua",
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
		known.Expect(t, `{"event":`+event+`,"group":"all","id":"`+id+`"}`)
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
// the ways there are, and nothing of another organization; then the close.
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
	_ = c.SendText(`{"type":"ping"}`) // connected clients stay connected
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

// TestTLS serves with its own certificate.
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

// TestTLSSessionsAreResumed: nodes with the same secret resume each other's sessions, also after a
// deploy. Others make a full handshake.
func TestTLSSessionsAreResumed(t *testing.T) {
	certFile, keyFile, pool := writeCertificate(t, t.TempDir())
	addr := redistest.Start(t)
	start := func(secret string) *serving {
		return startServe(t, addr, environment{"ORGCAST_TLS_CERT": certFile, "ORGCAST_TLS_KEY": keyFile, "ORGCAST_TLS_TICKET_KEY": secret})
	}
	one, two, other := start(testKey), start(testKey), start(testPublishKey)
	browser := &tls.Config{RootCAs: pool, ServerName: "gateway.test", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	visit := func(s *serving) (resumed bool) {
		c, err := (&tls.Dialer{Config: browser}).DialContext(t.Context(), "tcp", s.public)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil { // the ticket comes with the answer
			t.Fatal(err)
		}
		return c.(*tls.Conn).ConnectionState().DidResume //nolint:forcetypeassert // as documented
	}
	for i, step := range []struct {
		at   *serving
		want bool
	}{{one, false}, {two, true}, {one, true}, {start(testKey), true}, {other, false}} {
		if got := visit(step.at); got != step.want {
			t.Errorf("visit %d: resumed: got %v, want %v", i, got, step.want)
		}
	}
}
