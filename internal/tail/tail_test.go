package tail_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/tail"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// onCluster is the Cluster that tests use while TestOnCluster runs, else nil.
var onCluster *redistest.Cluster

// tailed is a node with tails, and a back end.
type tailed struct {
	tb     testing.TB
	client redis.UniversalClient
	keys   keyspace.Keyspace
	tails  *tail.Tails
	stop   func() // the node

	mu     sync.Mutex
	groups []string // that have members
}

func start(tb testing.TB) *tailed {
	tb.Helper()
	n := &tailed{tb: tb, keys: testkit.Keys(tb)}
	if onCluster != nil {
		n.client = onCluster.NewClient(tb)
	} else {
		n.client = redistest.NewClient(tb, redistest.Start(tb))
	}
	n.tails = tail.New(n.client, n.keys, tail.Options{Groups: func(context.Context, orgctx.ID, int) ([]string, bool, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return append([]string(nil), n.groups...), len(n.groups) > 2, nil
	}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.tails.Run(ctx) }) // always nil
	n.stop = func() { cancel(); running.Wait() }
	tb.Cleanup(n.stop)
	return n
}

// join gives groups members.
func (n *tailed) join(groups ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups = groups
}

// publish publishes a payload as a back end does.
func (n *tailed) publish(org, group, payload string) {
	n.tb.Helper()
	g, err := event.NewGroup(testkit.Org(n.tb, org), group)
	if err != nil {
		n.tb.Fatal(err)
	}
	send := n.client.Publish
	if onCluster != nil {
		send = n.client.SPublish
	}
	if err := send(n.tb.Context(), n.keys.GroupChannel(g), payload).Err(); err != nil {
		n.tb.Fatal(err)
	}
}

// reader reads one tail.
type reader struct {
	tb   testing.TB
	done chan error
	end  context.CancelFunc

	mu    sync.Mutex
	lines []string
	wait  chan struct{} // unless nil, the reader reads nothing until it is closed
}

// follow begins a tail of an organization.
func (n *tailed) follow(org, group string, payloads bool) *reader {
	n.tb.Helper()
	r := &reader{tb: n.tb, done: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	r.end = cancel
	go func() {
		r.done <- n.tails.Follow(ctx, tail.Query{Organization: testkit.Org(n.tb, org), Group: group, Payloads: payloads}, r.read)
	}()
	n.tb.Cleanup(func() { cancel(); r.result() })
	return r
}

func (r *reader) read(lines []tail.Line) error {
	r.mu.Lock()
	for _, l := range lines {
		text := strings.Join(strings.Fields(fmt.Sprint(l.Kind, " ", l.Group, " ", l.Type, " ", l.ID, " ", l.Reason, " ", string(l.Payload))), " ")
		switch l.Kind {
		case tail.KindFollowing:
			text = fmt.Sprint(l.Kind, " ", l.Groups, " ", l.More)
		case tail.KindMissed:
			text = fmt.Sprint(l.Kind, " ", l.Events)
		case tail.KindInterrupted:
			text = l.Kind
		}
		r.lines = append(r.lines, text)
	}
	wait := r.wait
	r.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return nil
}

// result returns why the tail ended.
func (r *reader) result() error {
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(testkit.Patience):
		r.tb.Error("the tail did not end")
		return nil
	}
}

// has reports whether a line was read.
func (r *reader) has(line string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.lines, line)
}

func (r *reader) expect(line string) {
	r.tb.Helper()
	defer func() {
		if r.tb.Failed() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.tb.Logf("want %q, got %q", line, r.lines)
		}
	}()
	testkit.Eventually(r.tb, fmt.Sprintf("%q is read", line), func() bool { return r.has(line) })
}

func note(org, text string) string {
	return fmt.Sprintf(`{"type":"note","organization_id":%q,"text":%q}`, org, text)
}

// TestFollows: a tail shows what is published to a group, whether it has members or not, what is not
// an event and why, and nothing of another organization.
func TestFollows(t *testing.T) {
	n := start(t)
	r := n.follow("acme", "room.1", false)
	with := n.follow("acme", "room.1", true)
	r.expect("following 1 false")
	with.expect("following 1 false")
	n.publish("globex", "room.1", note("globex", "theirs"))
	n.publish("acme", "room.2", note("acme", "elsewhere"))
	n.publish("acme", "room.1", note("globex", "secret"))
	n.publish("acme", "room.1", "not JSON")
	n.publish("acme", "room.1", note("acme", "ours"))
	r.expect("event room.1 note")
	r.expect("refused room.1 foreign_organization")
	r.expect("refused room.1 not_an_object")
	with.expect("event room.1 note " + note("acme", "ours"))
	with.expect("refused room.1 foreign_organization") // without its payload
	for _, reader := range []*reader{r, with} {
		reader.mu.Lock()
		if text := strings.Join(reader.lines, "\n"); len(reader.lines) != 4 || strings.Contains(text, "theirs") || strings.Contains(text, "secret") {
			t.Errorf("got %s", text)
		}
		reader.mu.Unlock()
	}
}

