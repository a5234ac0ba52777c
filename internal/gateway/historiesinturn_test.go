package gateway_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// TestHistoriesOfAllOrganizationsInTurn: what is read of histories has one bound in bytes per second, however
// many organizations ask, and one in number at a time.
func TestHistoriesOfAllOrganizationsInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const orgs, times, events = 8, 20, 10
		large := recordedEvent(t, "1-0", strings.Repeat("x", 100<<10))
		history := slices.Repeat([]*event.Event{large}, events)
		var within, most atomic.Int64
		source := historyFunc(func(context.Context, event.Group, int) ([]*event.Event, error) {
			now := within.Add(1)
			for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
			}
			time.Sleep(time.Millisecond)
			within.Add(-1)
			return history, nil
		})
		h := &hooks{connect: func(ctx context.Context, c consumer.Conn) error {
			for range times {
				if err := c.JoinWithHistory(ctx, "all", 10, func([]*event.Event) error { return nil }); err != nil {
					return err
				}
			}
			return nil
		}}
		n := startNode(t, setup{
			options: gateway.Options{History: source, Membership: everybody{}, HookTimeout: time.Hour}, routes: []consumer.Route{h.route("/ws/start")},
			pipe: testkit.Listen(), now: time.Now,
		})
		began := time.Now()
		var asking sync.WaitGroup
		for i := range orgs {
			asking.Go(func() {
				c, answer, err := testkit.Open(t.Context(), n.dial, n.handshake("/ws/start", "ada", fmt.Sprint("org", i), nil))
				if c == nil {
					t.Error(answer, err)
					return
				}
				_ = c.Close()
			})
		}
		asking.Wait()
		const perSecond, burst = 8 << 20, 4 << 20
		half := max(1, runtime.GOMAXPROCS(0)/2)
		read := orgs * times * events * len(large.Payload())
		if got, least := time.Since(began), time.Duration(float64(read-burst-2*half*events*len(large.Payload()))/float64(perSecond*half)*float64(time.Second)); got < least {
			t.Errorf("%d bytes were read in %v of fake time, want at least %v", read, got, least)
		}
		if got := most.Load(); got > int64(2*half) {
			t.Errorf("at the same time: got %d, want at most %d", got, 2*half)
		}
		n.stop()
		synctest.Wait()
	})
}

// TestHistoriesInTurn: however many connections of an organization ask for histories at once, few of them
// are served at a time, whatever becomes of those, and nobody else waits.
func TestHistoriesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pages = 20
		var mu sync.Mutex
		within, most := 0, 0
		release := make(chan struct{})
		source := historyFunc(func(_ context.Context, g event.Group, _ int) ([]*event.Event, error) {
			if g.Organization() != mustOrg(t, "acme") {
				return nil, nil
			}
			mu.Lock()
			within++
			most = max(most, within)
			mu.Unlock()
			<-release
			mu.Lock()
			within--
			mu.Unlock()
			return nil, nil
		})
		h := &hooks{connect: func(ctx context.Context, c consumer.Conn) error {
			return c.JoinWithHistory(ctx, "all", 10, func([]*event.Event) error {
				if c.Identity().UserID == "alan" {
					panic("first")
				}
				return nil
			})
		}}
		n := startNode(t, setup{
			options: gateway.Options{History: source}, routes: []consumer.Route{h.route("/ws/start")}, pipe: testkit.Listen(), now: time.Now,
		})
		var asking sync.WaitGroup
		for i := range pages {
			user := []string{"ada", "alan"}[i%2]
			asking.Go(func() {
				c, answer, err := testkit.Open(t.Context(), n.dial, n.handshake("/ws/start", user, "acme", nil))
				if (c != nil) != (user == "ada") {
					t.Errorf("%s: got %v, %v", user, answer, err)
				}
				if c != nil {
					_ = c.Close()
				}
			})
		}
		synctest.Wait() // all that may be served are
		n.connect("/ws/start", "grace", "globex")
		limit := max(1, runtime.GOMAXPROCS(0)/2)
		if got := n.metric("orgcast_history_waiting"); got != float64(pages-limit) {
			t.Errorf("waiting: got %v, want %d", got, pages-limit)
		}
		time.Sleep(time.Second)
		close(release)
		asking.Wait()
		if most != limit {
			t.Errorf("at the same time: got %d, want %d", most, limit)
		}
		if got := n.metric("orgcast_history_waiting"); got != 0 {
			t.Errorf("waiting at the end: got %v, want 0", got)
		}
		if got := n.metric("orgcast_history_wait_seconds"); got != float64(pages-limit) {
			t.Errorf("seconds: got %v, want 1 for each that waited, %d", got, pages-limit)
		}
		n.stop()
		synctest.Wait()
	})
}
