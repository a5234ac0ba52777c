package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestClusterClientSendsOnce: of what was sent and whose answer got lost nobody knows whether it was done,
// so it is not sent again.
func TestClusterClientSendsOnce(t *testing.T) {
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{})
	const key = "doomed"
	ways := map[string]func(ctx context.Context, c redis.UniversalClient) error{
		"command": func(ctx context.Context, c redis.UniversalClient) error { return c.Incr(ctx, key).Err() },
		"pipeline": func(ctx context.Context, c redis.UniversalClient) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, key).Err() })
			return err
		},
		"transaction": func(ctx context.Context, c redis.UniversalClient) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, key).Err() })
			return err
		},
		"watched": func(ctx context.Context, c redis.UniversalClient) error {
			return c.Watch(ctx, func(tx *redis.Tx) error { return tx.Incr(ctx, key).Err() }, "other-{"+key+"}")
		},
	}
	for name, failure := range map[string]error{
		"closed":  io.EOF,
		"cut off": io.ErrUnexpectedEOF,
		"reset":   &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)},
		"silent":  &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded},
	} {
		for way, do := range ways {
			t.Run(name+", "+way, func(t *testing.T) {
				s := &settings{redis: redisSettings{name: "redis", url: "redis://127.0.0.1:1/0", cluster: cluster.Addrs()}}
				client := clusterClient(t, s)
				loser := &answerLoser{word: []byte(key), failure: failure}
				client.OnNewNode(func(member *redis.Client) { member.AddHook(loser) })
				other := clusterClient(t, s)
				if err := other.Set(t.Context(), key, 0, 0).Err(); err != nil {
					t.Fatal(err)
				}
				if err := do(t.Context(), client); err == nil {
					t.Error("got nil, want an error: nobody knows whether it was done")
				}
				if got, err := other.Get(t.Context(), key).Int(); got != 1 || err != nil {
					t.Errorf("done %d times (%v), want once", got, err)
				}
			})
		}
	}
}

// TestClusterClientFollows: commands get to whoever has the slot, and to a member that was not named.
func TestClusterClientFollows(t *testing.T) {
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{})
	client := clusterClient(t, &settings{redis: redisSettings{name: "redis", url: "redis://127.0.0.1:1/0", cluster: []string{cluster.Masters[0].Addr, "127.0.0.1:1"}}})
	for range 3 {
		if err := client.Incr(t.Context(), "key").Err(); err != nil {
			t.Fatal(err)
		}
		cluster.MoveSlot("key")
	}
	if got, err := client.Get(t.Context(), "key").Int(); got != 3 || err != nil {
		t.Errorf("got %d (%v), want 3", got, err)
	}
}

