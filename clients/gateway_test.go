package clients_test

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/keyspace"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

const (
	origin     = "https://app.example.com"
	publishKey = "publish-key-of-thirty-two-bytes!"
	signingKey = "0123456789abcdef0123456789abcdef"
)

// buildGateway compiles the real binary.
func buildGateway(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "gateway")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "orgcast/cmd/gateway").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// gateway is a gateway with its own Redis.
type gateway struct {
	public, private string
	redisAddr       string
	redis           *redis.Client
	keys            keyspace.Keyspace
}

func startGateway(t *testing.T, binary string) *gateway {
	t.Helper()
	g := &gateway{redisAddr: redistest.Start(t)}
	var err error
	g.keys = testkit.Keys(t)
	g.redis = redis.NewClient(&redis.Options{Addr: g.redisAddr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = g.redis.Close() })
	cmd := exec.Command(binary, "serve")
	cmd.Env = []string{
		"ORGCAST_LISTEN=127.0.0.1:0", "ORGCAST_ADMIN_LISTEN=127.0.0.1:0", "ORGCAST_REDIS=redis://" + g.redisAddr + "/0",
		"ORGCAST_SESSION_STORE=redis", "ORGCAST_ORIGINS=" + origin, "ORGCAST_PUBLISH_KEY=" + publishKey, "ORGCAST_SIGNING_KEY=" + signingKey,
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log, serving, ended := new(testkit.SyncBuffer), make(chan [2]string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			_, _ = log.Write(append(lines.Bytes(), '\n'))
			var entry struct{ Msg, Public, Private string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "serving" {
				serving <- [2]string{entry.Public, entry.Private}
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", log)
		}
	})
	select {
	case at := <-serving:
		g.public, g.private = at[0], at[1]
	case <-ended:
		t.Fatalf("the gateway ended at once:\n%s", log)
	case <-time.After(testkit.Patience):
		t.Fatalf("the gateway does not serve:\n%s", log)
	}
	testkit.Eventually(t, "the gateway is ready", func() bool {
		conn, err := net.Dial("tcp", g.private)
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
		_, _ = conn.Write([]byte("GET /readyz HTTP/1.0\r\n\r\n"))
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.Contains(line, " 200 ")
	})
	return g
}

// listener is a browser that has joined a group.
type listener struct {
	User         string
	Organization string
	Session      string // the key in the cookie
	Group        string
	Token        string
	Frames       []json.RawMessage // what it must get
	Close        int               // the code with which its connection must end; 0 if it stays
}

// connect signs the user in, connects and subscribes.
func (g *gateway) connect(t *testing.T, l listener) *testkit.Client {
	t.Helper()
	org := testkit.Org(t, l.Organization)
	session, err := json.Marshal(map[string]any{"user_id": l.User, "active_organization_id": l.Organization, "expires_at": time.Now().Add(time.Hour).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		g.redis.HSet(t.Context(), g.keys.Organization(org), "status", "active").Err(),
		g.redis.HSet(t.Context(), g.keys.Member(org, l.User), "status", "active").Err(),
		g.redis.Set(t.Context(), g.keys.Session(l.Session), session, 0).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := testkit.Connect(t, testkit.DialTCP(g.public), testkit.Handshake{
		Path: "/ws/events", Header: http.Header{"Origin": {origin}, "Cookie": {"orgcast_session=" + l.Session}},
	})
	frame, err := json.Marshal(map[string]any{"type": "subscribe", "groups": map[string]any{l.Group: map[string]string{"token": l.Token}}})
	if err != nil {
		t.Fatal(err)
	}
	if l.Token == "" {
		frame, err = json.Marshal(map[string]any{"type": "subscribe", "group": l.Group})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SendText(string(frame)); err != nil {
		t.Fatal(err)
	}
	c.Expect(t, `{"type":"subscribed","group":"`+l.Group+`"}`)
	return c
}

// history returns how many events of a group are recorded.
func (g *gateway) history(t *testing.T, organization, name string) int64 {
	t.Helper()
	group := testkit.Group(t, organization, name)
	n, err := g.redis.XLen(t.Context(), g.keys.History(group)).Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
