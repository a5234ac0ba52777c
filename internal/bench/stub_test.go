package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/bench"
	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/redisclient"
	"orgcast/internal/session"
)

// stub is a small gateway: it signs in with real cookies, joins groups, and passes on what Redis
// brings. spoil makes it unfaithful.
type stub struct {
	url, prefix string
	redis       redisclient.Options
	sessions    *session.CookieStore
	keys        keyspace.Keyspace

	// Fixed after construction.
	secure      bool // over TLS
	compression websocket.CompressionMode
	// spoil says which payloads reach the n-th receiver of all, instead of the right one. nil
	// means to pass on everything as it is.
	spoil func(s *stub, to *stubConn, n int, payload string) []string
	// wrap makes the frame of the n-th delivery. nil means an envelope.
	wrap func(n int, payload, group string) []byte
	// kick says whether to end the connection before the n-th delivery.
	kick func(n int) bool

	resumed atomic.Int64 // requests over resumed TLS sessions

	mu      sync.Mutex
	members map[event.Group][]*stubConn

	delivering sync.Mutex
	deliveries int
}

type stubConn struct {
	ws       *websocket.Conn // nil on a stream
	stream   net.Conn        // nil on a WebSocket
	identity session.Identity
	held     string // by a spoiler that reorders
}

// stubs counts the stubs of this process. Each has its own prefix, so that they can share a
// Redis.
var stubs atomic.Int64

func startStub(t *testing.T, redisAddr string, change func(*stub)) *stub {
	t.Helper()
	return startStubAt(t, redisclient.Options{Name: "redis", URL: "redis://" + redisAddr}, change)
}

