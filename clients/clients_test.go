// Package clients_test holds the clients in all languages to the same vectors, against a real gateway
// and a real Redis. `go test ./clients` runs the clients in Go and JavaScript, `make clients-test` all.
package clients_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"orgcast/internal/testkit"
)

var (
	languages = flag.String("languages", "go,node", "comma-separated: the clients to test")
	python    = flag.String("python", "", "interpreter that has the Python package installed; default: Debian's, with the package of this tree")
)

func TestMain(m *testing.M) { testkit.Main(m) }

// commands are the tests in each language. They make the calls of vectors.json through $ORGCAST_TEST_FRONT
// with the key $ORGCAST_TEST_KEY, and fail if one comes to something else.
var commands = map[string][]string{
	"node": {"node", "node/vectors.test.mjs"},
	"php":  {"php", "-d", "error_reporting=-1", "-d", "display_errors=stderr", "php/vectors_test.php"},
	"ruby": {"ruby", "-w", "ruby/vectors_test.rb"},
}

// pythonWays are the ways of publishing that the Python package has. Each makes the calls.
var pythonWays = []string{"http", "functions", "asyncio", "redis"}

// pythonCommand returns the command and the environment of a Python program.
func pythonCommand(t *testing.T, args ...string) (command, env []string) {
	t.Helper()
	if *python != "" {
		return append([]string{*python}, args...), nil
	}
	source, err := filepath.Abs("python/src")
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{"/usr/bin/python3", "-B"}, args...), []string{"PYTHONPATH=" + source}
}

// vectors is clients/vectors.json.
type vectors struct {
	UserGroup        []struct{ User, Group string } `json:"user_group"`
	SignGroup        []signing                      `json:"sign_group"`
	SignGroupRefused []signing                      `json:"sign_group_refused"`
	Calls            []call
	Listeners        []listener
}

type signing struct {
	Key, Organization, Group string
	Expires                  int64
	Token                    string
}

// call is what a client is to do, and what that must come to.
type call struct {
	Call           string
	Through        string
	Key            string // if it is not the right one
	Organization   string
	Group, User    string // the group, or the user whose own group it is
	Event, Message json.RawMessage
	IdempotencyKey string `json:"idempotency_key"`
	Want           json.RawMessage
	Error          *struct {
		Status int
		Code   string
	}
}

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	text, err := os.ReadFile("vectors.json")
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVectors(t *testing.T) {
	v, binary := readVectors(t), buildGateway(t)
	for language := range strings.SplitSeq(*languages, ",") {
		if language != "python" {
			t.Run(language, func(t *testing.T) { testVectors(t, v, binary, language, "") })
			continue
		}
		for _, way := range pythonWays {
			t.Run(language+" "+way, func(t *testing.T) { testVectors(t, v, binary, language, way) })
		}
	}
}

func testVectors(t *testing.T, v vectors, binary, language, way string) {
	t.Helper()
	g := startGateway(t, binary)
	f := startFront(t, g.private)
	arrived := listen(t, g, v.Listeners)
	go func() {
		arrived.published.Wait()
		close(f.beforeRevoking)
	}()
	if language == "go" {
		runGo(t, v, f.URL)
	} else {
		runCommand(t, g, f, language, way)
	}
	arrived.wait(t)
	if way != "redis" { // nothing stands between that and Redis
		checkAttempts(t, f)
	}
	if got, want := g.history(t, "acme", "room.1"), int64(4); got != want {
		t.Errorf("got %d recorded events of acme, want %d", got, want)
	}
}

// runCommand runs the test in a language.
func runCommand(t *testing.T, g *gateway, f *front, language, way string) {
	t.Helper()
	command, env := commands[language], []string(nil)
	if language == "python" {
		command, env = pythonCommand(t, "-m", "pytest", "-q", "-p", "no:cacheprovider", "python/vectors_test.py")
	}
	if command == nil {
		t.Fatalf("no client in %q", language)
	}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	// This address means 127.0.0.1, and no library takes it for one that needs no proxy.
	front := strings.Replace(f.URL, "127.0.0.1", "0.0.0.0", 1)
	cmd.Env = append(append(os.Environ(), env...),
		"ORGCAST_TEST_FRONT="+front, "ORGCAST_TEST_KEY="+publishKey, "ORGCAST_TEST_REDIS=redis://"+g.redisAddr+"/0", "ORGCAST_TEST_WAY="+way,
		// The key must not reach a proxy.
		"http_proxy=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1", "PYTHONDONTWRITEBYTECODE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// TestPythonHasTheScripts: the scripts in the Python package are copies of those in clients/lua.
func TestPythonHasTheScripts(t *testing.T) {
	const folder = "python/src/orgcast/lua"
	copies, err := filepath.Glob(folder + "/*.lua")
	if err != nil || len(copies) == 0 {
		t.Fatalf("got %v, %v, want scripts", copies, err)
	}
	for _, path := range copies {
		if name := filepath.Base(path); readFile(t, path) != readFile(t, filepath.Join("lua", name)) {
			t.Errorf("%s is not what it was copied from: run cp clients/lua/%s clients/%s/", path, name, folder)
		}
	}
}

// listening waits for what listeners get.
type listening struct {
	published, all sync.WaitGroup
	connections    []*testkit.Client
}

// wait returns when everybody has got everything, or never will.
func (w *listening) wait(t *testing.T) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.all.Wait()
	}()
	patience := testkit.Patience
	if t.Failed() {
		patience = time.Second // what was not published never arrives
	}
	select {
	case <-done:
	case <-time.After(patience):
		for _, c := range w.connections {
			_ = c.Close()
		}
		<-done
	}
}

// listen connects everybody, and compares what they get with what they must.
func listen(t *testing.T, g *gateway, listeners []listener) *listening {
	t.Helper()
	w := new(listening)
	for _, l := range listeners {
		c := g.connect(t, l)
		name := l.User + "@" + l.Organization + " in " + l.Group
		w.connections = append(w.connections, c)
		w.published.Add(1)
		w.all.Go(func() {
			func() {
				defer w.published.Done()
				for _, want := range l.Frames {
					if got, err := c.Next(); err != nil || !testkit.SameJSON(got, string(want)) {
						t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
						return
					}
				}
			}()
			if l.Close == 0 {
				return
			}
			var closed *testkit.ClosedError
			if got, err := c.Next(); !errors.As(err, &closed) || closed.Code != l.Close {
				t.Errorf("%s: got %q, %v, want close code %d", name, got, err, l.Close)
			}
		})
	}
	return w
}

// checkAttempts sees that what may be repeated is, and nothing else, and that no redirect is followed.
func checkAttempts(t *testing.T, f *front) {
	t.Helper()
	for _, c := range []struct {
		way, text string
		want      int
	}{
		{"busy", `"busy"`, 1},
		{"busy", `"busy, recorded"`, 3},
		{"lossy", `"the answer is lost"`, 1},
		{"lossy", `"the answer is lost once"`, 2},
		{"lossy", `"user.disabled"`, 2},
		{"page", "", 2},
		{"silent", "", 1},
		{"elsewhere", "", 1},
		{"trap", "", 0},
	} {
		if got := f.total(c.way, c.text); got != c.want {
			t.Errorf("%s %s: got %s, want %d", c.way, c.text, strconv.Itoa(got)+" attempts", c.want)
		}
	}
}
