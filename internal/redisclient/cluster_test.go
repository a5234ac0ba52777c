package redisclient_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/redisclient"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestClusterClientSendsOnce: of what was sent and whose answer got lost nobody knows whether it
// was done, so it is not sent again.
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
				o := redisclient.Options{Name: "redis", URL: "redis://127.0.0.1:1/0", Cluster: cluster.Addrs()}
				client := clusterClient(t, o)
				loser := &answerLoser{word: []byte(key), failure: failure}
				client.OnNewNode(func(member *redis.Client) { member.AddHook(loser) })
				other := clusterClient(t, o)
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

// TestClusterClientFollows: commands reach the owner of the slot, and a member that was not named.
func TestClusterClientFollows(t *testing.T) {
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{})
	client := clusterClient(t, redisclient.Options{Name: "redis", URL: "redis://127.0.0.1:1/0", Cluster: []string{cluster.Masters[0].Addr, "127.0.0.1:1"}})
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

// clusterClient returns a client as the process makes it.
func clusterClient(t *testing.T, o redisclient.Options) *redis.ClusterClient {
	t.Helper()
	connector, err := redisclient.NewConnector(o)
	if err != nil {
		t.Fatal(err)
	}
	made, err := connector.Connect(0)
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
