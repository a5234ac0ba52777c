// Package clients_test holds the clients in all languages to the same vectors, against a real gateway
// and a real Redis. `go test ./clients` runs the clients in Go and JavaScript, `make clients-test` all.
package clients_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"orgcast/internal/testkit"
)

var languages = flag.String("languages", "go,node", "comma-separated: the clients to test")

func TestMain(m *testing.M) { testkit.Main(m) }

// commands are the tests in each language. They make the calls of vectors.json through $ORGCAST_TEST_FRONT
// with the key $ORGCAST_TEST_KEY, and fail if one comes to something else.
var commands = map[string][]string{
	"node": {"node", "node/vectors.test.mjs"},
	"php":  {"php", "-d", "error_reporting=-1", "-d", "display_errors=stderr", "php/vectors_test.php"},
	"ruby": {"ruby", "-w", "ruby/vectors_test.rb"},
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
		t.Run(language, func(t *testing.T) {
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
				// This address means 127.0.0.1, and no library takes it for one that needs no proxy.
				runCommand(t, language, strings.Replace(f.URL, "127.0.0.1", "0.0.0.0", 1))
			}
			arrived.wait(t)
			checkAttempts(t, f)
			if got, want := g.history(t, "acme", "room.1"), int64(4); got != want {
				t.Errorf("got %d recorded events of acme, want %d", got, want)
			}
		})
	}
}

// runCommand runs the test in a language.
func runCommand(t *testing.T, language, front string) {
	t.Helper()
	command := commands[language]
	if command == nil {
		t.Fatalf("no client in %q", language)
	}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "ORGCAST_TEST_FRONT="+front, "ORGCAST_TEST_KEY="+publishKey,
		// The key must not reach a proxy.
		"http_proxy=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
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