func startStubAt(t *testing.T, at redisclient.Options, change func(*stub)) *stub {
	t.Helper()
	prefix := fmt.Sprintf("stub-%d", stubs.Add(1))
	keys, err := keyspace.New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := session.NewCookieStore([]session.KeyPair{{Hash: bytes.Repeat([]byte("k"), 32)}}, session.Options{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	s := &stub{redis: at, prefix: prefix, sessions: sessions, keys: keys, members: make(map[event.Group][]*stubConn)}
	if change != nil {
		change(s)
	}
	stopListening := s.listen(t)
	server := httptest.NewUnstartedServer(s)
	if s.secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	s.url = "ws" + strings.TrimPrefix(server.URL, "http")
	t.Cleanup(func() {
		stopListening()
		server.Close()
	})
	return s
}

// listen subscribes to all groups and passes on what comes, until stop is called.
func (s *stub) listen(t *testing.T) (stop func()) {
	t.Helper()
	connector, err := redisclient.NewConnector(s.redis)
	if err != nil {
		t.Fatal(err)
	}
	client, err := connector.Connect(0)
	if err != nil {
		t.Fatal(err)
	}
	subscriptions := []*redis.PubSub{}
	if len(s.redis.Cluster) == 0 {
		subscriptions = append(subscriptions, client.PSubscribe(t.Context(), s.prefix+"[@:]*")) // whatever the database
	} else {
		for org := range benchOrgs { // each has one slot
			var channels []string
			for room := range benchGroups {
				channels = append(channels, fmt.Sprintf("%s:{bench-%d}:group:room.%d", s.prefix, org, room))
			}
			subscriptions = append(subscriptions, client.SSubscribe(t.Context(), channels...))
		}
	}
	var listening sync.WaitGroup
	for _, events := range subscriptions {
		if _, err := events.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		listening.Go(func() {
			for m := range events.Channel(redis.WithChannelSize(1 << 16)) { //nolint:forbidigo // Redis is well, and the channel holds all
				s.deliver(t.Context(), m)
			}
		})
	}
	return func() {
		for _, events := range subscriptions {
			if err := events.Close(); err != nil {
				t.Errorf("close subscription: %v", err)
			}
		}
		listening.Wait()
		if err := client.Close(); err != nil {
			t.Errorf("close client: %v", err)
		}
	}
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS != nil && r.TLS.DidResume {
		s.resumed.Add(1)
	}
	identity, err := s.sessions.Resolve(r.Context(), r)
	if err != nil {
		http.Error(w, "no session", http.StatusUnauthorized)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/sse/") {
		s.serveStream(w, r, identity)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{"orgcast.v1"}, CompressionMode: s.compression, CompressionThreshold: 1,
	})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	c := &stubConn{ws: ws, identity: identity}
	if c.send(r.Context(), map[string]any{"type": "welcome", "organization_id": identity.Organization, "user_id": identity.UserID}) != nil {
		return
	}
	defer s.leave(c)
	for {
		_, b, err := ws.Read(r.Context())
		if err != nil {
			return
		}
		var m struct{ Type, Group string }
		if err := json.Unmarshal(b, &m); err != nil || m.Type != "subscribe" {
			return
		}
		group, err := event.NewGroup(identity.Organization, m.Group)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.members[group] = append(s.members[group], c)
		s.mu.Unlock()
		if c.send(r.Context(), map[string]any{"type": "subscribed", "group": m.Group}) != nil {
			return
		}
	}
}

// serveStream is the same over server-sent events.
func (s *stub) serveStream(w http.ResponseWriter, r *http.Request, identity session.Identity) {
	var m struct{ Groups map[string]struct{} }
	if r.Method == http.MethodPost && json.NewDecoder(r.Body).Decode(&m) != nil {
		http.Error(w, "no frame", http.StatusBadRequest)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	c := &stubConn{stream: conn, identity: identity}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1000\n\n:\n\n")
	if c.send(r.Context(), map[string]any{"type": "welcome", "organization_id": identity.Organization, "user_id": identity.UserID}) != nil {
		return
	}
	defer s.leave(c)
	for name := range m.Groups {
		group, err := event.NewGroup(identity.Organization, name)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.members[group] = append(s.members[group], c)
		s.mu.Unlock()
		if c.send(r.Context(), map[string]any{"type": "subscribed", "group": name}) != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, conn) // until the client is gone
}

// write sends a text.
func (c *stubConn) write(ctx context.Context, text []byte) error {
	if c.ws != nil {
		return c.ws.Write(ctx, websocket.MessageText, text)
	}
	_, err := fmt.Fprintf(c.stream, "id: 1-1\ndata: %s\n\n", text)
	return err
}

// kick ends the connection.
func (c *stubConn) kick() {
	if c.ws != nil {
		_ = c.ws.CloseNow()
		return
	}
	_, _ = io.WriteString(c.stream, "event: close\ndata: {\"code\":1012,\"reason\":\"\"}\n\n") // it may have left
	_ = c.stream.Close()
}

func (c *stubConn) send(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.write(ctx, b)
}

func (s *stub) leave(c *stubConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for group, members := range s.members {
		var left []*stubConn
		for _, m := range members {
			if m != c {
				left = append(left, m)
			}
		}
		s.members[group] = left
	}
}

// deliver writes one event to all its members.
func (s *stub) deliver(ctx context.Context, m *redis.Message) {
	s.delivering.Lock()
	defer s.delivering.Unlock()
	group, ok := s.keys.ParseGroupChannel(m.Channel)
	if !ok {
		return
	}
	s.mu.Lock()
	members := s.members[group]
	s.mu.Unlock()
	for _, c := range members {
		s.deliveries++
		if s.kick != nil && s.kick(s.deliveries) {
			c.kick()
			continue
		}
		payloads := []string{m.Payload}
		if s.spoil != nil {
			payloads = s.spoil(s, c, s.deliveries, m.Payload)
		}
		for _, p := range payloads {
			text := inEnvelope([]byte(p), group.Name())
			if s.wrap != nil {
				text = s.wrap(s.deliveries, p, group.Name())
			}
			_ = c.write(ctx, text) // who has left misses nothing
		}
	}
}

// What the load of options has.
const benchOrgs, benchGroups = 3, 3

// options returns a small load against the stub.
func (s *stub) options() bench.Options {
	o := bench.DefaultOptions()
	o.URL, o.Redis, o.Sessions = s.url+"/ws/events", s.redis, s.sessions
	o.Prefix = s.prefix
	o.Conns, o.Orgs, o.GroupsPerOrg, o.GroupsPerConn = 24, benchOrgs, benchGroups, 2
	o.Rate, o.Warmup, o.Duration = 500, 50*time.Millisecond, 300*time.Millisecond
	o.Threads = 2
	return o
}
