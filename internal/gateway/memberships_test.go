package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
)

// slowBus takes as long for each Subscribe as a test says, or refuses it, and counts what is subscribed.
type slowBus struct {
	*pubsub.Memory

	subscribe func(ctx context.Context) error

	mu    sync.Mutex
	count int
}

func (b *slowBus) Subscribe(ctx context.Context, g event.Group) error {
	if err := b.subscribe(ctx); err != nil {
		return err
	}
	if err := b.Memory.Subscribe(ctx, g); err != nil {
		return err
	}
	b.add(1)
	return nil
}

func (b *slowBus) Unsubscribe(g event.Group) {
	b.add(-1)
	b.Memory.Unsubscribe(g)
}

func (b *slowBus) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count += n
}

func (b *slowBus) subscribed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

// membershipNode starts a node with such a bus, and returns a connection from both of its ends.
func membershipNode(t *testing.T, subscribe func(ctx context.Context) error) (*node, *slowBus, consumer.Conn, *testkit.Client) {
	t.Helper()
	conns := make(chan consumer.Conn, 1)
	h := &hooks{connect: func(_ context.Context, c consumer.Conn) error { conns <- c; return nil }}
	b := &slowBus{Memory: pubsub.NewMemory(), subscribe: subscribe}
	n := startNode(t, setup{bus: b, pipe: testkit.Listen(), now: time.Now, routes: []consumer.Route{h.route("/ws/hooks")}})
	client := testkit.Connect(t, n.dial, n.handshake("/ws/hooks", "ada", "acme", v1()))
	if text, err := client.Next(); err != nil { // the welcome
		t.Fatal(text, err)
	}
	return n, b, <-conns, client
}

// deliver publishes an event and returns how often the browser gets it.
func (n *node) deliver(c *testkit.Client, conn consumer.Conn) (times int, err error) {
	g := mustGroup(n.tb, "acme", "all")
	e, err := event.Decode(g, `{"type":"news","organization_id":"acme"}`, event.DefaultMaxSize, time.Now())
	if err != nil {
		return 0, err
	}
	n.hub.Deliver(e)
	synctest.Wait()
	if err := conn.Send(map[string]string{"type": "last"}); err != nil {
		return 0, err
	}
	for {
		switch text, err := c.Next(); {
		case err != nil:
			return 0, err
		case text == `{"type":"last"}`:
			return times, nil
		default:
			times++
		}
	}
}

// TestJoinLeaveJoin: a connection joins a group while its earlier join, which it has taken back, still
// waits for the bus. It is a member once, and not at all after it has left.
func TestJoinLeaveJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		first := true
		n, b, conn, client := membershipNode(t, func(context.Context) error {
			if first {
				first = false
				<-release
			}
			return nil
		})
		var joining sync.WaitGroup
		joining.Go(func() {
			if conn.Join(t.Context(), "all") == nil {
				t.Error("the join that was taken back: got nil, want an error")
			}
		})
		synctest.Wait()
		conn.Leave("all")
		joining.Go(func() {
			if err := conn.Join(t.Context(), "all"); err != nil {
				t.Errorf("Join: %v", err)
			}
		})
		synctest.Wait()
		close(release)
		joining.Wait()
		if times, err := n.deliver(client, conn); times != 1 || err != nil {
			t.Errorf("got the event %d times (%v), want once", times, err)
		}
		conn.Leave("all")
		if times, err := n.deliver(client, conn); times != 0 || err != nil {
			t.Errorf("after Leave: got the event %d times (%v)", times, err)
		}
		if got := b.subscribed(); got != 0 {
			t.Errorf("%d subscriptions are left", got)
		}
		n.stop()
	})
}

// TestSecondJoinWaitsForTheFirst: a Join that finds another one under way succeeds when the group is
// joined, not earlier.
func TestSecondJoinWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		calls := 0
		n, b, conn, _ := membershipNode(t, func(context.Context) error {
			if calls++; calls == 1 {
				time.Sleep(time.Second)
				return refused
			}
			return nil
		})
		var joining sync.WaitGroup
		joining.Go(func() {
			if err := conn.Join(t.Context(), "all"); !errors.Is(err, refused) {
				t.Errorf("first: got %v, want %v", err, refused)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := conn.Join(ctx, "all"); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: got %v", err)
		}
		if err := conn.Join(t.Context(), "all"); err != nil || b.subscribed() != 1 {
			t.Errorf("second: got %v with %d subscriptions, want one", err, b.subscribed())
		}
		joining.Wait()
		n.stop()
	})
}

// membershipCall is what one goroutine asks of a connection.
type membershipCall struct {
	leave bool
	at    time.Duration
	takes time.Duration // its Subscribe
	fails bool          // its Subscribe
}

// callKey is the key of the call to which a context belongs.
type callKey struct{}

// TestPropertyMemberships: whatever a connection's goroutines join and leave at the same time, it is a
// member once or not at all, and that is what is counted.
func TestPropertyMemberships(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	rapid.Check(t, func(rt *rapid.T) {
		var list []membershipCall
		for range rapid.IntRange(1, 8).Draw(rt, "calls") {
			list = append(list, membershipCall{
				leave: rapid.IntRange(0, 2).Draw(rt, "leave") == 0, at: ms(rapid.IntRange(0, 9).Draw(rt, "at")),
				takes: ms(rapid.IntRange(0, 5).Draw(rt, "takes")), fails: rapid.IntRange(0, 4).Draw(rt, "fails") == 0,
			})
		}
		end := rapid.IntRange(0, 20).Draw(rt, "end")
		var err error
		synctest.Test(t, func(t *testing.T) { err = membershipCase(t, list, ms(end)) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// membershipCase makes the calls, and ends the connection at a moment if that is before 10 ms.
func membershipCase(t *testing.T, list []membershipCall, end time.Duration) error {
	t.Helper()
	n, b, conn, client := membershipNode(t, func(ctx context.Context) error {
		c, ok := ctx.Value(callKey{}).(membershipCall)
		if time.Sleep(c.takes); ok && c.fails {
			return errDown
		}
		return nil
	})
	var calling sync.WaitGroup
	for _, c := range list {
		calling.Go(func() {
			if time.Sleep(c.at); c.leave {
				conn.Leave("all")
				return
			}
			_ = conn.Join(context.WithValue(context.Background(), callKey{}, c), "all") // what counts is what is counted
		})
	}
	ends := end < 10*time.Millisecond
	if ends {
		time.Sleep(end)
		conn.End(consumer.ErrDone)
		_ = client.Close()
	}
	calling.Wait()
	synctest.Wait()
	defer n.stop()
	if ends {
		if got := b.subscribed(); got != 0 {
			return fmt.Errorf("after the end: %d subscriptions are left", got)
		}
		return nil
	}
	if got := b.subscribed(); got > 1 {
		return fmt.Errorf("%d subscriptions of one membership", got)
	}
	if err := conn.Join(t.Context(), "all"); err != nil {
		return err
	}
	if times, err := n.deliver(client, conn); err != nil || times != 1 {
		return errors.Join(err, fmt.Errorf("got an event %d times, want once", times))
	}
	conn.Leave("all")
	times, err := n.deliver(client, conn)
	if got := b.subscribed(); err != nil || times != 0 || got != 0 {
		return errors.Join(err, fmt.Errorf("after Leave: got an event %d times, and %d subscriptions are left", times, got))
	}
	return nil
}
