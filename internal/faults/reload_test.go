package faults_test

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
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"orgcast/internal/testkit"
)

// configured is a gateway with TLS whose settings are in a folder.
type configured struct {
	*process

	tb     testing.TB
	dir    string
	served atomic.Pointer[big.Int] // the serial number of the certificate of the last handshake
}

// write puts a text into the folder. Its readers see the old or the new one.
func (c *configured) write(name, text string) {
	c.tb.Helper()
	path := filepath.Join(c.dir, name)
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		c.tb.Fatal(err)
	}
}

// settings writes the settings file.
func (c *configured) settings(lines ...string) {
	c.write("orgcast.yaml", "session-keys-file: session-keys\nevents-policy: \"*=member\"\ntls-cert: cert.pem\ntls-key: key.pem\nmax-per-user: 0\nroutes-file: routes.yaml\npublish-key-file: publish-key\n"+strings.Join(lines, "\n")+"\n")
}

// routes writes a routes file with one route.
func (c *configured) routes(name string) {
	c.write("routes.yaml", "version: 1\nroutes:\n  - path: /ws/"+name+"/\n    who: member\n    groups: ["+name+"]\n")
}

// certificate writes a new certificate, and then its key.
func (c *configured) certificate(serial int64) {
	c.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "gateway.test"}, DNSNames: []string{"gateway.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err1 := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	keyDER, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		c.tb.Fatal(err)
	}
	c.write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	c.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

// dial connects with TLS and notes which certificate the gateway has.
func (c *configured) dial(ctx context.Context) (net.Conn, error) {
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		c.served.Store(s.PeerCertificates[0].SerialNumber)
		return nil
	}}}
	return d.DialContext(ctx, "tcp", c.public)
}

// try returns the status of a handshake at a path, from a page, of a user whose cookie was signed
// with the key.
func (c *configured) try(path, page, key string) int {
	c.tb.Helper()
	shake := handshakeWith(c.tb, "org0", key)
	shake.Path = path
	shake.Header.Set("Origin", page)
	conn, answer := testkit.Try(c.tb, c.dial, shake)
	if conn != nil {
		_ = conn.Close()
	}
	return answer.Status
}

