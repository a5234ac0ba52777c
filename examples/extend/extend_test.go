package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"
)

// asProgram makes the test binary the program itself.
const asProgram = "EXTEND_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main() // exits
	}
	os.Exit(m.Run())
}

const (
	// patience is for everything that must happen: the machine may be busy.
	patience = time.Minute
	origin   = "https://app.example.com"
)

// world is a Redis with two organizations that share every id, and the program on it: a gateway and a worker.
type world struct {
	redis *redis.Client
	env   []string
	http  string // address of the gateway
}

// newWorld starts all of it. more are settings.
func newWorld(t *testing.T, more ...string) *world {
	t.Helper()
	address := startRedis(t)
	w := &world{redis: redis.NewClient(&redis.Options{Addr: address}), env: append([]string{
		asProgram + "=1", "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH"), "ORGCAST_REDIS=redis://" + address + "/0", "ORGCAST_LISTEN=127.0.0.1:0",
		"ORGCAST_ADMIN_LISTEN=127.0.0.1:0", "ORGCAST_ORIGINS=" + origin, "ORGCAST_SESSION_KEYS=0123456789abcdef0123456789abcdef",
		"ORGCAST_DRAIN_WAIT=0s", "ORGCAST_DRAIN=0s",
	}, more...)}
	t.Cleanup(func() { _ = w.redis.Close() })
	for _, org := range []string{"acme", "globex"} {
		w.set(t, "HSET", "orgcast:{"+org+"}:org", "status", "active")
		for _, user := range []string{"ada", "eve"} {
			w.set(t, "HSET", "orgcast:{"+org+"}:member:"+user, "status", "active")
		}
		for _, id := range []string{"7", "8", "9"} {
			title := map[string]string{"acme": "Sales", "globex": "Costs"}[org]
			w.set(t, "SET", "orgcast:{"+org+"}:object:report:"+id, `{"owner":"","value":{"title":"`+title+`"}}`)
		}
	}
	w.set(t, "SET", "orgcast:{globex}:object:report:10", `{"owner":"","value":{"title":"Only of globex"}}`)
	w.http = w.start(t, "serve", `"public":"`)
	w.start(t, "worker", `"private":"`)
	return w
}

func (w *world) set(t *testing.T, command ...any) {
	t.Helper()
	if err := w.redis.Do(t.Context(), command...).Err(); err != nil {
		t.Fatal(err)
	}
}

// startRedis starts a redis-server, and returns its address.
func startRedis(t *testing.T) string {
	t.Helper()
	for range 20 {
		port := 20000 + rand.IntN(10000)
		cmd := exec.Command("redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
		if reads(t, cmd, "Ready to accept connections") != "" {
			return fmt.Sprintf("127.0.0.1:%d", port)
		}
	}
	t.Fatal("redis-server does not start")
	return ""
}

// program returns a run of the program.
func (w *world) program(ctx context.Context, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = w.env
	return cmd
}

// start starts a subcommand that stays, and returns the address that its log names after the text.
func (w *world) start(t *testing.T, name, text string) string {
	t.Helper()
	cmd := w.program(context.Background(), name)
	line := reads(t, cmd, text)
	_, rest, ok := strings.Cut(line, text)
	if !ok {
		t.Fatalf("%s has ended", name)
	}
	address, _, _ := strings.Cut(rest, `"`)
	return address
}

// reads starts a command, which ends with the test, and returns the first line of its output with the text in it, or
// nothing if the command ends before.
func reads(t *testing.T, cmd *exec.Cmd, text string) string {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	var mu sync.Mutex
	var all strings.Builder
	found, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadString('\n')
			mu.Lock()
			all.WriteString(line)
			mu.Unlock()
			if strings.Contains(line, text) {
				select {
				case found <- line:
				default: // it was found before
				}
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		<-ended
		_ = out.Close()
		if t.Failed() {
			mu.Lock()
			defer mu.Unlock()
			t.Logf("%s:\n%s", strings.Join(cmd.Args[1:], " "), all.String())
		}
	})
	select {
	case line := <-found:
		return line
	case <-ended:
		return ""
	case <-time.After(patience):
		t.Fatalf("%v: no %q", cmd.Args, text)
		return ""
	}
}

// run runs a subcommand that ends, and returns what it prints.
func (w *world) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.program(t.Context(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// cookie returns the session of a user.
func (w *world) cookie(t *testing.T, user, org string) http.Header {
	t.Helper()
	return http.Header{"Cookie": {w.run(t, "session", "mint", user, org)}, "Origin": {origin}}
}

// client is a page.
type client struct{ socket *websocket.Conn }

// connect opens a path as a user. The request names the other organization wherever it can.
func (w *world) connect(t *testing.T, path, user, org string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	other := map[string]string{"acme": "globex", "globex": "acme"}[org]
	header := w.cookie(t, user, org)
	for _, name := range []string{"Organization-Id", "X-Organization", "X-Organization-Id", "X-Tenant"} {
		header.Set(name, other)
	}
	address := "ws://" + w.http + path + "?organization_id=" + other + "&organization=" + other + "&org=" + other
	socket, response, err := websocket.Dial(ctx, address, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatalf("connect to %s as %s of %s: %v (%+v)", path, user, org, err, response)
	}
	t.Cleanup(func() { _ = socket.CloseNow() })
	return &client{socket}
}

// next returns the next frame.
func (c *client) next(t *testing.T) (frame map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, text, err := c.socket.Read(ctx)
	if err != nil {
		t.Fatalf("no frame: %v", err)
	}
	if err := json.Unmarshal(text, &frame); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return frame
}

func (c *client) send(t *testing.T, message []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.socket.Write(ctx, websocket.MessageText, message); err != nil {
		t.Fatal(err)
	}
}

// ask makes a plain request.
func (w *world) ask(t *testing.T, method, path string, header http.Header) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+w.http+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := new(http.Client).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, strings.TrimSpace(string(text))
}
