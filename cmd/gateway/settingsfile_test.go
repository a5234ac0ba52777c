package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"orgcast/internal/cli"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// withFile is a gateway whose settings are in a file.
type withFile struct {
	*serving

	path string
}

// settingsOf returns the text of a settings file for a gateway at a Redis, with more lines.
func settingsOf(redisAddr string, more ...string) string {
	return fmt.Sprintf("# settings\nredis: redis://%s/0\nsession-store: redis\ndirectory: session\nlisten: 127.0.0.1:0\nadmin-listen: 127.0.0.1:0\ndrain-wait: 0s\ndrain: 0s\nping-interval: 10m\npublish-key-file: publish-key\n%s\n",
		redisAddr, strings.Join(more, "\n"))
}

// startWithFile starts a gateway with such a file, and no other settings.
func startWithFile(t *testing.T, redisAddr string, more ...string) *withFile {
	t.Helper()
	dir := t.TempDir()
	s := &withFile{path: filepath.Join(dir, "orgcast.yaml")}
	if err := os.WriteFile(filepath.Join(dir, "publish-key"), []byte(testPublishKey), 0o600); err != nil {
		t.Fatal(err)
	}
	s.write(t, settingsOf(redisAddr, more...))
	s.serving = newServing(t, redisAddr, nil)
	s.env = environment{"ORGCAST_CONFIG": s.path}
	s.start(program())
	s.expectReady()
	return s
}

func (s *withFile) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(s.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reloadAnswer is the answer to POST /v1/reload.
type reloadAnswer struct {
	Status, Code, Message       string
	Changed, Settings, Mistakes []string
}

// reload asks for a reload by HTTP and returns its answer.
func (s *withFile) reload() (status int, answer reloadAnswer) {
	s.tb.Helper()
	status, body := s.ask(http.MethodPost, "/v1/reload", "")
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		s.tb.Fatalf("POST /v1/reload: %d %s", status, body)
	}
	return status, answer
}

// from dials with a session of a user and the origin of a page.
func (s *withFile) from(user, page string) testkit.Handshake {
	h := s.mint(user, "acme")
	h.Header.Set("Origin", page)
	return h
}

// expectStatus tries a handshake and expects it to be answered with a status.
func (s *withFile) expectStatus(h testkit.Handshake, want int) {
	s.tb.Helper()
	c, answer := testkit.Try(s.tb, testkit.DialTCP(s.public), h)
	if answer.Status != want {
		s.tb.Errorf("handshake from %s: got %d, want %d", h.Header.Get("Origin"), answer.Status, want)
	}
	if c != nil {
		_ = c.Close()
	}
}

