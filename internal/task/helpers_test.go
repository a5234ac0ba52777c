package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"orgcast/clients/lua"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// as returns a context of the organization.
func as(tb testing.TB, org string) context.Context {
	tb.Helper()
	return orgctx.With(tb.Context(), testkit.Org(tb, org))
}

// fixture is a real Redis with a directory: acme and globex are active, closed is suspended. User 7
// is a member of each.
type fixture struct {
	server     *redistest.Server // nil in a Cluster
	client     redis.UniversalClient
	keys       keyspace.Keyspace
	directory  *directory.Redis
	dispatcher *task.Dispatcher
	registry   *prometheus.Registry
	log        *testkit.SyncBuffer
}

func newFixture(t *testing.T, serverArgs ...string) *fixture {
	t.Helper()
	f := &fixture{registry: prometheus.NewRegistry(), log: new(testkit.SyncBuffer)}
	if onCluster == nil {
		f.server = redistest.StartServer(t, serverArgs...)
		f.client = newClient(f.server.Addr)
	} else {
		f.client = redis.NewClusterClient(&redis.ClusterOptions{Addrs: onCluster.Addrs(), ContextTimeoutEnabled: true, DialerRetries: 1, DisableRoutingPolicies: true, PoolSize: 50})
		onCluster.Clear()
	}
	t.Cleanup(func() { _ = f.client.Close() })
	var err error
	f.keys = testkit.Keys(t)
	if f.directory, err = directory.NewRedis(f.client, f.keys); err != nil {
		t.Fatal(err)
	}
	if f.dispatcher, err = task.NewDispatcher(f.client, f.keys, task.DispatcherOptions{Registerer: f.registry}); err != nil {
		t.Fatal(err)
	}
	f.fill(t)
	return f
}

// everywhere sends a command to each server that has data.
func (f *fixture) everywhere(t *testing.T, command ...any) (answers []any) {
	t.Helper()
	var mu sync.Mutex
	do := func(ctx context.Context, c *redis.Client) error {
		answer, err := c.Do(ctx, command...).Result()
		mu.Lock()
		defer mu.Unlock()
		answers = append(answers, answer)
		return err
	}
	var err error
	switch c := f.client.(type) {
	case *redis.Client:
		err = do(t.Context(), c)
	case *redis.ClusterClient:
		err = c.ForEachMaster(t.Context(), do)
	}
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	return answers
}

// names returns the names that match a pattern.
func (f *fixture) names(t *testing.T, pattern string) (names []any) {
	t.Helper()
	for _, answer := range f.everywhere(t, "KEYS", pattern) {
		list, _ := answer.([]any)
		names = append(names, list...)
	}
	return names
}

func newClient(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1, PoolSize: 50,
	})
}

// fill writes the directory.
func (f *fixture) fill(t *testing.T) {
	t.Helper()
	for org, status := range map[string]directory.Status{
		"acme": directory.Active, "globex": directory.Active, "closed": directory.Suspended,
	} {
		if err := f.directory.PutOrganization(t.Context(), testkit.Org(t, org), status); err != nil {
			t.Fatal(err)
		}
		if err := f.directory.PutMember(t.Context(), testkit.Org(t, org), "7", directory.Active, directory.Member{}); err != nil {
			t.Fatal(err)
		}
	}
}

// options returns short times, except for the time after which a worker counts as dead. On a busy
// machine, a slow worker would lose its tasks.
func (f *fixture) options() task.Options {
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(f.log), zap.DebugLevel)
	return task.Options{
		Concurrency: 4, Timeout: testkit.Patience, Attempts: 3, Backoff: 10 * time.Millisecond,
		Takeover: 2 * time.Second, Poll: 20 * time.Millisecond, Drain: testkit.Patience, Grace: testkit.Patience,
		Log: zap.New(core), Registerer: f.registry,
	}
}

