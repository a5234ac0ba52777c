package main

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// hardPassword has every character that means something in a URL.
const hardPassword = "1p#a/s%s^w?o@r:d&x y+[%41]"

// setUser gives a Redis or Sentinel a user.
func setUser(t *testing.T, addr string, rules ...any) {
	t.Helper()
	admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
	defer admin.Close()
	if err := admin.Do(t.Context(), append([]any{"ACL", "SETUSER"}, rules...)...).Err(); err != nil {
		t.Fatal(err)
	}
}

// publishNote publishes with the command.
func publishNote(t *testing.T, env environment) (errOut string, err error) {
	t.Helper()
	_, errOut, err = execute(t, env, "", "publish", "--record", "acme", "all", `{"type":"note"}`)
	return errOut, err
}

// TestPasswordWithSpecialCharacters: a password with # / % ^ and others works percent-encoded in
// the URL, and as it is in a file. As it is in the URL it is refused with what to do, and never
// shown.
func TestPasswordWithSpecialCharacters(t *testing.T) {
	addr := redistest.Start(t)
	setUser(t, addr, "gateway", "on", ">"+hardPassword, "~*", "&*", "+@all")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(hardPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	encoded := (&url.URL{Scheme: "redis", User: url.UserPassword("gateway", hardPassword), Host: addr, Path: "/0"}).String()
	for name, env := range map[string]environment{
		"percent-encoded": {"ORGCAST_REDIS": encoded},
		"in a file":       {"ORGCAST_REDIS": "redis://gateway@" + addr + "/0", "ORGCAST_REDIS_PASSWORD_FILE": file},
		"by itself":       {"ORGCAST_REDIS": "redis://gateway@" + addr + "/0", "ORGCAST_REDIS_PASSWORD": hardPassword},
	} {
		if errOut, err := publishNote(t, env); err != nil {
			t.Errorf("%s: %v\n%s", name, err, errOut)
		}
	}
	env := environment{"ORGCAST_REDIS": encoded, "ORGCAST_REDIS_PASSWORD_FILE": file}
	if errOut, err := publishNote(t, env); err == nil || !strings.Contains(errOut, "remove one of them") {
		t.Errorf("two passwords: got %v, %s, want that one is to be removed", err, errOut)
	}
	for _, secret := range []string{"hu#sh", "12#sh", "hu/sh", "12/sh", "hu%sh", "hu^sh", "hu?sh", "12?sh", "hu sh", "hu[sh", "12/3#?sh"} {
		for setting, flag := range map[string]string{"ORGCAST_REDIS": "--redis", "ORGCAST_REDIS_STATE": "--redis-state"} {
			env := environment{setting: "redis://gateway:" + secret + "@" + addr + "/0", "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_ORIGINS": testOrigin}
			out, errOut, err := execute(t, env, "", "check")
			if err == nil || !strings.Contains(errOut, "percent-encode") || !strings.Contains(errOut, flag+"-password-file") {
				t.Errorf("password %s: got %v, %s, want what to do", secret, err, errOut)
			}
			if strings.Contains(out+errOut, secret) {
				t.Errorf("password %s is shown:\n%s%s", secret, out, errOut)
			}
		}
	}
}

// TestRedisRefusalsSayWhatToDo: what Redis, or the way to it, refuses is told with the setting to
// change, and a missing right with the command.
func TestRedisRefusalsSayWhatToDo(t *testing.T) {
	server := redistest.StartTLS(t)
	_, port, err := net.SplitHostPort(server.TLSAddr)
	if err != nil {
		t.Fatal(err)
	}
	setUser(t, server.Addr, "nokeys", "on", ">hush", "&*", "+@all")
	setUser(t, server.Addr, "nochannels", "on", ">hush", "resetchannels", "~*", "+@all")
	setUser(t, server.Addr, "nocommand", "on", ">hush", "~*", "&*", "+@all", "-evalsha", "-eval")
	for name, test := range map[string]struct {
		url  string
		want []string
	}{
		"wrong password":       {"redis://nokeys:hash@" + server.Addr, []string{"WRONGPASS", "--redis-password-file", "percent-encode"}},
		"no user":              {"redis://nobody:hush@" + server.Addr, []string{"WRONGPASS", "--redis-password-file"}},
		"TLS to a plain port":  {"rediss://nokeys:hush@" + server.Addr, []string{"begin --redis with redis://"}},
		"plain to a TLS port":  {"redis://nokeys:hush@127.0.0.1:" + port, []string{"begin --redis with rediss://"}},
		"no such database":     {"redis://" + server.Addr + "/99", []string{"--redis names database 99"}},
		"no right on keys":     {"redis://nokeys:hush@" + server.Addr, []string{"NOPERM", "command eval"}},
		"no right on channels": {"redis://nochannels:hush@" + server.Addr, []string{"eval"}},
		"no such command":      {"redis://nocommand:hush@" + server.Addr, []string{"NOPERM", "eval"}},
		"nobody there":         {"redis://127.0.0.1:1", []string{"127.0.0.1:1", "refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := publishNote(t, environment{"ORGCAST_REDIS": test.url})
			if err == nil {
				t.Fatal("got nil, want an error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "hash") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

// TestHandshakeWithoutAnswerIsTold: a server that takes connections and never answers the TLS
// handshake is told as such, and not as a deadline alone.
func TestHandshakeWithoutAnswerIsTold(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	_, err = publishNote(t, environment{"ORGCAST_REDIS": "rediss://" + silent.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "TLS handshake with "+silent.Addr().String()) {
		t.Errorf("got %v, want that the TLS handshake was not answered", err)
	}
}

// TestSentinelUser: Sentinels may ask for a user, too.
func TestSentinelUser(t *testing.T) {
	sentinels := redistest.StartSentinels(t)
	locked := sentinels.Addrs[2]
	setUser(t, locked, "watcher", "on", ">watch", "&*", "+@all")
	setUser(t, locked, "default", "off")
	env := environment{
		"ORGCAST_REDIS": "redis://127.0.0.1:1/0", "ORGCAST_REDIS_SENTINEL_MASTER": redistest.SentinelMaster, "ORGCAST_REDIS_SENTINELS": locked,
		"ORGCAST_REDIS_SENTINEL_PASSWORD": "watch",
	}
	if _, err := publishNote(t, env); err == nil || !strings.Contains(err.Error(), "--redis-sentinel-user") {
		t.Errorf("without a user: got %v, want what to set", err)
	}
	env["ORGCAST_REDIS_SENTINEL_USER"] = "watcher"
	if _, err := publishNote(t, env); err != nil {
		t.Errorf("with the user: got %v, want nil", err)
	}
}

// rotation is a gateway whose password is in a file.
type rotation struct {
	*serving

	file string
}

func startRotation(t *testing.T, setting string, env environment) *rotation {
	t.Helper()
	r := &rotation{file: filepath.Join(t.TempDir(), "password")}
	r.write(t, "old")
	env[setting] = r.file
	r.serving = startServe(t, "127.0.0.1:1", env)
	r.expectReady()
	return r
}

func (r *rotation) write(t *testing.T, password string) {
	t.Helper()
	if err := os.WriteFile(r.file, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hangup has the files read again, and waits until they were.
func (r *rotation) hangup(t *testing.T) {
	t.Helper()
	r.hangups <- syscall.SIGHUP
	testkit.Eventually(t, "the files were read again", func() bool { return strings.Contains(r.log.String(), "reloaded") })
}

// killClients cuts connections.
func killClients(t *testing.T, addr string, which ...any) {
	t.Helper()
	admin := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
	defer admin.Close()
	if err := admin.Do(t.Context(), append([]any{"CLIENT", "KILL"}, which...)...).Err(); err != nil {
		t.Fatal(err)
	}
}

// expectBehindGap reads an event, and gaps that may stand before it.
func expectBehindGap(t *testing.T, c *testkit.Client, want string) {
	t.Helper()
	for {
		switch got := next(t, c); {
		case got == want:
			return
		case !strings.HasPrefix(got, `{"type":"gap"`):
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// TestPasswordRotatedWhileSocketsAreOpen: with SIGHUP new connections to both Redis servers show
// the new password. Sockets stay, and hear what is published after the old connections are gone.
func TestPasswordRotatedWhileSocketsAreOpen(t *testing.T) {
	events, state := redistest.Start(t), redistest.Start(t)
	for _, addr := range []string{events, state} {
		setUser(t, addr, "gateway", "on", ">old", "~*", "&*", "+@all")
	}
	stateFile := filepath.Join(t.TempDir(), "state-password")
	writeState := func(password string) {
		t.Helper()
		if err := os.WriteFile(stateFile, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeState("old")
	r := startRotation(t, "ORGCAST_REDIS_PASSWORD_FILE", environment{
		"ORGCAST_REDIS": "redis://gateway@" + events + "/0", "ORGCAST_REDIS_STATE": "redis://gateway@" + state + "/0",
		"ORGCAST_REDIS_STATE_PASSWORD_FILE": stateFile, "ORGCAST_SESSION_STORE": "redis",
	})
	dial := testkit.DialTCP(r.public)
	c := r.subscribe(dial, "ada", "acme")

	for addr, password := range map[string]string{events: ">new", state: ">newer"} {
		setUser(t, addr, "gateway", "resetpass", password)
		killClients(t, addr, "USER", "gateway")
	}
	testkit.Eventually(t, "not ready with the old password", func() bool { status, _ := r.ask("GET", "/readyz", ""); return status == 503 })
	testkit.Eventually(t, "the log tells why", func() bool { return strings.Contains(r.log.String(), "WRONGPASS") })
	r.write(t, "new")
	writeState("newer")
	r.hangup(t)
	r.expectReady()
	if _, errOut, err := execute(t, r.env, "", "publish", "acme", "all", `{"type":"note"}`); err != nil {
		t.Fatalf("publish: %v\n%s", err, errOut)
	}
	expectBehindGap(t, c, `{"organization_id":"acme","type":"note"}`)
	other := r.subscribe(dial, "ada", "acme")
	expectPong(t, other)
	for _, secret := range []string{`"old"`, ":old@", "password\":"} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("the log has %s", secret)
		}
	}
}

// TestSentinelPasswordRotated: with SIGHUP Sentinels are shown the new password, and the next
// master is found.
func TestSentinelPasswordRotated(t *testing.T) {
	sentinels := redistest.StartSentinels(t)
	for _, addr := range sentinels.Addrs {
		setUser(t, addr, "watcher", "on", ">old", "&*", "+@all")
	}
	r := startRotation(t, "ORGCAST_REDIS_SENTINEL_PASSWORD_FILE", environment{
		"ORGCAST_REDIS": "redis://127.0.0.1:1/0", "ORGCAST_REDIS_SENTINEL_MASTER": redistest.SentinelMaster,
		"ORGCAST_REDIS_SENTINELS": strings.Join(sentinels.Addrs, ","), "ORGCAST_REDIS_SENTINEL_USER": "watcher",
	})
	c := r.subscribe(testkit.DialTCP(r.public), "ada", "acme")
	for _, addr := range sentinels.Addrs {
		setUser(t, addr, "watcher", "resetpass", ">new")
	}
	// A client that lost both the master and the Sentinels must ask again.
	for _, addr := range sentinels.Addrs {
		killClients(t, addr, "USER", "watcher")
	}
	killClients(t, sentinels.Servers[0].Addr, "TYPE", "pubsub")
	killClients(t, sentinels.Servers[0].Addr, "TYPE", "normal")
	testkit.Eventually(t, "not ready with the old password", func() bool { status, _ := r.ask("GET", "/readyz", ""); return status == 503 })
	if _, err := publishNote(t, r.env); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("with the old password: got %v, want WRONGPASS", err)
	}
	r.write(t, "new")
	r.hangup(t)
	r.expectReady()
	if _, err := publishNote(t, r.env); err != nil {
		t.Errorf("with the new password: got %v, want nil", err)
	}
	expectBehindGap(t, c, `{"organization_id":"acme","type":"note"}`)
}
