package redistime_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"orgcast/internal/redistime"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// patience is far above what Redis takes, on a busy machine, too.
const patience = testkit.Patience

func newClient(tb testing.TB, o redis.Options) *redis.Client {
	tb.Helper()
	o.ContextTimeoutEnabled, o.MaxRetries, o.DialerRetries = true, -1, 1
	c := redis.NewClient(&o)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// asked counts the questions for the time.
type asked struct{ n atomic.Int64 }

func (*asked) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*asked) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (a *asked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() == "time" {
				a.n.Add(1)
			}
		}
		return next(ctx, cmds)
	}
}

// latest asks for the latest moment, which must lie between those at which a deadline may be by the
// clock of this machine, which is the server's, too.
func latest(tb testing.TB, c *redistime.Clocks, key string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	deadline, _ := ctx.Deadline()
	text, err := c.Latest(ctx, key)
	got, parseErr := strconv.ParseInt(text, 10, 64)
	if err = errors.Join(err, parseErr); err != nil {
		tb.Fatalf("%s: %v", key, err)
	}
	// It is early by the time that the server's answer took, and never late.
	if most, least := deadline.UnixMilli(), deadline.Add(-patience).UnixMilli(); got > most || got <= least {
		tb.Errorf("%s: got %d, want more than %d and at most %d", key, got, least, most)
	}
}

// TestTimeIsAskedOncePerMinute: and again after a minute, when it is told to, and when a connection
// is opened, which may lead to another server.
func TestTimeIsAskedOncePerMinute(t *testing.T) {
	client := newClient(t, redis.Options{Addr: redistest.Start(t)})
	clocks := redistime.New(client, nil)
	var questions asked
	client.AddHook(&questions)
	past := time.Duration(0)
	clocks.SetNow(func() time.Time { return time.Now().Add(past) })
	latest(t, clocks, "k") // opens the connection
	want := questions.n.Load()
	expect := func(what string, more int64) {
		t.Helper()
		for range 3 {
			latest(t, clocks, "k")
		}
		if want += more; questions.n.Load() != want {
			t.Errorf("%s: asked %d times in all, want %d", what, questions.n.Load(), want)
		}
	}
	expect("the connection is open", 1)
	expect("known", 0)
	clocks.Forget(t.Context(), "k")
	expect("forgotten", 1)
	past = 2 * time.Minute
	// By the clock of the test the deadline is past now: it only matters that the server is asked.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := clocks.Latest(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if want++; questions.n.Load() != want {
		t.Errorf("after a minute: asked %d times in all, want %d", questions.n.Load(), want)
	}
	past = 0
	clocks.Forget(t.Context(), "k")
	expect("forgotten again", 1)
	other := client.Conn() // of another pool than pipelines have
	defer other.Close()
	if err := other.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	expect("a new connection", 1)
}

// TestWithoutDeadlineNobodyIsAsked: what has no deadline may be done whenever it is.
func TestWithoutDeadlineNobodyIsAsked(t *testing.T) {
	client := newClient(t, redis.Options{Addr: "127.0.0.1:1"})
	if text, err := redistime.New(client, nil).Latest(t.Context(), "k"); text != "" || err != nil {
		t.Errorf("got %q, %v, want nothing", text, err)
	}
}

// TestServerThatTellsNoTime: rights that do not have TIME are told in the log, once a minute, and
// nothing else changes; a server that does not answer is an error, since it would not take the
// command either.
func TestServerThatTellsNoTime(t *testing.T) {
	addr := redistest.Start(t)
	admin := newClient(t, redis.Options{Addr: addr})
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "mute", "on", "nopass", "~*", "&*", "+@all", "-time").Err(); err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.WarnLevel)
	clocks := redistime.New(newClient(t, redis.Options{Addr: addr, Username: "mute", Password: "x"}), zap.New(core))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 5 {
		if text, err := clocks.Latest(ctx, "k"); text != "" || err != nil {
			t.Fatalf("got %q, %v, want nothing", text, err)
		}
	}
	if n := logs.Len(); n < 1 || n > 2 { // the second is of the connection that the first opened
		t.Errorf("told %d times, want once", n)
	}
	for name, o := range map[string]redis.Options{
		"away":           {Addr: "127.0.0.1:1"},
		"wrong password": {Addr: addr, Username: "nobody", Password: "x"},
	} {
		if text, err := redistime.New(newClient(t, o), nil).Latest(ctx, "k"); err == nil {
			t.Errorf("%s: got %q, want an error", name, text)
		}
	}
}

// TestEachMasterHasItsClock: in a Cluster a key's own master is asked, and no other.
func TestEachMasterHasItsClock(t *testing.T) {
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{})
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = client.Close() })
	var questions asked
	client.OnNewNode(func(node *redis.Client) { node.AddHook(&questions) })
	clocks := redistime.New(client, nil)
	keys := []string{"{a}", "{b}", "{c}", "{d}", "{e}", "{f}", "{g}", "{h}"}
	masters := make(map[*redistest.Server]bool)
	for range 3 {
		for _, key := range keys {
			masters[cluster.Owner(key)] = true
			latest(t, clocks, key)
		}
	}
	if got, want := questions.n.Load(), int64(len(masters)); got != want || want < 2 {
		t.Errorf("asked %d times, want once each of %d masters", got, want)
	}
	cluster.Owner(keys[0]).Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	clocks.Forget(ctx, keys[0])
	if text, err := clocks.Latest(ctx, keys[0]); err == nil {
		t.Errorf("a master that hangs: got %q, want an error", text)
	}
}

// TestRunLate: a script that is too late is tried once more, with what the clock says then.
func TestRunLate(t *testing.T) {
	client := newClient(t, redis.Options{Addr: redistest.Start(t)})
	clocks := redistime.New(client, nil)
	script := redis.NewScript(`redis.call('INCR', KEYS[1]) if tonumber(redis.call('GET', KEYS[1])) <= tonumber(ARGV[1]) then return redis.error_reply('LATE') end return ARGV[2]`)
	for refusals, want := range map[int]int{0: 1, 1: 2, 2: 2, 5: 2} {
		key := "tries:" + strconv.Itoa(refusals)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		text, err := clocks.Run(ctx, script, []string{key}, func(latest string) []any { return []any{refusals, latest} }).Text()
		cancel()
		if (err == nil) != (refusals < 2) || err == nil && text == "" || err != nil && !redistime.IsLate(err) {
			t.Errorf("refused %d times: got %q, %v", refusals, text, err)
		}
		if got, _ := client.Get(t.Context(), key).Int(); got != want {
			t.Errorf("refused %d times: tried %d times, want %d", refusals, got, want)
		}
	}
}