// TestSettingsInAFile: a gateway serves with nothing but a file, and a reload changes origins,
// limits, proxies, policy, log level and keys for what comes then. What is open stays open.
func TestSettingsInAFile(t *testing.T) {
	addr := redistest.Start(t)
	s := startWithFile(t, addr, "origins: ["+testOrigin+"]", "groups-per-connection: 1", "max-per-user: 1", "events-policy: [\"*=member\"]", "signing-key-file: publish-key")
	const next = "https://next.example.com"
	old := s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	s.expectStatus(s.from("alan", next), http.StatusForbidden)
	s.expectStatus(s.from("ada", testOrigin), http.StatusTooManyRequests)
	if got := say(t, old, `{"type":"subscribe","group":"b"}`); code(got) != "too_many_groups" {
		t.Errorf("a second group: got %s", got)
	}

	s.write(t, settingsOf(addr, "origins:", "  - "+next, "groups-per-connection: 2", "max-per-user: 5", "events-policy: b=member,*=signed", "trusted-proxies: [127.0.0.1]", "signing-key-file: publish-key"))
	status, answer := s.reload()
	slices.Sort(answer.Changed)
	want := []string{"events-policy", "groups-per-connection", "max-per-user", "origins", "trusted-proxies"}
	if status != http.StatusOK || answer.Status != "reloaded" || !slices.Equal(answer.Changed, want) {
		t.Fatalf("got %d %+v, want %q", status, answer, want)
	}
	s.expectStatus(s.from("alan", testOrigin), http.StatusForbidden)
	refused := s.from("alan", testOrigin)
	refused.Header.Set("X-Forwarded-For", "192.0.2.7")
	s.expectStatus(refused, http.StatusForbidden)
	testkit.Eventually(t, "the client's address in the log", func() bool { return strings.Contains(s.log.String(), `"client":"192.0.2.7"`) })
	c := testkit.Connect(t, testkit.DialTCP(s.public), s.from("ada", next))
	if got, want := say(t, c, `{"type":"subscribe","group":"b"}`), `{"type":"subscribed","group":"b"}`; got != want {
		t.Errorf("the new policy: got %s, want %s", got, want)
	}
	if got := say(t, c, `{"type":"subscribe","group":"all"}`); code(got) != "unknown_group" {
		t.Errorf("the new policy: got %s, want unknown_group", got)
	}
	if got := signed(t, c, testPublishKey, "c"); got != `{"type":"subscribed","group":"c"}` {
		t.Errorf("a second group: got %s", got)
	}
	if got := say(t, old, `{"type":"subscribe","group":"b"}`); code(got) != "too_many_groups" {
		t.Errorf("an open connection has another limit: got %s", got)
	}
	if status, body := s.ask("POST", "/v1/publish", `{"organization_id":"acme","group":"all","event":{"type":"note"}}`); status != http.StatusOK {
		t.Fatalf("publish: got %d %s", status, body)
	}
	old.Expect(t, `{"organization_id":"acme","type":"note"}`)

	s.write(t, settingsOf(addr, "origins: "+next, "log-level: error"))
	if status, answer := s.reload(); status != http.StatusOK || !slices.Contains(answer.Changed, "log-level") {
		t.Fatalf("got %d %+v", status, answer)
	}
	if got := strings.Count(s.log.String(), "settings reloaded"); got != 1 {
		t.Errorf("with the log level error: got %d lines at level info, want that of the first reload", got)
	}
}

// TestRefusedReload: a mistake, or a setting that needs a restart, leaves everything as it was, and
// the answer, the log and the metric say so.
func TestRefusedReload(t *testing.T) {
	addr := redistest.Start(t)
	const good = "origins: [" + testOrigin + "]"
	s := startWithFile(t, addr, good)
	old := s.subscribe(testkit.DialTCP(s.public), "ada", "acme")
	alan := s.from("alan", testOrigin)
	const next = "origins: [https://next.example.com]"
	failed := 0
	for name, test := range map[string]struct {
		file     string
		status   int
		code     string
		settings []string
		mistakes []string
	}{
		"a mistake":         {settingsOf(addr, next, "max-per-user: -1"), 422, "invalid_settings", nil, []string{"--max-per-user (from " + s.path + ":12): must be at least 0"}},
		"a misspelled name": {settingsOf(addr, next, "max-per-usr: 1"), 422, "invalid_settings", nil, []string{s.path + `:12: unknown setting "max-per-usr", did you mean max-per-user?`}},
		"a secret":          {settingsOf(addr, next, "admin-key: hush-hush-hush-hush-hush-hush-hush"), 422, "invalid_settings", nil, []string{s.path + ":12: admin-key: a secret does not belong here"}},
		"no origins":        {settingsOf(addr), 422, "invalid_settings", nil, []string{"--origins: required"}},
		"a combination":     {settingsOf(addr, next, "lease-period: 1m"), 422, "invalid_settings", nil, []string{"--lease-deadline: must be longer"}},
		"a routes file":     {settingsOf(addr, next, "routes-file: nowhere.yaml"), 422, "invalid_settings", nil, []string{"--routes-file: file cannot be read"}},
		"not YAML":          {"{", 422, "invalid_settings", nil, []string{s.path}},
		"restart":           {strings.Replace(settingsOf(addr, next, "prefix: other"), "listen: 127.0.0.1:0", "listen: 127.0.0.1:1", 1), 409, "restart_required", []string{"listen", "prefix"}, nil},
		"TLS":               {settingsOf(addr, next, "tls-cert: cert.pem", "tls-key: key.pem"), 409, "restart_required", []string{"tls-cert"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			writeCertificate(t, filepath.Dir(s.path))
			s.write(t, test.file)
			failed++
			status, answer := s.reload()
			if status != test.status || answer.Code != test.code || !slices.Equal(answer.Settings, test.settings) || answer.Message == "" {
				t.Errorf("got %d %+v, want %d %s %q", status, answer, test.status, test.code, test.settings)
			}
			for _, want := range test.mistakes {
				if !slices.ContainsFunc(answer.Mistakes, func(got string) bool { return strings.Contains(got, want) }) {
					t.Errorf("got the mistakes %q, want %q", answer.Mistakes, want)
				}
			}
			if strings.Contains(s.log.String()+strings.Join(answer.Mistakes, ""), "hush") {
				t.Error("a secret is shown")
			}
			if _, text := s.ask("GET", "/metrics", ""); !strings.Contains(text, fmt.Sprintf(`orgcast_reloads_total{result="failed"} %d`+"\n", failed)) {
				t.Errorf("the metric does not count %d failures", failed)
			}
			s.expectStatus(alan, http.StatusSwitchingProtocols)
		})
	}
	if !strings.Contains(s.log.String(), "needs a restart: --listen, --prefix") {
		t.Errorf("the log does not name what needs a restart:\n%s", s.log)
	}
	s.write(t, settingsOf(addr, good, "max-per-user: 7"))
	s.hangups <- syscall.SIGHUP
	testkit.Eventually(t, "reloaded", func() bool { return strings.Contains(s.log.String(), `"changed":["max-per-user"]`) })
	if status, answer := s.reload(); status != http.StatusOK || len(answer.Changed) != 0 {
		t.Errorf("without a change: got %d %+v", status, answer)
	}
	if err := old.SendText(`{"type":"ping"}`); err != nil {
		t.Fatal(err)
	}
	old.Expect(t, `{"type":"pong"}`)
}

