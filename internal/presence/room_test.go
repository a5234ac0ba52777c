package presence_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/nodes"
	"orgcast/internal/presence"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// member is a connection that knows what it was shown.
type member struct {
	mu     sync.Mutex
	users  map[string]presence.User // nil if it was not told
	count  int
	frames []string // in short
	failed string   // the code of the last error
}

// Show implements presence.Member.
func (m *member) Show(f *presence.Frame) {
	text := f.Encoded("test", func(text []byte) []byte { return text })
	var in struct {
		Type, Group, Code string
		Users, Joined     []presence.User
		Left              []struct {
			UserID string `json:"user_id"`
		}
		Count int
	}
	if err := json.Unmarshal(text, &in); err != nil {
		panic(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	short := []string{in.Type}
	switch in.Type {
	case "presence":
		m.failed, m.users = "", nil
		if len(in.Users) == in.Count {
			m.users = make(map[string]presence.User)
		}
	case "error":
		m.users, m.failed = nil, in.Code
	}
	for _, u := range append(in.Users, in.Joined...) {
		short = append(short, "+"+u.UserID)
		m.users[u.UserID] = u
	}
	for _, u := range in.Left {
		short = append(short, "-"+u.UserID)
		if _, ok := m.users[u.UserID]; !ok {
			short = append(short, "unknown")
		}
		delete(m.users, u.UserID)
	}
	m.count = in.Count
	m.frames = append(m.frames, strings.Join(short, " "))
}

// sees returns the users in order, each with its connections if there are several, and its state.
func (m *member) sees() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users == nil {
		return fmt.Sprint(m.count, m.failed)
	}
	var list []string
	for _, user := range slices.Sorted(maps.Keys(m.users)) {
		list = append(list, user+strings.Repeat("'", m.users[user].Connections-1)+string(m.users[user].State))
	}
	return strings.Join(list, " ")
}

// shown returns the frames so far.
func (m *member) shown() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.frames, ", ")
}

// awaits waits until the member sees these users.
func (m *member) awaits(tb testing.TB, want string) {
	tb.Helper()
	for deadline := time.Now().Add(testkit.Patience); m.sees() != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("sees %q, want %q; frames: %s", m.sees(), want, m.shown())
		}
	}
}

// gate is a node.
type gate struct {
	*presence.Room

	client redis.UniversalClient
	nodes  *nodes.Nodes
	stop   func() // in order
	kill   func() // at once
}

// short is a lease for tests in which nodes are killed. On a busy machine, a node that is not killed
// may lose it, too.
const short = 600 * time.Millisecond

// startGate starts a node at a Redis, which is taken for alive for as long as the lease.
func startGate(tb testing.TB, client redis.UniversalClient, lease time.Duration, o presence.Options) *gate {
	tb.Helper()
	keys := testkit.Keys(tb)
	g := &gate{client: client}
	g.nodes = nodes.New(client, keys, nodes.Options{Lease: lease, Log: zap.NewNop()})
	g.Room = presence.New(client, keys, g.nodes, o)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = g.nodes.Run(ctx) })
	running.Go(func() { _ = g.Room.Run(ctx) })
	end := sync.OnceFunc(func() { cancel(); running.Wait() })
	g.stop = func() {
		if err := g.Close(context.Background()); err != nil {
			tb.Errorf("close: %v", err)
		}
		end()
	}
	g.kill = func() { _ = client.Close(); end() }
	tb.Cleanup(end)
	return g
}

// attend makes a user of acme's group attend.
func (g *gate) attend(tb testing.TB, group event.Group, user string, watch bool) *member {
	tb.Helper()
	tb.Helper()
	m := new(member)
	if err := g.Attend(group, user, m, watch); err != nil {
		tb.Fatal(err)
	}
	return m
}

// TestNodesShareAGroup: users of one node are seen at the other; who leaves is gone, and who is lost
// may come back, also to another node, without a leave.
func TestNodesShareAGroup(t *testing.T) {
	t.Run("one server", func(t *testing.T) {
		server := redistest.StartServer(t)
		nodesShareAGroup(t, func() redis.UniversalClient { return redistest.NewClient(t, server.Addr) })
	})
	t.Run("Cluster", func(t *testing.T) {
		cluster := redistest.StartCluster(t, redistest.ClusterOptions{})
		nodesShareAGroup(t, func() redis.UniversalClient { return cluster.NewClient(t) })
	})
}

func nodesShareAGroup(t *testing.T, connect func() redis.UniversalClient) {
	t.Helper()
	a, b := startGate(t, connect(), testkit.Patience, presence.Options{}), startGate(t, connect(), testkit.Patience, presence.Options{})
	g := testkit.Group(t, "acme", "all")
	ada := a.attend(t, g, "ada", true)
	ada.awaits(t, "ada")
	alan := b.attend(t, g, "alan", false)
	ada.awaits(t, "ada alan")
	ü := b.attend(t, g, "ü@example.com", true)
	ü.awaits(t, "ada alan ü@example.com")
	if err := b.Set(g, alan, json.RawMessage(`{"a": "<b>"}`)); err != nil {
		t.Fatal(err)
	}
	ada.awaits(t, `ada alan{"a":"<b>"} ü@example.com`)
	b.Leave(g, alan, presence.Lost)
	elsewhere := a.attend(t, g, "alan", false)
	a.attend(t, testkit.Group(t, "globex", "all"), "stranger", true).awaits(t, "stranger")
	b.Leave(g, ü, presence.Closed)
	ada.awaits(t, `ada alan{"a":"<b>"}`)
	if text := ada.shown(); strings.Contains(text, "-alan") || strings.Contains(text, "unknown") {
		t.Errorf("alan left: %s", text)
	}
	b.SetGrace(time.Millisecond)
	a.Leave(g, elsewhere, presence.Ended)
	for _, room := range []*gate{a, b} {
		testkit.Eventually(t, "alan is gone", func() bool {
			s, err := room.Who(t.Context(), g)
			return err == nil && s.Count == 1 && s.Users[0].UserID == "ada"
		})
	}
	a.stop()
	b.stop()
}

// TestKilledNode: the users of a killed node are gone from the others, and from Redis.
func TestKilledNode(t *testing.T) {
	const users = 1000
	server := redistest.StartServer(t)
	a, b := startGate(t, redistest.NewClient(t, server.Addr), short, presence.Options{MostListed: 2 * users}), startGate(t, redistest.NewClient(t, server.Addr), short, presence.Options{})
	g := testkit.Group(t, "acme", "all")
	ada := a.attend(t, g, "ada", true)
	for i := range users {
		b.attend(t, g, fmt.Sprint("user", i), false)
	}
	testkit.Eventually(t, "all are seen", func() bool { return strings.Count(ada.sees(), " ") == users })
	b.kill()
	ada.awaits(t, "ada")
	client := redistest.NewClient(t, server.Addr)
	testkit.Eventually(t, "its fields are removed", func() bool {
		return client.HLen(t.Context(), testkit.Keys(t).Presence(g)).Val() == 2 // ada, and the node's number
	})
}