// work runs a worker until the test ends, or until stop is called.
func (f *fixture) work(t *testing.T, kinds map[string]task.Kind, o task.Options) (stop func() error) {
	t.Helper()
	w, err := task.NewWorker(f.client, f.keys, f.directory, kinds, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// only returns the kinds of a worker with one handler.
func only(run task.Handler) map[string]task.Kind { return map[string]task.Kind{"job": {Run: run}} }

func (f *fixture) dispatch(t *testing.T, org, id, payload string) {
	t.Helper()
	got, err := f.dispatcher.Dispatch(as(t, org), task.Task{
		Kind: "job", ID: id, Group: testkit.Group(t, org, "jobs"), UserID: "7", Payload: json.RawMessage(payload),
	})
	if err != nil || got != id {
		t.Fatalf("Dispatch of %s: got %q, %v", id, got, err)
	}
}

// add writes an entry as another program might.
func (f *fixture) add(t *testing.T, fields ...any) {
	t.Helper()
	if err := f.client.XAdd(t.Context(), &redis.XAddArgs{Stream: f.keys.Tasks("job"), Values: fields}).Err(); err != nil {
		t.Fatal(err)
	}
}

// open returns how many tasks of a kind wait or run, or -1 if Redis does not say.
func (f *fixture) open(t *testing.T, kind string) int64 {
	t.Helper()
	pipe := f.client.TxPipeline() // in one transaction, because entries move from one to the other
	inStream, inLines := pipe.XLen(t.Context(), f.keys.Tasks(kind)), pipe.HGet(t.Context(), f.keys.TaskLines(kind), ":entries")
	_, _ = pipe.Exec(t.Context()) // each has its own error
	n, err := inLines.Int64()
	if inStream.Err() != nil || err != nil && !errors.Is(err, redis.Nil) {
		return -1
	}
	return inStream.Val() + n
}

// line returns the entries in the line of an organization.
func (f *fixture) line(t *testing.T, org, kind string) (entries []map[string]any) {
	t.Helper()
	texts, err := f.client.LRange(t.Context(), f.keys.TaskLine(testkit.Org(t, org), kind), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		var flat []string
		if err := json.Unmarshal([]byte(text), &flat); err != nil || len(flat)%2 != 0 {
			t.Fatalf("line of %s: got %q, want names and values", org, text)
		}
		fields := make(map[string]any)
		for i := 0; i < len(flat); i += 2 {
			fields[flat[i]] = flat[i+1]
		}
		entries = append(entries, fields)
	}
	return entries
}

// read reads the next task of a kind as a worker does. The worker then holds the task and does
// nothing more. It returns the fields, or nil if there is none.
func (f *fixture) read(t *testing.T, kind, worker string, passed ...any) map[string]any {
	t.Helper()
	err := f.client.XGroupCreateMkStream(t.Context(), f.keys.Tasks(kind), "workers", "0").Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") {
		t.Fatal(err)
	}
	keys := []string{f.keys.Tasks(kind), f.keys.TaskRing(kind), f.keys.TaskLines(kind), f.keys.TaskIdle(kind)}
	answer, err := f.client.Eval(t.Context(), lua.Text("next.v1"), keys, append([]any{"workers", worker, 0, 0}, passed...)...).Slice()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil || len(answer) != 2 {
		t.Fatalf("next: got %v, %v", answer, err)
	}
	flat, _ := answer[1].([]any)
	fields := map[string]any{"entry": answer[0]}
	for i := 0; i+1 < len(flat); i += 2 {
		fields[flat[i].(string)] = flat[i+1]
	}
	return fields
}

// expectDone waits until no entry is open.
func (f *fixture) expectDone(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, "no task is open", func() bool { return f.open(t, "job") == 0 })
	testkit.Eventually(t, "no entry is pending", func() bool { // some workers acknowledge in two steps
		pending, err := f.client.XPending(t.Context(), f.keys.Tasks("job"), "workers").Result()
		return err == nil && pending.Count == 0
	})
}

