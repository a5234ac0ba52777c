package subconn_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/subconn"
	"orgcast/internal/testkit/redistest"
)

// TestFollowLeavesAReplica: a proxy keeps connections to a master that has become a replica. After
// it refuses one write, all connections are closed, including those that only read.
func TestFollowLeavesAReplica(t *testing.T) {
	const caught = `local r = redis.pcall('SET', KEYS[1], 'y'); return {1, type(r) == 'table' and r.err or ''}`
	for name, write := range map[string]func(*redis.Client) error{
		"a command": func(c *redis.Client) error { return c.Set(t.Context(), "k", "y", 0).Err() },
		"a pipeline": func(c *redis.Client) error {
			_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
				p.Get(t.Context(), "k")
				return p.Set(t.Context(), "k", "y", 0).Err()
			})
			return err
		},
		"a script": func(c *redis.Client) error {
			return c.Eval(t.Context(), `return redis.call('SET', KEYS[1], 'y')`, []string{"k"}).Err()
		},
		"a script that catches the error": func(c *redis.Client) error { return c.Eval(t.Context(), caught, []string{"k"}).Err() },
		"a pipeline of such scripts": func(c *redis.Client) error {
			_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Eval(t.Context(), caught, []string{"k"}).Err() })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			pair := redistest.StartPair(t)
			proxy := redistest.StartProxy(t, pair.Master.Addr)
			client := newClient(t, proxy.Addr, 3)
			subconn.Follow(client)
			if err := client.Set(t.Context(), "k", "old", 0).Err(); err != nil {
				t.Fatal(err)
			}
			pair.AwaitInStep()
			idle := client.Conn() // so that there is another one in the pool
			if err := idle.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if err := client.Ping(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			_ = idle.Close()
			if _, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Ping(t.Context()).Err() }); err != nil {
				t.Fatal(err) // pipelines have their own connections
			}
			pair.Promote()
			pair.Depose()
			proxy.Redirect(pair.Replica.Addr)
			at := newClient(t, pair.Replica.Addr, 3)
			if err := at.Set(t.Context(), "k", "new", 0).Err(); err != nil {
				t.Fatal(err)
			}
			if got := client.Get(t.Context(), "k").Val(); got != "old" {
				t.Fatalf("before any write: got %q, want what the former master has", got)
			}
			_ = write(client) // refused, or caught
			first := client.Conn()
			defer first.Close()
			for _, reader := range []redis.Cmdable{first, client} { // on two connections
				if got, err := reader.Get(t.Context(), "k").Result(); err != nil || got != "new" {
					t.Errorf("after a write: got %q, %v, want what the new master has", got, err)
				}
			}
		})
	}
}
