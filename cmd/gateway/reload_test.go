package main

import (
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// secrets are the files of a gateway that has every setting that a file can hold.
type secrets struct {
	*serving

	dir  string
	pool *x509.CertPool // trusts the certificate that was written last
}

// The keys before and after they are rotated.
const (
	oldSecret = "old-secret-of-thirty-two-bytes!!"
	newSecret = "new-secret-of-thirty-two-bytes!!"
)

func startWithSecrets(t *testing.T) *secrets {
	t.Helper()
	s := &secrets{dir: t.TempDir()}
	for _, name := range []string{"session-keys", "publish-key", "signing-key"} {
		s.write(t, name, oldSecret)
	}
	certFile, keyFile, pool := writeCertificate(t, s.dir)
	s.pool = pool
	s.serving = startServe(t, redistest.Start(t), environment{
		"ORGCAST_TLS_CERT": certFile, "ORGCAST_TLS_KEY": keyFile,
		"ORGCAST_SESSION_KEYS": "", "ORGCAST_SESSION_KEYS_FILE": filepath.Join(s.dir, "session-keys"),
		"ORGCAST_PUBLISH_KEY": "", "ORGCAST_PUBLISH_KEY_FILE": filepath.Join(s.dir, "publish-key"),
		"ORGCAST_SIGNING_KEY_FILE": filepath.Join(s.dir, "signing-key"),
	})
	s.expectReady()
	return s
}

func (s *secrets) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hangup sends SIGHUP and waits until what came of it is counted and logged.
func (s *secrets) hangup(t *testing.T, counted, logged string) {
	t.Helper()
	s.hangups <- syscall.SIGHUP
	testkit.Eventually(t, counted, func() bool {
		_, text := s.ask(http.MethodGet, "/metrics", "")
		return strings.Contains(text, counted+"\n") && strings.Contains(s.log.String(), logged)
	})
}

// publish returns the status of a publication under a key.
func (s *secrets) publish(t *testing.T, key, note string) int {
	t.Helper()
	body := `{"organization_id":"acme","group":"all","event":{"type":"` + note + `"}}`
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.private+"/v1/publish", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testkit.Patience}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// signed returns the answer to a subscription with a token under the key.
func signed(t *testing.T, c *testkit.Client, key, group string) string {
	t.Helper()
	g := testkit.Group(t, "acme", group)
	token := consumer.SignGroup([]byte(key), g, time.Now().Add(time.Hour))
	return say(t, c, `{"type":"subscribe","group":"`+group+`","token":"`+token+`"}`)
}

// TestHangupReadsFilesAgain: certificate, session keys, publish key and key of tokens are those of
// the files from then on, without a restart, and what is open stays open. The certificate may have
// been taken up before.
func TestHangupReadsFilesAgain(t *testing.T) {
	t.Parallel()
	s := startWithSecrets(t)
	oldSession, oldPool := s.mint("ada", "acme"), s.pool
	old := s.subscribe(s.dialTLS(oldPool), "ada", "acme")

	for _, name := range []string{"session-keys", "publish-key", "signing-key"} {
		s.write(t, name, newSecret)
	}
	_, _, s.pool = writeCertificate(t, s.dir)
	dial := s.dialTLS(s.pool)
	if got := s.publish(t, newSecret, "early"); got != http.StatusUnauthorized { // before it is asked to, a gateway reads no keys
		t.Errorf("publish under the new key before SIGHUP: got %d, want 401", got)
	}
	s.hangup(t, `orgcast_reloads_total{result="ok"} 1`, "settings reloaded")

	if c, err := s.dialTLS(oldPool)(t.Context()); err == nil {
		_ = c.Close()
		t.Error("the old certificate is still in use")
	}
	if _, answer := testkit.Try(t, dial, oldSession); answer.Status != http.StatusUnauthorized {
		t.Errorf("a session under the old key: got %d, want 401", answer.Status)
	}
	c := s.subscribe(dial, "alan", "acme") // mints with the new one
	if got := s.publish(t, oldSecret, "late"); got != http.StatusUnauthorized {
		t.Errorf("publish under the old key: got %d, want 401", got)
	}
	if got := s.publish(t, newSecret, "note"); got != http.StatusOK {
		t.Errorf("publish under the new key: got %d, want 200", got)
	}
	for _, c := range []*testkit.Client{old, c} {
		c.Expect(t, `{"organization_id":"acme","type":"note"}`)
	}
	if got := signed(t, old, oldSecret, "secret.a"); code(got) != "unknown_group" {
		t.Errorf("a token under the old key: got %s, want unknown_group", got)
	}
	if got, want := signed(t, old, newSecret, "secret.a"), `{"type":"subscribed","group":"secret.a"}`; got != want {
		t.Errorf("a token under the new key: got %s, want %s", got, want)
	}
	if strings.Contains(s.log.String(), newSecret) || strings.Contains(s.log.String(), oldSecret) {
		t.Error("a key is in the log")
	}
}

// TestMistakeInAFileLeavesAllValues: a reload is all or nothing. While one file is wrong, what the
// others say is not in effect either, the log names the mistake, and everything goes on.
func TestMistakeInAFileLeavesAllValues(t *testing.T) {
	for name, tt := range map[string]struct{ file, text, logged string }{
		"empty":                    {"publish-key", "", "file is empty"},
		"too short":                {"signing-key", "short", "must have at least 32 characters"},
		"one of two keys is wrong": {"session-keys", newSecret + ",short", "the hash key must have at least 32 bytes"},
		"not a certificate":        {"cert.pem", "nothing", "--tls-cert and --tls-key"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startWithSecrets(t)
			old := s.subscribe(s.dialTLS(s.pool), "ada", "acme")
			oldSession := s.mint("ada", "acme")

			for _, name := range []string{"session-keys", "publish-key", "signing-key"} {
				s.write(t, name, newSecret)
			}
			s.write(t, tt.file, tt.text)
			s.hangup(t, `orgcast_reloads_total{result="failed"} 1`, tt.logged)

			testkit.Connect(t, s.dialTLS(s.pool), oldSession)
			if got := s.publish(t, oldSecret, "note"); got != http.StatusOK {
				t.Errorf("publish under the old key: got %d, want 200", got)
			}
			old.Expect(t, `{"organization_id":"acme","type":"note"}`)
			if got, want := signed(t, old, oldSecret, "secret.a"), `{"type":"subscribed","group":"secret.a"}`; got != want {
				t.Errorf("a token under the old key: got %s, want %s", got, want)
			}

			// Put right, the files are read at the next signal.
			if tt.file == "cert.pem" {
				_, _, s.pool = writeCertificate(t, s.dir)
			} else {
				s.write(t, tt.file, newSecret)
			}
			s.hangup(t, `orgcast_reloads_total{result="ok"} 1`, "settings reloaded")
			if got := s.publish(t, newSecret, "note"); got != http.StatusOK {
				t.Errorf("publish under the new key: got %d, want 200", got)
			}
			old.Expect(t, `{"organization_id":"acme","type":"note"}`)
		})
	}
}
