package main

import (
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/cli"
	"orgcast/internal/testkit/redistest"
)

// TestCheckFindsWhatDoesNotAnswer: check --connect names each part that a node needs and that does
// not answer, the identity's among them, and says why. Without the flag it makes no connection.
func TestCheckFindsWhatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	good := redistest.Start(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	setUser(t, good, "nosessions", "on", "nopass", "&*", "+@all", "~*")
	setUser(t, good, "nosessions", "-get", "-getrange")
	setUser(t, good, "nodirectory", "on", "nopass", "&*", "+@all", "~*")
	setUser(t, good, "nodirectory", "-hmget", "-hget")
	setUser(t, good, "nochannels", "on", "nopass", "resetchannels", "+@all", "~*")
	identity := []string{"--redis-state", "session store", "revocations", "directory", "quotas"}
	for name, test := range map[string]struct {
		env  environment
		bad  []string // the lines that must not say ok
		why  string   // in one of these lines
		good []string // lines that must say ok
	}{
		"all is well":          {environment{}, nil, "", []string{"--redis", "subscriptions", "control channel", "histories", "revocations", "directory", "session store", "quotas"}},
		"two servers":          {environment{"ORGCAST_REDIS_STATE": "redis://" + good + "/1"}, nil, "", identity},
		"no state":             {environment{"ORGCAST_REDIS_STATE": "redis://127.0.0.1:1"}, identity, "127.0.0.1:1: connect: connection refused", []string{"--redis", "subscriptions", "control channel", "histories"}},
		"silent state":         {environment{"ORGCAST_REDIS_STATE": "redis://" + silent.Addr().String()}, identity, "", []string{"--redis", "subscriptions"}},
		"no events":            {environment{"ORGCAST_REDIS": "redis://127.0.0.1:1", "ORGCAST_REDIS_STATE": "redis://" + good}, []string{"--redis", "subscriptions", "control channel", "histories"}, "connection refused", identity},
		"no right on sessions": {environment{"ORGCAST_REDIS": "redis://nosessions:x@" + good}, []string{"session store"}, "NOPERM", []string{"--redis", "directory"}},
		"no right on members":  {environment{"ORGCAST_REDIS": "redis://nodirectory:x@" + good}, []string{"directory"}, "NOPERM", []string{"--redis", "session store"}},
		"no right on channels": {environment{"ORGCAST_REDIS": "redis://nochannels:x@" + good}, []string{"subscriptions", "control channel"}, "NOPERM", []string{"--redis", "session store", "directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := environment{
				"ORGCAST_REDIS": "redis://" + good, "ORGCAST_SESSION_STORE": "redis", "ORGCAST_DIRECTORY": "redis",
				"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey,
			}
			maps.Copy(env, test.env)
			out, errOut, err := execute(t, env, "", "check", "--connect")
			if failed := cli.ExitCode(err); failed != min(len(test.bad), 1) {
				t.Errorf("exit code: got %d, %s", failed, errOut)
			}
			whys := ""
			for _, line := range test.bad {
				found := regexp.MustCompile(`(?m)^  ` + line + ` +(.*)$`).FindStringSubmatch(out)
				if found == nil || found[1] == "ok" || strings.HasPrefix(found[1], "not needed") {
					t.Errorf("%s: want an error in\n%s", line, out)
					continue
				}
				whys += found[1] + "\n"
			}
			if !strings.Contains(whys, test.why) {
				t.Errorf("got the errors\n%swant %q in one of them", whys, test.why)
			}
			for _, line := range test.good {
				if !regexp.MustCompile(`(?m)^  ` + line + ` +ok$`).MatchString(out) {
					t.Errorf("%s: want ok in\n%s", line, out)
				}
			}
			if out, _, err := execute(t, env, "", "check"); err != nil || strings.Contains(out, "  --redis  ") {
				t.Errorf("without --connect: got %v\n%s", err, out)
			}
		})
	}
}

