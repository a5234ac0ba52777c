package deploy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/lease"
	"orgcast/internal/pubsub"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/webhook"
)

const (
	origin     = "https://app.example.com"
	publishKey = "0123456789abcdef0123456789abcdef"
)

// TestGatewayRightsSuffice runs a whole gateway as the user of that name, while the web application and a
// back end are separate users: people come in, hear events, return, chat and are shown out, and in the
// log no right is missed.
func TestGatewayRightsSuffice(t *testing.T) {
	for name, state := range map[string]string{"one server": "", "two servers": "state.acl"} {
		t.Run(name, func(t *testing.T) { testGatewayRightsSuffice(t, state) })
	}
}

// testGatewayRightsSuffice has a server of --redis-state with the users of a file, unless it is empty.
func testGatewayRightsSuffice(t *testing.T, state string) {
	t.Helper()
	socket, connect := startScript(t, "redis/start.sh")
	told := newTold(t)
	env := []string{
		"ORGCAST_WEBHOOK_URL=" + told.URL, "ORGCAST_WEBHOOK_KEY=" + publishKey, "ORGCAST_WEBHOOK_GROUPS=all", "ORGCAST_WEBHOOK_LINGER=1ms",
		"ORGCAST_WEBHOOK_RETRY_FOR=1s",
	}
	stateConnect := connect
	if state != "" {
		var stateSocket string
		stateSocket, stateConnect = startScript(t, "redis/start.sh", "ORGCAST_REDIS_USERS="+state)
		env = append(env, "ORGCAST_REDIS_STATE=unix://gateway:gateway%27s@"+stateSocket)
	}
	env = append(env, "ORGCAST_PRESENCE_POLICY=room.*=users", "ORGCAST_PUBLISH_KEY="+publishKey)
	s := startSite(t, socket, connect, stateConnect, env...)
	cookie := s.signIn("ada")

	c := s.enter("/ws/events", cookie)
	next(t, c, "welcome")
	say(t, c, `{"type":"subscribe","group":"all"}`)
	next(t, c, "subscribed")
	if n, err := connect(t, "gateway").Exists(t.Context(), s.keys.Epoch(s.group.Organization())).Result(); n != 1 || err != nil {
		t.Errorf("the mark of the organization's data: got %d, %v, want that it is there", n, err)
	}
	s.record("first")
	position := next(t, c, "note").ID
	s.record("second")
	next(t, c, "note")
	again := s.enter("/ws/events", cookie)
	next(t, again, "welcome")
	say(t, again, fmt.Sprintf(`{"type":"subscribe","groups":{"all":{"after":%q}}}`, position))
	if got := next(t, again, "note").Text; got != "second" {
		t.Errorf("resume: got %q, want the second event", got)
	}

	say(t, again, `{"type":"subscribe","groups":{"room.1":{"presence":true}}}`)
	next(t, again, "presence")
	if status, text := s.ask(http.MethodGet, "/v1/presence?organization_id=acme&group=room.1", ""); status != http.StatusOK {
		t.Errorf("who is present: got %d %s", status, text)
	}

	chat := s.enter("/ws/chat/?session=0b5cd2c5-3f0e-4a7e-9d53-8f1f6a3b1f00", cookie)
	next(t, chat, "welcome")
	say(t, chat, `{"type":"user_message","message":"hello"}`)
	next(t, chat, "user_message")

	s.revoke(lease.Message{Type: lease.UserDisabled, UserID: "ada"})
	c.ExpectClose(t, 4403)
	for _, kind := range []webhook.Type{webhook.Occupied, webhook.Vacated} {
		testkit.Eventually(t, string(kind), func() bool { return told.has(kind) })
	}
	letters, org := webhook.NewLetters(connect(t, "gateway"), s.keys), s.group.Organization()
	testkit.Eventually(t, "a webhook is dead, and tried again", func() bool {
		list, err := letters.List(t.Context(), org, "", 1)
		if err != nil {
			t.Fatal(err)
		}
		ok := false
		if len(list) == 1 {
			if ok, err = letters.Retry(t.Context(), org, list[0]); err != nil {
				t.Fatal(err)
			}
		}
		return ok
	})
	if _, err := letters.Count(t.Context()); err != nil {
		t.Errorf("count webhooks: %v", err)
	}
	s.expectNothingMissed()
	s.expectCheck(map[string]string{
		"publishing": "NOPERM", "rights: record": "eval orgcast:{*}:history:* orgcast:{*}:once:*:*", "rights: control": "publish orgcast:control",
		"rights: revoke": "set orgcast:session-ended:*, set orgcast:user-disabled:*, del orgcast:{*}:member:*, hset orgcast:{*}:org (compare",
	})
}

