package subconn_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/subconn"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func newClient(t *testing.T, addr string, protocol int) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, Protocol: protocol, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// open returns a connection that is subscribed to a channel.
func open(t *testing.T, d *subconn.Dialer, channel string) *subconn.Conn {
	t.Helper()
	c := d.Subscribe(t.Context())
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Ask(testkit.Patience); err == nil {
		t.Error("Ask before the connection is open: got nil, want an error")
	}
	if err := c.Send(t.Context(), "subscribe", channel); err != nil {
		t.Fatal(err)
	}
	received, err := c.Receive(t.Context(), testkit.Patience)
	if s, ok := received.(*redis.Subscription); err != nil || !ok || s.Channel != channel {
		t.Fatalf("Receive: got %v, %v, want a confirmation", received, err)
	}
	return c
}

// TestRole asks a server for its role between messages, while the role changes.
func TestRole(t *testing.T) {
	server := redistest.StartServer(t)
	client := newClient(t, server.Addr, 3)
	c := open(t, subconn.NewDialer(client, nil), "channel")
	for _, test := range []struct {
		state redistest.State
		want  error
	}{{redistest.SavingFailed, nil}, {redistest.OutOfMemory, nil}, {redistest.ReadOnly, subconn.ErrReplica}, {"", nil}} {
		server.Heal()
		if test.state != "" {
			server.RefuseWrites(test.state)
		}
		if err := client.Publish(t.Context(), "channel", "before").Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.Ask(testkit.Patience); err != nil {
			t.Fatal(err)
		}
		received, err := c.Receive(t.Context(), testkit.Patience)
		if m, ok := received.(*redis.Message); err != nil || !ok || m.Payload != "before" {
			t.Fatalf("%q: got %v, %v, want the message", test.state, received, err)
		}
		received, err = c.Receive(t.Context(), testkit.Patience)
		role, ok := received.(subconn.Role)
		if err != nil || !ok || !errors.Is(role.Err(), test.want) {
			t.Errorf("%q: got %v, %v, want a role with the error %v", test.state, received, err, test.want)
		}
	}
	if err := c.Send(t.Context(), "monitor"); err == nil {
		t.Error("Send of another command: got nil, want an error")
	}
	if got := subconn.Role("").Err(); !errors.Is(got, subconn.ErrNoRole) {
		t.Errorf("no role: got %v, want %v", got, subconn.ErrNoRole)
	}
}

// TestRoleInRESP2: a subscribed connection cannot send HELLO there, and the error says so clearly.
func TestRoleInRESP2(t *testing.T) {
	c := open(t, subconn.NewDialer(newClient(t, redistest.Start(t), 2), nil), "channel")
	if err := c.Ask(testkit.Patience); err != nil {
		t.Fatal(err)
	}
	if received, err := c.Receive(t.Context(), testkit.Patience); !errors.Is(err, subconn.ErrNoRole) {
		t.Errorf("got %v, %v, want %v", received, err, subconn.ErrNoRole)
	}
}

// TestCloseOthers: connections that were dialed before a moment are closed, and the client uses new
// ones. Subscriptions stay, including those of another Dialer of the client.
func TestCloseOthers(t *testing.T) {
	client := newClient(t, redistest.Start(t), 3)
	d, second := subconn.NewDialer(client, nil), subconn.NewDialer(client, nil)
	a, b := open(t, d, "a"), open(t, second, "b")
	id := func() int64 {
		t.Helper()
		id, err := client.ClientID(t.Context()).Result()
		if err != nil {
			t.Fatalf("a command after CloseOthers: %v", err)
		}
		return id
	}
	start := time.Now()
	first := id()
	d.CloseOthers(start)
	if got := id(); got != first {
		t.Errorf("a connection that was dialed later: got another one, %d and not %d", got, first)
	}
	for _, dialer := range []*subconn.Dialer{d, second} {
		before := id()
		dialer.CloseOthers(time.Now())
		if got := id(); got == before {
			t.Error("a connection that was dialed earlier is still in use")
		}
	}
	for channel, c := range map[string]*subconn.Conn{"a": a, "b": b} {
		if err := client.Publish(t.Context(), channel, "here").Err(); err != nil {
			t.Fatal(err)
		}
		received, err := c.Receive(t.Context(), testkit.Patience)
		if m, ok := received.(*redis.Message); err != nil || !ok || m.Payload != "here" {
			t.Errorf("subscription %s: got %v, %v, want the message", channel, received, err)
		}
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if got := d.Others() + second.Others(); got != 0 {
		t.Errorf("connections remembered after the end of the client: got %d, want 0", got)
	}
}

// TestRetireOthers: connections that were dialed before a moment finish their commands in progress,
// and are not used again.
func TestRetireOthers(t *testing.T) {
	client := newClient(t, redistest.Start(t), 3)
	d := subconn.NewDialer(client, nil)
	id := func() int64 {
		t.Helper()
		id, err := client.ClientID(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	start := time.Now()
	idle := id()
	d.RetireOthers(start)
	if got := id(); got != idle {
		t.Errorf("a connection that was dialed later: got %d, want the same one, %d", got, idle)
	}
	waiting := make(chan error, 1) // one result
	go func() {
		waiting <- client.BLPop(t.Context(), testkit.Patience, "list").Err()
	}()
	testkit.Eventually(t, "a command is under way", func() bool {
		text, err := client.Info(t.Context(), "clients").Result()
		return err == nil && strings.Contains(text, "blocked_clients:1")
	})
	before := id()
	d.RetireOthers(time.Now())
	if got := id(); got == before {
		t.Error("a connection that was dialed earlier is used again")
	}
	if err := client.RPush(t.Context(), "list", "x").Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("the command under way: %v", err)
	}
	testkit.Eventually(t, "retired connections are closed", func() bool { id(); return d.Others() <= 2 })
}

func FuzzParseRole(f *testing.F) {
	for _, reply := range []map[any]any{
		{"server": "redis", "role": "master", "modules": []any{}},
		{"server": "redis", "role": "replica", "modules": []any{map[any]any{"name": `x"role":"master`, "role": "master"}}},
		{"server": "redis", "proto": int64(3)},
		{},
	} {
		f.Add(fmt.Sprintf("redis: unsupported pubsub message: %#v", reply))
	}
	f.Add("redis: unsupported pubsub message: map[\"role\":\"")
	f.Add("redis: unsupported pubsub message: \"role\"")
	f.Add("NOPERM this user has no permissions to run the 'hello' command")
	f.Fuzz(func(t *testing.T, text string) {
		role, ok := subconn.ParseRole(text)
		if role != "" && (!ok || !strings.Contains(text, string(role))) {
			t.Errorf("got %q, %t of %q", role, ok, text)
		}
	})
}

func TestParseRole(t *testing.T) {
	for _, test := range []struct {
		reply map[any]any
		want  subconn.Role
	}{
		{map[any]any{"server": "redis", "role": "master", "version": "7.0.15"}, "master"},
		{map[any]any{"role": "replica", "modules": []any{map[any]any{"role": "master", "name": `"role":"master"`}}}, "replica"},
		{map[any]any{"server": "redis"}, ""},
	} {
		if got, ok := subconn.ParseRole(fmt.Sprintf("redis: unsupported pubsub message: %#v", test.reply)); !ok || got != test.want {
			t.Errorf("%v: got %q, %t, want %q", test.reply, got, ok, test.want)
		}
	}
	for _, text := range []string{"", "EOF", "redis: unsupported pubsub message: \"hello\""} {
		if got, ok := subconn.ParseRole(text); ok {
			t.Errorf("%q: got %q, want none", text, got)
		}
	}
}