// dead returns the dead letters.
func (f *fixture) dead(t *testing.T) []map[string]any {
	t.Helper()
	messages, err := f.client.XRange(t.Context(), f.keys.DeadTasks("job"), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for _, m := range messages {
		all = append(all, m.Values)
	}
	return all
}

// said is one event as a subscriber received it.
type said struct {
	channel  string
	position event.Position
	fields   map[string]any
}

// decode decodes a payload as a gateway does, which refuses payloads of another organization.
func (f *fixture) decode(t *testing.T, channel, payload string) said {
	t.Helper()
	s := said{channel: channel}
	group, ok := f.keys.ParseGroupChannel(channel)
	e, err := event.Decode(group, payload, event.DefaultMaxSize, time.Now())
	if !ok || err != nil {
		t.Errorf("published on %s: %v", channel, err)
		return s
	}
	if err := json.Unmarshal(e.Payload(), &s.fields); err != nil {
		t.Errorf("published on %s: %v", channel, err)
	}
	s.position = e.Position()
	return s
}

// history returns the recorded events of a group.
func (f *fixture) history(t *testing.T, g event.Group) []said {
	t.Helper()
	entries, err := f.client.XRange(t.Context(), f.keys.History(g), "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var all []said
	for _, entry := range entries {
		payload, _ := entry.Values["event"].(string)
		all = append(all, f.decode(t, f.keys.GroupChannel(g), entry.ID+" "+payload))
	}
	return all
}

// heard collects what was published in all groups of all organizations.
type heard struct {
	mu  sync.Mutex
	all []said
}

// listen records what is published until the test ends. In a Cluster, it subscribes to the groups
// that tests use, of the organizations in the directory.
func (f *fixture) listen(t *testing.T) *heard {
	t.Helper()
	h := new(heard)
	if _, cluster := f.client.(*redis.ClusterClient); !cluster {
		f.record(t, h, f.client.PSubscribe(t.Context(), "orgcast:*"), 1)
		return h
	}
	for _, org := range []string{"acme", "globex", "closed"} {
		var channels []string
		for _, name := range []string{"jobs", "board.1", "chat", "g"} {
			channels = append(channels, f.keys.GroupChannel(testkit.Group(t, org, name)))
		}
		f.record(t, h, f.client.SSubscribe(t.Context(), channels...), len(channels))
	}
	return h
}

// record adds messages of a subscription, after the given number of confirmations.
func (f *fixture) record(t *testing.T, h *heard, sub *redis.PubSub, confirmations int) {
	t.Helper()
	for range confirmations {
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	messages := sub.Channel(redis.WithChannelSize(10_000)) //nolint:forbidigo // Redis is well, and the channel holds all
	go func() {
		defer close(done)
		for m := range messages {
			s := f.decode(t, m.Channel, m.Payload)
			h.mu.Lock()
			h.all = append(h.all, s)
			h.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = sub.Close()
		<-done
	})
}

func (h *heard) events() []said {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

// types returns the types of the events published in the group of an organization, in order.
func (h *heard) types(org string) []string {
	var types []string
	for _, s := range h.events() {
		if s.channel == "orgcast:{"+org+"}:group:jobs" {
			text, _ := s.fields["type"].(string)
			types = append(types, text)
		}
	}
	return types
}

// expect waits until the given number of events was published in total.
func (h *heard) expect(t *testing.T, count int) []said {
	t.Helper()
	testkit.Eventually(t, "events published", func() bool { return len(h.events()) >= count })
	if got := h.events(); len(got) != count {
		t.Fatalf("got %d events, want %d: %v", len(got), count, got)
	}
	return h.events()
}

// counter returns a metric with all of the given label values.
func (f *fixture) counter(tb testing.TB, name string, labels ...string) (sum float64) {
	tb.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			matches := 0
			for _, l := range m.GetLabel() {
				if slices.Contains(labels, l.GetValue()) {
					matches++
				}
			}
			if matches == len(labels) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