// expectCheck runs check --connect with the settings of the gateway. The lines named must have the texts,
// and all others must be ok.
func (s *site) expectCheck(missing map[string]string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.binary, "check", "--connect")
	cmd.Env = s.env
	out, err := cmd.CombinedOutput()
	if (err != nil) != (len(missing) > 0) {
		s.t.Errorf("check --connect: got %v\n%s", err, out)
	}
	_, lines, _ := strings.Cut(string(out), "No mistakes found.\n")
	seen := 0
	for line := range strings.Lines(lines) {
		name, result, ok := strings.Cut(strings.TrimPrefix(line, "  "), "  ")
		if !ok {
			continue
		}
		result = strings.TrimSpace(result)
		if want, ok := missing[name]; ok {
			seen++
			if !strings.Contains(result, want) {
				s.t.Errorf("check --connect: %s: got %q, want %q", name, result, want)
			}
		} else if result != "ok" && strings.HasPrefix(line, "  ") {
			s.t.Errorf("check --connect: %s: got %q, want ok", name, result)
		}
	}
	if seen != len(missing) {
		s.t.Errorf("check --connect: got\n%s\nwant lines for %v", lines, missing)
	}
}

// told is a receiver of webhooks that refuses those about connections.
type told struct {
	*httptest.Server

	mu    sync.Mutex
	types []webhook.Type
}

func newTold(t *testing.T) *told {
	t.Helper()
	to := new(told)
	to.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Type webhook.Type }
		_ = json.NewDecoder(r.Body).Decode(&body)
		if body.Type == webhook.Connected {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		to.mu.Lock()
		defer to.mu.Unlock()
		to.types = append(to.types, body.Type)
	}))
	t.Cleanup(to.Close)
	return to
}

func (to *told) has(kind webhook.Type) bool {
	to.mu.Lock()
	defer to.mu.Unlock()
	return slices.Contains(to.types, kind)
}

// startWithRights starts a gateway whose Redis user has further rights, the lines of README.md with these
// places.
func startWithRights(t *testing.T, lines []int, env ...string) *site {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	more := regexp.MustCompile(`(?m)^    (\(.*\))$`).FindAllStringSubmatch(string(readme), -1)
	if len(more) != 3 {
		t.Fatalf("README.md has %d lines of rights, want 3", len(more))
	}
	rights := ""
	for _, line := range lines {
		rights += " " + more[line][1]
	}
	dir := t.TempDir()
	for _, name := range []string{"start.sh", "redis.conf", "users.acl"} {
		text, err := os.ReadFile(filepath.Join("redis", name))
		if err != nil {
			t.Fatal(err)
		}
		changed := regexp.MustCompile(`(?m)^user gateway .*$`).ReplaceAllString(string(text), "${0}"+rights)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(changed), 0o700); err != nil { // start.sh is to be run
			t.Fatal(err)
		}
	}
	socket, connect := startScript(t, filepath.Join(dir, "start.sh"))
	return startSite(t, socket, connect, connect, env...)
}

