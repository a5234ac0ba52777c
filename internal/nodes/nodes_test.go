package nodes_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/keyspace"
	"orgcast/internal/nodes"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// echo is a question of the tests.
type echo struct {
	Text string `json:"text"`
}

func (e echo) Check() error {
	if e.Text == "" {
		return errors.New("no text")
	}
	return nil
}

// echoed is the answer: the text, with the name of the node.
type echoed struct {
	Text string `json:"text"`
}

func echoes() nodes.Topic[echo, echoed] { return nodes.Topic[echo, echoed]{Name: "echo"} }

// installation is a Redis with the nodes of one test.
type installation struct {
	tb     testing.TB
	client func() redis.UniversalClient
	keys   keyspace.Keyspace
}

// onCluster is the Cluster that installations use while TestOnCluster runs, else nil.
var onCluster *redistest.Cluster

func install(tb testing.TB) installation {
	tb.Helper()
	in := installation{tb: tb, keys: testkit.Keys(tb)}
	if onCluster != nil {
		onCluster.Clear()
		in.client = func() redis.UniversalClient { return onCluster.NewClient(tb) }
		return in
	}
	addr := redistest.Start(tb)
	in.client = func() redis.UniversalClient { return redistest.NewClient(tb, addr) }
	return in
}

// running is a node that runs.
type running struct {
	*nodes.Nodes

	client  redis.UniversalClient
	metrics *prometheus.Registry
	stop    func() // in order
}

// kill stops the node as if its process were killed: it can tell nobody.
func (r *running) kill() {
	_ = r.client.Close()
	r.stop()
}

// start runs a node that answers echoes, unless answer is another function.
func (in installation) start(id string, answer func(ctx context.Context, q echo) (echoed, error)) *running {
	in.tb.Helper()
	r := &running{client: in.client(), metrics: prometheus.NewRegistry()}
	r.Nodes = nodes.New(r.client, in.keys, nodes.Options{ID: id, Version: "v1", Lease: 3 * time.Second, Patience: time.Second, Registerer: r.metrics})
	if answer == nil {
		answer = func(_ context.Context, q echo) (echoed, error) { return echoed{Text: q.Text + " from " + id}, nil }
	}
	nodes.Answer(r.Nodes, echoes(), answer)
	return in.run(r)
}

func (in installation) run(r *running) *running {
	in.tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) }) // always nil
	r.stop = func() { cancel(); wg.Wait() }
	in.tb.Cleanup(r.stop)
	testkit.Eventually(in.tb, "the node hears questions", func() bool { return metric(in.tb, r.metrics, "orgcast_questions_up", "") == 1 })
	return r
}

