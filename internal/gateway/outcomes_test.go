package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
	"orgcast/internal/trail"
)

// outcomes asks the trail of a node about one event, and returns what became of it by connection.
func (n *node) outcomes(g event.Group, at event.Position) (of map[string]trail.Outcome, a trail.Answer) {
	n.tb.Helper()
	a = n.trail.Ask(trail.Query{Organization: g.Organization(), Group: g.Name(), Position: at})
	of = make(map[string]trail.Outcome)
	for _, o := range a.Outcomes {
		if _, twice := of[o.ConnectionID]; twice && o.ConnectionID != "" {
			n.tb.Errorf("connection %s has two outcomes for %s", o.ConnectionID, at)
		}
		of[o.ConnectionID] = o
	}
	return of, a
}

// watcher is a connection whose browser notes which recorded events it got.
type watcher struct {
	*testkit.Client

	conn    consumer.Conn
	tokens  chan struct{} // each lets it read one frame; capacity for any case; closed to let it read on
	stopped chan struct{}

	mu  sync.Mutex
	got map[string]int // by group and position
}

func (w *watcher) run() {
	defer close(w.stopped)
	defer func() { _ = w.Close() }()
	for {
		<-w.tokens
		text, err := w.Next()
		if err != nil {
			return
		}
		var f struct{ Group, ID string }
		if json.Unmarshal([]byte(text), &f) == nil && f.ID != "" {
			w.mu.Lock()
			w.got[f.Group+" "+f.ID]++
			w.mu.Unlock()
		}
	}
}

func (w *watcher) times(g event.Group, at event.Position) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got[g.Name()+" "+at.String()]
}

// TestPropertyOutcomes: whatever befalls connections, the trail says of every event and of every
// connection that had joined the group whether it was written, and its browser agrees.
func TestPropertyOutcomes(t *testing.T) {
	kinds := []string{"publish", "publish", "publish", "publish", "read", "read", "join", "leave", "end", "logout"}
	rapid.Check(t, func(rt *rapid.T) {
		budget := rapid.SampledFrom([]int{1 << 20, 3000}).Draw(rt, "budget")
		var steps []step
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			steps = append(steps, step{
				kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), who: rapid.IntRange(0, 3).Draw(rt, "who"), group: rapid.IntRange(0, 1).Draw(rt, "group"),
				count: rapid.IntRange(1, 8).Draw(rt, "count"), size: rapid.SampledFrom([]int{0, 100, 400, 3000}).Draw(rt, "size"),
				typ: rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "type"),
			})
		}
		var err error
		synctest.Test(t, func(t *testing.T) { err = outcomesCase(t, steps, budget) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// outcomesSetup starts a node and connects a watcher for each policy, and one more.
func outcomesSetup(t *testing.T, budget int) (n *node, watchers []*watcher) {
	t.Helper()
	var latest consumer.Conn
	h := &hooks{connect: func(ctx context.Context, c consumer.Conn) error {
		latest = c
		return errors.Join(c.Join(ctx, "a"), c.Join(ctx, "b"))
	}}
	var routes []consumer.Route
	for i, name := range consumer.WhenFullNames() {
		route := h.route("/ws/" + name)
		route.WhenFull = consumer.WhenFull(i)
		routes = append(routes, route)
	}
	n = startNode(t, setup{
		pipe: testkit.Listen(), now: time.Now, routes: routes,
		options: gateway.Options{QueueBytes: 2000, QueueBytesPerOrganization: budget, WriteTimeout: time.Hour},
	})
	for _, name := range append(consumer.WhenFullNames(), consumer.WhenFullNames()[1]) {
		c := testkit.Connect(t, n.dial, n.handshake("/ws/"+name, "ada", "acme", v1()))
		c.Timeout = 0
		_ = c.SetReadDeadline(time.Time{}) // a pipe has no trouble with it
		w := &watcher{Client: c, conn: latest, tokens: make(chan struct{}, 1000), stopped: make(chan struct{}), got: make(map[string]int)}
		watchers = append(watchers, w)
		go w.run()
	}
	return n, watchers
}

func outcomesCase(t *testing.T, steps []step, budget int) error {
	t.Helper()
	n, watchers := outcomesSetup(t, budget)
	groups := []event.Group{mustGroup(t, "acme", "a"), mustGroup(t, "acme", "b")}
	type published struct {
		group event.Group
		at    event.Position
	}
	var all []published
	for _, s := range steps {
		w, g := watchers[s.who], groups[s.group]
		switch s.kind {
		case "publish":
			for range s.count {
				at := event.NewPosition(uint64(time.Now().UnixMilli()), uint64(len(all)))
				all = append(all, published{g, at})
				e, err := event.Decode(g, fmt.Sprintf(`%s {"type":%q,"organization_id":"acme","pad":%q}`, at, s.typ, strings.Repeat("x", s.size)), event.DefaultMaxSize, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				n.hub.Deliver(e)
			}
		case "read":
			for range s.count {
				w.tokens <- struct{}{}
			}
		case "join":
			_ = w.conn.Join(t.Context(), g.Name()) // it may have ended
		case "leave":
			w.conn.Leave(g.Name())
		case "end":
			w.conn.End(consumer.ErrDone)
		case "logout":
			w.conn.End(gateway.ErrSessionEnded)
		}
		synctest.Wait()
	}
	for _, w := range watchers {
		close(w.tokens)
	}
	synctest.Wait()
	var errs []error
	for _, p := range all {
		of, a := n.outcomes(p.group, p.at)
		for _, passed := range a.Passed {
			if passed.Written+passed.Lost != passed.Offered {
				errs = append(errs, fmt.Errorf("%s: %d written and %d lost of %d", p.at, passed.Written, passed.Lost, passed.Offered))
			}
		}
		for _, w := range watchers {
			o, times := of[w.conn.ID()], w.times(p.group, p.at)
			switch {
			case times > 1, times == 1 && o.Cause != trail.CauseWritten && o.Cause != trail.LostWrite, times == 0 && o.Cause == trail.CauseWritten:
				errs = append(errs, fmt.Errorf("%s of %s: got %d times, and the trail says %+v", p.at, p.group, times, o))
			case times == 0 && o.Cause == "" && len(a.Passed) > 0:
				errs = append(errs, fmt.Errorf("%s of %s: nothing is known of %s", p.at, p.group, w.conn.ID()))
			}
		}
	}
	n.stop()
	for _, w := range watchers {
		<-w.stopped
	}
	return errors.Join(errs...)
}