// TestConsoleRights: with what README.md says to add to its rights, a gateway that has a console ends
// sessions, and nothing else.
func TestConsoleRights(t *testing.T) {
	s := startWithRights(t, []int{2}, "ORGCAST_ADMIN_KEY="+publishKey)
	if status, answer := s.ask("POST", "/v1/revoke", `{"type":"session.ended","session_id":"s1"}`); status != http.StatusOK {
		t.Errorf("end a session: got %d %s, want 200", status, answer)
	}
	if status, answer := s.ask("POST", "/v1/revoke", `{"type":"user.disabled","user_id":"alan"}`); status == http.StatusOK {
		t.Errorf("disable a user: got %d %s", status, answer)
	}
	if status, answer := s.ask("GET", "/v1/tasks", ""); status != http.StatusOK {
		t.Errorf("count tasks: got %d %s, want 200", status, answer)
	}
	s.env = append(s.env, "ORGCAST_CONSOLE_PATH=/console", "ORGCAST_CONSOLE_KEY=another key of 32 bytes and more!")
	s.expectCheck(nil)
}

// TestPublishKeyRights: with what README.md says to add to its rights, a gateway that has a publish key
// publishes, records and revokes by itself.
func TestPublishKeyRights(t *testing.T) {
	s := startWithRights(t, []int{0, 1}, "ORGCAST_PUBLISH_KEY="+publishKey)
	c := s.enter("/ws/events", s.signIn("ada"))
	next(t, c, "welcome")
	say(t, c, `{"type":"subscribe","group":"all"}`)
	next(t, c, "subscribed")
	for _, body := range []string{
		`{"organization_id":"acme","group":"all","event":{"type":"note","text":"passing"}}`,
		`{"organization_id":"acme","group":"all","event":{"type":"note","text":"kept"},"record":true,"idempotency_key":"k"}`,
	} {
		if status, answer := s.ask("POST", "/v1/publish", body); status != http.StatusOK {
			t.Errorf("publish: got %d %s, want 200", status, answer)
		}
		next(t, c, "note")
	}
	for _, body := range []string{
		`{"type":"session.ended","session_id":"s1"}`, `{"type":"user.disabled","user_id":"alan"}`,
		`{"type":"organization.suspended","organization_id":"globex"}`, `{"type":"member.removed","organization_id":"acme","user_id":"ada"}`,
	} {
		if status, answer := s.ask("POST", "/v1/revoke", body); status != http.StatusOK {
			t.Errorf("revoke %s: got %d %s, want 200", body, status, answer)
		}
	}
	c.ExpectClose(t, 4403)
	s.expectNothingMissed()
	s.expectCheck(nil)
}

// site is a gateway with its Redis, and what is around it.
type site struct {
	t               *testing.T
	public, private string
	binary          string
	env             []string
	keys            keyspace.Keyspace
	webapp, backend *redis.Client
	state           *redis.Client // of the web application, at the server of --redis-state
	group           event.Group
	sessions        *session.RedisStore

	mu  sync.Mutex
	log strings.Builder
}

func startSite(t *testing.T, socket string, connect, stateConnect func(*testing.T, string) *redis.Client, env ...string) *site {
	t.Helper()
	s := &site{t: t, webapp: connect(t, "webapp"), backend: connect(t, "backend"), state: stateConnect(t, "webapp")}
	var err error
	s.keys = testkit.Keys(t)
	org := testkit.Org(t, "acme")
	if s.group, err = event.NewGroup(org, "all"); err != nil {
		t.Fatal(err)
	}
	if s.sessions, err = session.NewRedisStore(s.state, s.keys, session.Options{}); err != nil {
		t.Fatal(err)
	}
	members, err := directory.NewRedis(s.state, s.keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := members.PutOrganization(t.Context(), org, directory.Active); err != nil {
		t.Fatal(err)
	}
	if err := s.state.HSet(t.Context(), s.keys.Member(org, "ada"), "status", "active").Err(); err != nil {
		t.Fatal(err)
	}
	s.run(append(env,
		"ORGCAST_REDIS=unix://gateway:gateway%27s@"+socket, "ORGCAST_SESSION_STORE=redis", "ORGCAST_DIRECTORY=redis", "ORGCAST_ORIGINS="+origin,
		"ORGCAST_LISTEN=127.0.0.1:0", "ORGCAST_ADMIN_LISTEN=127.0.0.1:0", "ORGCAST_LOG_LEVEL=debug", "ORGCAST_DRAIN_WAIT=0s", "ORGCAST_DRAIN=0s", "ORGCAST_LEASE_PERIOD=100ms",
	))
	testkit.Eventually(t, "ready, and the control channel heard", func() bool {
		status, _ := s.ask("GET", "/readyz", "")
		_, metrics := s.ask("GET", "/metrics", "")
		return status == http.StatusOK && strings.Contains(metrics, "orgcast_control_up 1")
	})
	return s
}

// run starts the gateway; it ends with the test.
func (s *site) run(env []string) {
	s.t.Helper()
	binary := filepath.Join(s.t.TempDir(), "gateway")
	s.binary, s.env = binary, env
	if out, err := exec.CommandContext(s.t.Context(), "go", "build", "-o", binary, "orgcast/cmd/gateway").CombinedOutput(); err != nil {
		s.t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, "serve")
	cmd.Env = env
	stderr, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	serving, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var entry struct{ Msg, Public, Private string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
				s.public, s.private = entry.Public, entry.Private
				close(serving)
			}
			s.mu.Lock()
			s.log.WriteString(lines.Text() + "\n")
			s.mu.Unlock()
		}
		_ = cmd.Wait() // it is told to end
	}()
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	select {
	case <-serving:
	case <-ended:
		s.t.Fatalf("the gateway ended:\n%s", s.log.String())
	}
}

