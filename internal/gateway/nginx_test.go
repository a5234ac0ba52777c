package gateway_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orgcast/internal/testkit"
)

// behindNginx starts an nginx in front of a node, which listens as its configuration says, and
// returns the way there: a Unix socket, since nobody else can take its name.
func (n *node) behindNginx(listen, location string) testkit.DialFunc {
	n.tb.Helper()
	dir, err := os.MkdirTemp("", "nginx") // short, as the name of a socket must be
	if err != nil {
		n.tb.Fatal(err)
	}
	n.tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	writeCertificate(n.tb, dir)
	config := fmt.Sprintf(`
daemon off; master_process off; pid nginx.pid; error_log error.log;
events {}
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    ssl_certificate cert.pem; ssl_certificate_key key.pem;
    server { listen unix:%s %s; location / { proxy_pass http://%s; proxy_set_header Host $host; %s } }
}`, socket, listen, n.addr(), location)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		n.tb.Fatal(err)
	}
	command := exec.Command("/usr/sbin/nginx", "-p", dir, "-c", file)
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		n.tb.Fatalf("%v (scripts/deps test installs it)", err)
	}
	n.tb.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	dial := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", socket) }
	testkit.Eventually(n.tb, "nginx listens", func() bool {
		c, err := dial(n.tb.Context())
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return dial
}

func writeCertificate(tb testing.TB, dir string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}

// TestStreamsThroughNginx: a proxy that strips Upgrade, and buffers what it may buffer, hands on
// each event at once, and shows when the client is gone.
func TestStreamsThroughNginx(t *testing.T) {
	for name, location := range map[string]string{
		"as it comes":        "",
		"buffering":          "proxy_buffering on; proxy_buffers 64 64k; proxy_buffer_size 64k;",
		"as our docs say":    `proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 90s;`,
		"Upgrade taken away": `proxy_http_version 1.1; proxy_set_header Upgrade ""; proxy_set_header Connection "close";`,
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, setup{over: streams, plain: true})
			dial := n.behindNginx("", location)
			if _, answer := testkit.Try(t, dial, testkit.Handshake{Path: "/ws/events", Header: n.page("ada", "acme")}); answer.Status != http.StatusBadRequest {
				t.Errorf("WebSocket: got %d %s, want that the proxy has stripped Upgrade", answer.Status, answer.Body)
			}
			for kind, h := range map[string]testkit.Handshake{
				"GET":  gotten("/ws/events?group=all", n.page("ada", "acme")),
				"POST": posted("/ws/events", n.page("ada", "acme"), `{"type":"subscribe","group":"all"}`),
			} {
				c := testkit.Connect(t, dial, h)
				expectWelcome(t, c)
				expectType(t, c, "subscribed")
				c.Flatten()
				for i := range 20 { // none waits for the next
					c.Expect(t, n.publish("acme", "all", fmt.Sprint(kind, i)))
				}
				n.leave(c, 0)
			}
		})
	}
}

// TestStreamsOverHTTP2: a proxy speaks HTTP/2 to browsers, and several streams share a connection.
func TestStreamsOverHTTP2(t *testing.T) {
	n := startNode(t, setup{over: streams, plain: true})
	dial := n.behindNginx("ssl http2", "")
	transport := &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: testkit.Patience}
	var lines []*bufio.Scanner
	for i := range 8 { // more than a browser has connections over HTTP/1.1
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1/sse/events?group=all", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = n.page("ada", "acme")
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.ProtoMajor != 2 || response.StatusCode != http.StatusOK {
			t.Fatalf("stream %d: got %s %s, want HTTP/2 and 200", i, response.Proto, response.Status)
		}
		lines = append(lines, bufio.NewScanner(response.Body))
	}
	await := func(text string) {
		t.Helper()
		for i, s := range lines {
			for !strings.Contains(s.Text(), text) {
				if !s.Scan() {
					t.Fatalf("stream %d ended before %q: %v", i, text, s.Err())
				}
			}
		}
	}
	await(`"subscribed"`)
	for i := range 20 {
		text := fmt.Sprintf("event-%d-", i)
		n.publish("acme", "all", text)
		await(text)
	}
	n.expectConnections(len(lines))
}