// metric returns the value of a metric, with the given result if it has one.
func metric(tb testing.TB, registry *prometheus.Registry, name, result string) float64 {
	tb.Helper()
	families, err := registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			switch {
			case f.GetName() != name:
			case result == "":
				return m.GetGauge().GetValue()
			case m.GetLabel()[0].GetValue() == result:
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// said asks a node's installation and returns what each node replied.
func said(tb testing.TB, by *running) (replies map[string]string, complete bool) {
	tb.Helper()
	all, err := nodes.Ask(tb.Context(), by.Nodes, echoes(), echo{Text: "hello"})
	if err != nil {
		tb.Fatal(err)
	}
	replies = make(map[string]string)
	for _, r := range all.Each {
		replies[r.Node.ID] = string(r.State) + " " + r.Answer.Text
	}
	return replies, all.Complete
}

// expect waits until the nodes reply as wanted.
func expect(tb testing.TB, by *running, complete bool, want map[string]string) {
	tb.Helper()
	testkit.Eventually(tb, "the replies are as wanted", func() bool {
		got, all := said(tb, by)
		if len(got) != len(want) || all != complete {
			return false
		}
		for node, reply := range want {
			if got[node] != reply {
				return false
			}
		}
		return true
	})
}

// TestEveryNodeAnswers: whichever node is asked, all answer.
func TestEveryNodeAnswers(t *testing.T) {
	in := install(t)
	list := []*running{in.start("a", nil), in.start("b", nil), in.start("c", nil)}
	for _, n := range list {
		expect(t, n, true, map[string]string{"a": "answered hello from a", "b": "answered hello from b", "c": "answered hello from c"})
	}
	all, err := list[0].List(t.Context())
	if err != nil || len(all) != 3 || all[2].ID != "c" || all[2].Version != "v1" || time.Since(all[2].StartedAt) > time.Hour {
		t.Errorf("got %v, %v, want the three nodes", all, err)
	}
}

// TestKilledNodeIsSilentAndDisappears: as long as its lease lasts, a killed node is listed as silent.
// Then it is not listed.
func TestKilledNodeIsSilentAndDisappears(t *testing.T) {
	in := install(t)
	a, b := in.start("a", nil), in.start("b", nil)
	expect(t, a, true, map[string]string{"a": "answered hello from a", "b": "answered hello from b"})
	b.kill()
	expect(t, a, false, map[string]string{"a": "answered hello from a", "b": "silent "})
	expect(t, a, true, map[string]string{"a": "answered hello from a"})
}

// TestStoppedNodeDisappearsAtOnce: a node that stops in order leaves the list.
func TestStoppedNodeDisappearsAtOnce(t *testing.T) {
	in := install(t)
	a, b := in.start("a", nil), in.start("b", nil)
	expect(t, a, true, map[string]string{"a": "answered hello from a", "b": "answered hello from b"})
	b.stop()
	if list, err := a.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("got %v, %v, want the other node alone", list, err)
	}
	expect(t, a, true, map[string]string{"a": "answered hello from a"})
}

// TestNodeThatFailsIsListed: a node of another version, one whose answer fails, panics or is too
// long, and one that takes too long, harm nobody else's answer.
func TestNodeThatFailsIsListed(t *testing.T) {
	in := install(t)
	a := in.start("a", nil)
	other := &running{client: in.client(), metrics: prometheus.NewRegistry()}
	other.Nodes = nodes.New(other.client, in.keys, nodes.Options{ID: "other", Registerer: other.metrics})
	in.run(other)
	in.start("error", func(context.Context, echo) (echoed, error) { return echoed{}, errors.New("no") })
	in.start("panic", func(context.Context, echo) (echoed, error) { panic("no") })
	in.start("long", func(context.Context, echo) (echoed, error) {
		return echoed{Text: strings.Repeat("x", nodes.MaxAnswer)}, nil
	})
	in.start("slow", func(ctx context.Context, _ echo) (echoed, error) { <-ctx.Done(); return echoed{}, ctx.Err() })
	expect(t, a, false, map[string]string{
		"a": "answered hello from a", "other": "failed ", "error": "failed ", "panic": "failed ", "long": "failed ", "slow": "silent ",
	})
}

// TestQuestionOfANewerVersion: a node does not answer a question with a condition that it does not
// know, because its answer would be wrong.
func TestQuestionOfANewerVersion(t *testing.T) {
	for text, valid := range map[string]bool{
		`{"text":"a"}`: true, `{"text":"a","group":"b"}`: false, `{}`: false, ``: false, `null`: false, `{"text":"a"} {}`: false, `{"text":1}`: false,
	} {
		if _, err := echoes().Decode([]byte(text)); (err == nil) != valid {
			t.Errorf("%s: got %v, want valid=%t", text, err, valid)
		}
	}
}

// TestWithoutRedis: a node that cannot ask the others answers for itself, and says that others may
// be missing.
func TestWithoutRedis(t *testing.T) {
	in := install(t)
	a := in.start("a", nil)
	in.start("b", nil)
	expect(t, a, true, map[string]string{"a": "answered hello from a", "b": "answered hello from b"})
	_ = a.client.Close()
	if got, complete := said(t, a); len(got) != 1 || got["a"] != "answered hello from a" || complete {
		t.Errorf("got %v, complete=%t, want the node itself, incomplete", got, complete)
	}
}

// TestQuestionsAreBounded: a flood of questions waits for nobody and keeps nothing; what is not a
// question is counted.
func TestQuestionsAreBounded(t *testing.T) {
	in := install(t)
	under, done := make(chan struct{}, 1), make(chan struct{})
	a := in.start("a", func(context.Context, echo) (echoed, error) {
		select {
		case under <- struct{}{}:
		default:
		}
		<-done
		return echoed{}, nil
	})
	defer close(done)
	one := `{"id":"q","from":"b","topic":"echo","question":{"text":"x"}}`
	a.Hear(one)
	<-under
	for range 100 {
		a.Hear(one)
	}
	if got := metric(t, a.metrics, "orgcast_questions_total", "dropped"); got != 100-16 {
		t.Errorf("got %v dropped questions, want all that do not wait", got)
	}
	for _, text := range []string{"", "{}", `{"id":"../x","from":"b","topic":"echo"}`, strings.Repeat("x", nodes.MaxQuestion+1)} {
		a.Hear(text)
	}
	if got := metric(t, a.metrics, "orgcast_questions_total", "malformed"); got != 4 {
		t.Errorf("got %v malformed questions, want 4", got)
	}
}

// TestNothingStays: what a question leaves in Redis is gone when it is answered, and a node's key has
// an end.
func TestNothingStays(t *testing.T) {
	in := install(t)
	a := in.start("a", nil)
	in.start("b", nil)
	expect(t, a, true, map[string]string{"a": "answered hello from a", "b": "answered hello from b"})
	for _, id := range []string{"a", "b"} {
		if ttl := a.client.PTTL(t.Context(), in.keys.Node(id)).Val(); ttl <= 0 || ttl > 3*time.Second {
			t.Errorf("node %s expires in %v, want its lease", id, ttl)
		}
	}
	if single, ok := a.client.(*redis.Client); ok {
		if left := single.Keys(t.Context(), "*answers*").Val(); len(left) != 0 {
			t.Errorf("got %v, want no answers", left)
		}
	}
}

// TestOnCluster runs the tests that use Redis on a Redis Cluster too.
func TestOnCluster(t *testing.T) {
	onCluster = redistest.StartCluster(t, redistest.ClusterOptions{})
	t.Cleanup(func() { onCluster = nil })
	for name, test := range map[string]func(*testing.T){
		"EveryNodeAnswers":                TestEveryNodeAnswers,
		"KilledNodeIsSilentAndDisappears": TestKilledNodeIsSilentAndDisappears,
		"StoppedNodeDisappearsAtOnce":     TestStoppedNodeDisappearsAtOnce,
	} {
		t.Run(name, test)
	}
}

// TestDatabasesAreApart: nodes with one prefix in two databases of a server neither list nor ask each
// other.
func TestDatabasesAreApart(t *testing.T) {
	addr := redistest.Start(t)
	in := func(database int) installation {
		return installation{tb: t, keys: testkit.Keys(t).InDatabase(database), client: func() redis.UniversalClient {
			client := redis.NewClient(&redis.Options{Addr: addr, DB: database, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
			t.Cleanup(func() { _ = client.Close() })
			return client
		}}
	}
	a, b := in(0).start("a", nil), in(1).start("b", nil)
	expect(t, a, true, map[string]string{"a": "answered hello from a"})
	expect(t, b, true, map[string]string{"b": "answered hello from b"})
}

func FuzzDecodeQuestion(f *testing.F) {
	f.Add(`{"id":"q","from":"b","topic":"echo","question":{"text":"x"}}`)
	f.Add(`{"id":"","from":"b","topic":"","question":null}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, text string) {
		id, topic, err := nodes.DecodeQuestion([]byte(text))
		if err == nil && (id == "" || topic == "" || strings.ContainsAny(id, ":{} ")) {
			t.Errorf("%q: got id %q and topic %q", text, id, topic)
		}
	})
}

func FuzzDecodeNode(f *testing.F) {
	f.Add(`{"node":"a","version":"v1","started_at":"2026-11-29T00:00:00Z"}`)
	f.Add(`{"node":"a b"}`)
	f.Fuzz(func(t *testing.T, text string) {
		if node, err := nodes.DecodeNode([]byte(text)); err == nil && (node.ID == "" || strings.ContainsAny(node.ID, ":{} ")) {
			t.Errorf("%q: got %v", text, node)
		}
	})
}