// TestServeOnCluster is the whole way in a Redis Cluster: sessions, members and the count of connections in Redis,
// events of each kind in each way there is, and an announcement; before and after the organisation's master was
// deposed. What was recorded meanwhile arrives, too, once.
func TestServeOnCluster(t *testing.T) {
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{Replicas: true})
	env := environment{
		"ORGCAST_REDIS": "redis://127.0.0.1:1/0", "ORGCAST_REDIS_CLUSTER": cluster.Addrs()[0] + ",127.0.0.1:1",
		"ORGCAST_SESSION_STORE": "redis", "ORGCAST_DIRECTORY": "redis",
	}
	client := clusterClient(t, &settings{redis: redisSettings{name: "redis", url: env["ORGCAST_REDIS"], cluster: cluster.Addrs()}})
	keys, err := keyspace.New(keyspace.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	members, err := directory.NewRedis(client, keys)
	if err != nil {
		t.Fatal(err)
	}
	orgs := map[string]orgctx.ID{}
	for _, name := range []string{"acme", "globex"} {
		org, err := parseOrganization(name)
		if err != nil {
			t.Fatal(err)
		}
		orgs[name] = org
		err = errors.Join(members.PutOrganization(t.Context(), org, directory.Active), members.PutMember(t.Context(), org, "ada", directory.Active, directory.Member{}))
		if err != nil {
			t.Fatal(err)
		}
	}
	s := startServe(t, "", env)
	s.expectReady()
	dial := testkit.DialTCP(s.public)
	pages := map[string]*testkit.Client{"acme": s.subscribe(dial, "ada", "acme"), "globex": s.subscribe(dial, "ada", "globex")}

	n := 0
	expectEvents := func() {
		t.Helper()
		for org, page := range pages {
			for way, publish := range map[string]func(event string) error{
				"command": func(event string) error {
					_, _, err := execute(t, s.env, "", "publish", org, "all", event)
					return err
				},
				"command, recorded": func(event string) error {
					_, _, err := execute(t, s.env, "", "publish", "--record", org, "all", event)
					return err
				},
				"HTTP": func(event string) error {
					if status, body := s.ask("POST", "/v1/publish", `{"organization_id":"`+org+`","group":"all","event":`+event+`}`); status != 200 {
						return fmt.Errorf("got %d %s", status, body)
					}
					return nil
				},
				"another program": func(event string) error {
					return client.SPublish(t.Context(), "orgcast:{"+org+"}:group:all", event).Err()
				},
			} {
				n++
				event := fmt.Sprintf(`{"organization_id":%q,"type":"note","way":%q,"n":%d}`, org, way, n)
				if err := publish(event); err != nil {
					t.Errorf("%s: %v", way, err)
				}
				page.Expect(t, event)
			}
		}
	}
	expectEvents()
	cluster.Failover(keys.Organization(orgs["acme"]))
	const meanwhile = `{"organization_id":"acme","type":"note","way":"meanwhile"}`
	testkit.Eventually(t, "recorded", func() bool {
		_, _, err := execute(t, s.env, "", "publish", "--record", "--idempotency-key", "once", "acme", "all", meanwhile)
		return err == nil
	})
	if gap, err := pages["acme"].Next(); err != nil || gap != meanwhile && !strings.Contains(gap, `"type":"gap"`) {
		t.Errorf("got %s, %v, want the event, or a gap, as the group had transient events", gap, err)
	} else if gap != meanwhile {
		pages["acme"].Expect(t, meanwhile)
	}
	s.expectReady()
	expectEvents()

	if _, errOut, err := execute(t, s.env, "", "revoke", "member", "acme", "ada"); err != nil {
		t.Fatalf("revoke: %v\n%s", err, errOut)
	}
	pages["acme"].ExpectClose(t, 4403)
	event := `{"organization_id":"globex","type":"note"}`
	if _, _, err := execute(t, s.env, "", "publish", "globex", "all", event); err != nil {
		t.Fatal(err)
	}
	pages["globex"].Expect(t, event)
}

// clusterClient returns a client as the process makes it.
func clusterClient(t *testing.T, s *settings) *redis.ClusterClient {
	t.Helper()
	made, err := s.redis.connect(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { made.Close() })
	client, ok := made.(*redis.ClusterClient)
	if !ok {
		t.Fatalf("got %T, want a client of a Cluster", made)
	}
	return client
}

// answerLoser makes connections that fail once a word was sent over them: when the answer is there.
type answerLoser struct {
	word    []byte
	failure error
}

func (l *answerLoser) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := next(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &losingConn{Conn: c, loser: l}, nil
	}
}

func (*answerLoser) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (*answerLoser) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

type losingConn struct {
	net.Conn
	loser *answerLoser
	sent  atomic.Bool
	lost  bool // owned by Read
}

func (c *losingConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, append([]byte("incr\r\n$6\r\n"), c.loser.word...)) {
		c.sent.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *losingConn) Read(b []byte) (int, error) {
	if c.lost {
		return 0, c.loser.failure
	}
	n, err := c.Conn.Read(b)
	if err == nil && c.sent.Load() {
		c.lost = true
		return 0, c.loser.failure
	}
	return n, err
}