// reload asks for a reload by HTTP.
func (c *configured) reload() (status int, body string) {
	c.tb.Helper()
	request, err := http.NewRequestWithContext(c.tb.Context(), http.MethodPost, "http://"+c.private+"/v1/reload", http.NoBody)
	if err != nil {
		c.tb.Fatal(err)
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testkit.Patience}).Do(request)
	if err != nil {
		c.tb.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		c.tb.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// reloads returns how many reloads the gateway has counted.
func (c *configured) reloads() (n int) {
	for _, line := range c.lines() {
		if strings.Contains(line, `"settings reloaded"`) {
			n++
		}
	}
	return n
}

// change asks for a reload, in turn by signal and by HTTP, and waits for it.
func (c *configured) change(i int) {
	c.tb.Helper()
	before := c.reloads()
	if i%2 == 0 {
		c.signal(syscall.SIGHUP)
	} else if status, body := c.reload(); status != http.StatusOK {
		c.tb.Fatalf("reload: got %d %s", status, body)
	}
	testkit.Eventually(c.tb, "reloaded", func() bool { return c.reloads() == before+1 })
}

// TestReloadUnderLoad: origins, session keys, certificate, routes and limits change again and again
// while everybody receives. Nobody loses an event or the connection, what comes then is judged by
// the new settings, and a broken file changes nothing and says why.
func TestReloadUnderLoad(t *testing.T) {
	small(t)
	binary, d := buildGateway(t), single(t)
	c := &configured{tb: t, dir: t.TempDir()}
	const other, otherKey = "https://other.example.com", "fedcba9876543210fedcba9876543210"
	c.certificate(1)
	c.routes("first")
	c.write("session-keys", sessionKey)
	c.write("publish-key", strings.Repeat("p", 32))
	c.settings("origins: [" + origin + "]")
	c.process = startGateway(t, binary, append(slices.Clone(d.env), "ORGCAST_CONFIG="+filepath.Join(c.dir, "orgcast.yaml"), "ORGCAST_ORIGINS=", "ORGCAST_SESSION_KEYS=", "ORGCAST_EVENTS_POLICY=")...)
	testkit.Eventually(t, "ready", func() bool { return c.ready(t.Context()) })
	a := openThrough(t, c.dial, d, scale(size{5, 10, 10, 100 * time.Millisecond}, size{5, 10, 100, time.Second}))

	pages, keys, paths := [2]string{origin, other}, [2]string{sessionKey, otherKey}, [2]string{"/ws/first/", "/ws/second/"}
	began := time.Now()
	for i := range scale(6, 20) {
		now := (i + 1) % 2
		c.routes(strings.Split(paths[now], "/")[2])
		c.write("session-keys", keys[now])
		c.settings("origins: ["+pages[now]+"]", fmt.Sprint("queue-bytes: ", 2<<20+i), fmt.Sprint("events-per-second: ", 30_000+i), fmt.Sprint("max-connections: ", 10_000+i))
		c.change(i)
		for _, path := range []string{"/ws/events", paths[now]} {
			if got := c.try(path, pages[now], keys[now]); got != http.StatusSwitchingProtocols {
				t.Errorf("%s by the new settings: got %d, want 101", path, got)
			}
		}
		for what, got := range map[string]int{
			"the old origin": c.try(paths[now], pages[1-now], keys[now]), "the old key": c.try("/ws/events", pages[now], keys[1-now]), "the old route": c.try(paths[1-now], pages[now], keys[now]),
		} {
			if got == http.StatusSwitchingProtocols {
				t.Errorf("%s: got 101, want a refusal", what)
			}
		}
		c.refuseBroken(pages[now], keys[now])
		a.more()
	}
	c.certificate(2)
	testkit.Eventually(t, "the new certificate, without a reload", func() bool {
		_ = c.try("/ws/events", origin, sessionKey)
		return c.served.Load().Int64() == 2
	})
	took := time.Since(began)
	want := fmt.Sprintf("\norgcast_connections %d\n", len(a.viewers))
	testkit.Eventually(t, "those of the audience are the only connections", func() bool {
		metrics, err := c.ask(t.Context(), "/metrics")
		return err == nil && strings.Contains(metrics, want)
	})
	v := a.finish(scale(testkit.Patience, time.Minute))
	t.Logf("%d connections, %d reloads and as many refused ones in %v; longest silence of one %v; %s",
		len(a.viewers), c.reloads(), took.Round(time.Millisecond), v.Longest.Round(time.Millisecond), v)
	if v.Returns != 0 || v.Gaps != 0 {
		t.Errorf("%d connections were lost, %d gaps were told, want none", v.Returns, v.Gaps)
	}
	v.expectWhole(t, d)
	// A gateway that is killed while it logs the ends of connections may leave half a line.
	a.stop()
	a.running.Wait()
	c.stop()
	<-c.done
}

// refuseBroken breaks the settings file, and sees that nothing of it is in effect and the answer
// says why.
func (c *configured) refuseBroken(page, key string) {
	c.tb.Helper()
	good, err := os.ReadFile(filepath.Join(c.dir, "orgcast.yaml"))
	if err != nil {
		c.tb.Fatal(err)
	}
	c.write("orgcast.yaml", strings.Replace(string(good), page, "https://broken.example.com", 1)+"max-per-usr: 1\n")
	status, body := c.reload()
	var answer struct {
		Code     string
		Mistakes []string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusUnprocessableEntity || answer.Code != "invalid_settings" ||
		len(answer.Mistakes) != 1 || !strings.Contains(answer.Mistakes[0], `unknown setting "max-per-usr", did you mean max-per-user?`) {
		c.tb.Errorf("a broken file: got %d %s", status, body)
	}
	if got := c.try("/ws/events", page, key); got != http.StatusSwitchingProtocols {
		c.tb.Errorf("after a refused reload: got %d, want 101", got)
	}
	if got := c.try("/ws/events", "https://broken.example.com", key); got != http.StatusForbidden {
		c.tb.Errorf("the origin of the broken file: got %d, want 403", got)
	}
	c.write("orgcast.yaml", string(good))
}