// expectNothingMissed sees that Redis has refused the gateway nothing.
func (s *site) expectNothingMissed() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if log := s.log.String(); strings.Contains(log, "NOPERM") || strings.Contains(log, "can't") {
		s.t.Errorf("the gateway misses a right:\n%s", log)
	}
}

// ask sends a request to the private listener.
func (s *site) ask(method, path, body string) (status int, answer string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.private+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+publishKey)
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func (s *site) signIn(user string) *http.Cookie {
	s.t.Helper()
	cookie, err := s.sessions.Mint(s.t.Context(), session.Grant{UserID: user, Organization: s.group.Organization()})
	if err != nil {
		s.t.Fatal(err)
	}
	return cookie
}

func (s *site) enter(path string, cookie *http.Cookie) *testkit.Client {
	s.t.Helper()
	return testkit.Connect(s.t, testkit.DialTCP(s.public), testkit.Handshake{Path: path, Header: http.Header{
		"Origin": {origin}, "Cookie": {cookie.Name + "=" + cookie.Value}, "Sec-Websocket-Protocol": {"orgcast.v1"},
	}})
}

// record is what a back end does.
func (s *site) record(text string) {
	s.t.Helper()
	bus := pubsub.NewRedis(s.backend, s.keys, pubsub.Options{})
	payload := fmt.Sprintf(`{"type":"note","organization_id":"acme","text":%q}`, text)
	if _, err := bus.Record(s.t.Context(), s.group, []byte(payload), event.Recording{IdempotencyKey: text}); err != nil {
		s.t.Fatal(err)
	}
}

// revoke is what the web application does.
func (s *site) revoke(m lease.Message) {
	s.t.Helper()
	revocations, err := session.NewRevocations(s.state, s.keys)
	if err != nil {
		s.t.Fatal(err)
	}
	r := &lease.Revoker{Announcer: lease.NewAnnouncer(s.webapp, s.keys), Revocations: revocations, SessionLife: session.DefaultMaxAge}
	if _, err := r.Revoke(context.WithoutCancel(s.t.Context()), m); err != nil {
		s.t.Fatal(err)
	}
}

type frame struct{ Type, ID, Text string }

// next reads frames until one has the type.
func next(t *testing.T, c *testkit.Client, kind string) (f frame) {
	t.Helper()
	for {
		text, err := c.Next()
		if err != nil {
			t.Fatalf("waiting for %s: %v", kind, err)
		}
		f = frame{}
		if err := json.Unmarshal(testkit.Flat(text), &f); err != nil {
			t.Fatal(err)
		}
		switch f.Type {
		case kind:
			return f
		case "error":
			t.Fatalf("waiting for %s: got %s", kind, text)
		}
	}
}

func say(t *testing.T, c *testkit.Client, text string) {
	t.Helper()
	if err := c.SendText(text); err != nil {
		t.Fatal(err)
	}
}