// TestFollowsAllGroups: a tail of an organization follows the groups with members, and those that get
// some.
func TestFollowsAllGroups(t *testing.T) {
	n := start(t)
	r := n.follow("acme", "", false)
	r.expect("following 0 false")
	n.join("room.1")
	r.expect("following 1 false")
	n.publish("acme", "room.1", note("acme", "a"))
	r.expect("event room.1 note")
	n.join("room.1", "room.2", "room.3")
	r.expect("following 3 true")
	n.publish("acme", "room.3", note("acme", "b"))
	r.expect("event room.3 note")
}

// TestSlowReader: nothing waits for a reader. It is told how many events it missed, and all others are
// shown.
func TestSlowReader(t *testing.T) {
	n := start(t)
	r := n.follow("acme", "room.1", false)
	r.expect("following 1 false")
	wait := make(chan struct{})
	r.mu.Lock()
	r.wait = wait
	r.mu.Unlock()
	const events = 3000
	for range events {
		n.publish("acme", "room.1", note("acme", "a"))
	}
	r.mu.Lock()
	r.wait = nil
	r.mu.Unlock()
	close(wait)
	shown, missed := 0, 0
	testkit.Eventually(t, "every event is shown or counted as missed", func() bool {
		shown, missed = 0, 0
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, l := range r.lines {
			var k int
			if strings.HasPrefix(l, "event") {
				shown++
			} else if _, err := fmt.Sscanf(l, "missed %d", &k); err == nil {
				missed += k
			}
		}
		return shown+missed == events
	})
	if missed == 0 || shown < 1000 {
		t.Errorf("got %d shown and %d missed", shown, missed)
	}
	n.publish("acme", "room.1", `{"type":"after","organization_id":"acme"}`)
	r.expect("event room.1 after")
}

// TestTailsAreBounded: a node serves four, and a place is free again when one ends.
func TestTailsAreBounded(t *testing.T) {
	n := start(t)
	var list []*reader
	for range tail.MaxTails {
		r := n.follow("acme", "room.1", false)
		r.expect("following 1 false")
		list = append(list, r)
	}
	if err := n.follow("acme", "room.1", false).result(); !errors.Is(err, tail.ErrBusy) {
		t.Errorf("got %v, want %v", err, tail.ErrBusy)
	}
	list[0].end()
	if err := list[0].result(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	n.follow("acme", "room.1", false).expect("following 1 false")
	n.stop()
	if err := list[1].result(); !errors.Is(err, tail.ErrStopped) {
		t.Errorf("when the node stops: got %v, want %v", err, tail.ErrStopped)
	}
}

// TestSurvivesALostConnection: the reader is told, and the tail goes on.
func TestSurvivesALostConnection(t *testing.T) {
	n := start(t)
	r := n.follow("acme", "room.1", false)
	r.expect("following 1 false")
	if c, ok := n.client.(*redis.ClusterClient); ok {
		g, err := event.NewGroup(testkit.Org(t, "acme"), "room.1")
		if err != nil {
			t.Fatal(err)
		}
		onCluster.MoveSlot(n.keys.GroupChannel(g))
		c.ReloadState(t.Context())
	} else if err := n.client.Do(t.Context(), "client", "kill", "type", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	r.expect("interrupted")
	testkit.Eventually(t, "it follows again", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.lines) > 2 && r.lines[len(r.lines)-1] == "following 1 false"
	})
	n.publish("acme", "room.1", note("acme", "a"))
	r.expect("event room.1 note")
}

// dials counts how often a client dials.
type dials struct{ n atomic.Int64 }

func (d *dials) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d.n.Add(1)
		return next(ctx, network, address)
	}
}
func (*dials) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (*dials) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestServerThatHangs: a server that does not answer is noticed, and told once, however long it takes
// until there is another.
func TestServerThatHangs(t *testing.T) {
	server := redistest.StartServer(t)
	client, counted := redistest.NewClient(t, server.Addr), new(dials)
	client.AddHook(counted)
	n := &tailed{tb: t, keys: testkit.Keys(t), client: client}
	n.tails = tail.New(client, n.keys, tail.Options{})
	r := n.follow("acme", "room.1", false)
	r.expect("following 1 false")
	server.Pause()
	r.expect("interrupted")
	server.Stop()
	before := counted.n.Load()
	testkit.Eventually(t, "it tries again and again", func() bool { return counted.n.Load() > before+3 })
	server.Restart()
	testkit.Eventually(t, "it follows again", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return slices.Equal(r.lines, []string{"following 1 false", "interrupted", "following 1 false"})
	})
}

// TestOnCluster runs the tests on a Redis Cluster too.
func TestOnCluster(t *testing.T) {
	onCluster = redistest.StartCluster(t, redistest.ClusterOptions{})
	t.Cleanup(func() { onCluster = nil })
	t.Run("Follows", TestFollows)
	t.Run("FollowsAllGroups", TestFollowsAllGroups)
	t.Run("SurvivesALostConnection", TestSurvivesALostConnection)
}