// TestCheckTriesOtherPrograms: check --connect tries the web application and the hooks of the routes
// file with their keys, and publishing if a back end may ask for it, and says what to do.
func TestCheckTriesOtherPrograms(t *testing.T) {
	t.Parallel()
	good := redistest.Start(t)
	setUser(t, good, "reader", "on", "nopass", "&*", "+@all", "-xadd", "~*")
	program := func(status int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			if r.URL.Path == "/hook" && !strings.Contains(string(text), `"event":"check"`) {
				t.Errorf("a hook was asked %s", text)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"results":[{"status":"none"}]}`)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	for name, test := range map[string]struct {
		env       environment
		hook      string
		line, why string // of the report; why "" is ok
	}{
		"a hook agrees":        {nil, program(200), "hook", ""},
		"a hook refuses":       {nil, program(403), "hook", ""},
		"a hook's key":         {nil, program(401), "hook", "path /ws/report/: status 401: check that key-file holds the key"},
		"a hook fails":         {nil, program(500), "hook", "status 500: check the log of the program"},
		"a hook is not there":  {nil, "http://127.0.0.1:1", "hook", "no answer: check that the program runs there"},
		"the website's key":    {environment{"ORGCAST_SESSION_STORE": "http", "ORGCAST_SESSION_URL": program(401), "ORGCAST_SESSION_URL_KEY": testKey}, "", "session store", "it does not accept the key"},
		"nothing at that path": {environment{"ORGCAST_SESSION_STORE": "http", "ORGCAST_SESSION_URL": program(404), "ORGCAST_SESSION_URL_KEY": testKey}, "", "session store", "nothing answers at this path"},
		"may publish":          {environment{"ORGCAST_PUBLISH_KEY": testPublishKey}, "", "publishing", ""},
		"may not record":       {environment{"ORGCAST_PUBLISH_KEY": testPublishKey, "ORGCAST_REDIS": "redis://reader:x@" + good}, "", "publishing", "NOPERM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := environment{"ORGCAST_REDIS": "redis://" + good, "ORGCAST_SESSION_STORE": "redis", "ORGCAST_ORIGINS": testOrigin}
			maps.Copy(env, test.env)
			if test.hook != "" {
				dir := t.TempDir()
				env["ORGCAST_ROUTES_FILE"] = filepath.Join(dir, "routes.yaml")
				err1 := os.WriteFile(env["ORGCAST_ROUTES_FILE"], []byte("version: 1\nroutes:\n  - path: /ws/report/\n    who: member\n    groups: [report]\n    hook: {url: \""+test.hook+"/hook\", key-file: key, on: [receive]}\n"), 0o600)
				err2 := os.WriteFile(filepath.Join(dir, "key"), []byte("whsec_"+base64.StdEncoding.EncodeToString([]byte(testKey))), 0o600)
				if err := errors.Join(err1, err2); err != nil {
					t.Fatal(err)
				}
			}
			out, errOut, err := execute(t, env, "", "check", "--connect")
			found := regexp.MustCompile(`(?m)^  ` + test.line + ` +(.*)$`).FindStringSubmatch(out)
			switch {
			case found == nil:
				t.Fatalf("no line %q in\n%s%s", test.line, out, errOut)
			case test.why == "" && (found[1] != "ok" || err != nil):
				t.Errorf("got %q, %v, want ok", found[1], err)
			case !strings.Contains(found[1], test.why), test.why != "" && cli.ExitCode(err) != 1:
				t.Errorf("got %q, %v, want %q", found[1], err, test.why)
			}
		})
	}
}

// TestCheckConnectLeavesNothing: what check --connect asks about leaves no key behind.
func TestCheckConnectLeavesNothing(t *testing.T) {
	addr := redistest.Start(t)
	env := environment{"ORGCAST_REDIS": "redis://" + addr, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_ORIGINS": testOrigin, "ORGCAST_PUBLISH_KEY": testPublishKey}
	out, errOut, err := execute(t, env, "", "check", "--connect")
	if err != nil || !strings.Contains(out, "not needed: signed cookies") {
		t.Fatalf("got %v\n%s%s", err, out, errOut)
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	if got := names(t, client); len(got) != 0 {
		t.Errorf("keys: got %v, want none", got)
	}
}

// TestCheckTriesTheRightToEndSessions: with a publish key or a console, check --connect says whether the
// gateway may end sessions, and ends none.
func TestCheckTriesTheRightToEndSessions(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	setUser(t, addr, "ends", "on", "nopass", "~*", "&*", "+@all")
	setUser(t, addr, "noend", "on", "nopass", "~*", "&*", "+@all", "-set")
	control := redis.NewClient(&redis.Options{Addr: addr})
	defer control.Close()
	heard := control.Subscribe(t.Context(), "orgcast:control")
	defer heard.Close()
	if _, err := heard.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	console := environment{"ORGCAST_CONSOLE_PATH": "/console", "ORGCAST_CONSOLE_KEY": "another key of 32 bytes, or more!"}
	for name, test := range map[string]struct {
		user string
		more environment
		want string // the line; "" for none
	}{
		"a publish key":                 {"ends", environment{"ORGCAST_PUBLISH_KEY": testPublishKey}, "ok"},
		"a publish key, without rights": {"noend", environment{"ORGCAST_PUBLISH_KEY": testPublishKey}, "NOPERM: the Redis user may not run: set orgcast:session-ended:*, set orgcast:user-disabled:* (compare"},
		"a console":                     {"ends", console, "ok"},
		"a console, without rights":     {"noend", console, "NOPERM: the Redis user may not run: set orgcast:session-ended:* (compare"},
		"neither":                       {"noend", nil, ""},
	} {
		env := environment{"ORGCAST_REDIS": "redis://" + test.user + ":x@" + addr, "ORGCAST_SESSION_KEYS": testKey, "ORGCAST_ORIGINS": testOrigin}
		maps.Copy(env, test.more)
		out, errOut, err := execute(t, env, "", "check", "--connect")
		found := regexp.MustCompile(`(?m)^  rights: revoke +(.*)$`).FindStringSubmatch(out)
		switch {
		case test.want == "" && found != nil, test.want != "" && (found == nil || !strings.HasPrefix(found[1], test.want)):
			t.Errorf("%s: got %q, want %q\n%s%s", name, found, test.want, out, errOut)
		case test.want == "ok" && err != nil:
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := control.Publish(t.Context(), "orgcast:control", "mine").Err(); err != nil {
		t.Fatal(err)
	}
	if m, err := heard.ReceiveMessage(t.Context()); err != nil || m.Payload != "mine" {
		t.Errorf("on the control channel: got %v, %v, want nothing before the test's own message", m, err)
	}
	if got := names(t, control); len(got) != 0 {
		t.Errorf("keys: got %v, want none", got)
	}
}