// TestConfigInit: the file to begin with passes the check as it is, in any folder, and names only
// settings that exist, also in its comments.
func TestConfigInit(t *testing.T) {
	text, _, err := execute(t, nil, "", "config", "init")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "orgcast.yaml")
	check := func(text string) (string, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errOut, err := execute(t, nil, "", "check", "--config", path)
		return out + errOut, err
	}
	if out, err := check(text); err != nil || !strings.Contains(out, "No mistakes found") || !strings.Contains(out, path+":") {
		t.Errorf("check: got %v\n%s", err, out)
	}
	out, err := check(uncomment(text))
	if err == nil || !strings.Contains(out, "cannot read the file") { // the files that it names
		t.Errorf("with everything in it: got %v\n%s", err, out)
	}
	for _, wrong := range []string{"unknown setting", path + ":", "must be"} {
		for line := range strings.Lines(out) {
			if strings.Contains(line, "  - ") && strings.Contains(line, wrong) && !strings.Contains(line, "cannot read") {
				t.Errorf("with everything in it: %s", line)
			}
		}
	}
}

// uncomment takes the # off every line of a file that has a setting behind it.
func uncomment(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimPrefix(line, "# "), ": "); ok && strings.HasPrefix(line, "# ") && value != "" && !strings.ContainsAny(name, " (") {
			line = strings.TrimPrefix(line, "# ")
		}
		b.WriteString(line)
	}
	return b.String()
}

// TestOneFileForAll: a file for serve may hold settings of other subcommands, and each subcommand
// takes its own.
func TestOneFileForAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "orgcast.yaml")
	if err := os.WriteFile(path, []byte("origins: ["+testOrigin+"]\nsession-store: redis\nworker-attempts: 7\nadmin-listen: 127.0.0.1:1\nredis: redis://127.0.0.1:1/0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range program().Names() {
		switch name {
		case "config", "version":
			continue
		}
		out, errOut, err := execute(t, nil, "", "config", "show", name, "--config", path)
		if err != nil {
			t.Errorf("%s: got %v\n%s", name, err, errOut)
		}
		if name == "worker" && !strings.Contains(out, path+":3") {
			t.Errorf("worker: got\n%s", out)
		}
	}
	_, errOut, err := execute(t, nil, "", "healthcheck", "--config", path)
	if err == nil || cli.ExitCode(err) != 1 || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("healthcheck: got %v %s, want it to ask where the file says", err, errOut)
	}
}
