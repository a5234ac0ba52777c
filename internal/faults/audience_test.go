package faults_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

// audience is many browsers in groups of several organizations, and a publisher for each group.
// The groups of all organizations have the same names.
type audience struct {
	tb      testing.TB
	redis   *deployment
	groups  []*group
	viewers []*viewer
	stop    context.CancelFunc
	running sync.WaitGroup

	publishing context.CancelFunc
	publishers sync.WaitGroup

	mu      sync.Mutex
	last    time.Time // that anyone had an event
	silence silence   // the longest of all together, since begin
}

// size of a test.
type size struct {
	organizations, groupsEach, viewersEach int
	interval                               time.Duration // between two events of a group
}

// silence is a time without events.
type silence struct{ from, to time.Time }

func (s silence) length() time.Duration { return s.to.Sub(s.from) }

// group is what is published to one group.
type group struct {
	group event.Group

	mu           sync.Mutex
	acknowledged []string // positions
}

// viewer is a browser with one group, which comes back and resumes as the browser client does.
type viewer struct {
	audience *audience
	group    *group
	dial     testkit.DialFunc
	shake    testkit.Handshake

	mu      sync.Mutex
	seen    []sight // as they came
	last    time.Time
	away    time.Time     // when a gateway sent it away
	told    time.Duration // for how long; 0: it was not sent away, or is back
	returns []comeback
	entries []entry
	result  tally
	ready   chan struct{} // closed at the first event
}

// sight is an event that a viewer had, or that Redis has kept: its number, which its publisher gave it, and its
// position. A publisher that tries again may have it at another position.
type sight struct {
	n        int
	position string
}

// comeback is how a viewer followed what a gateway told it.
type comeback struct{ told, late time.Duration }

// entry is a handshake that a gateway admitted at some time between two moments.
type entry struct{ from, to time.Time }

// tally is what went wrong, and how often viewers had to come back.
type tally struct {
	Lost, Duplicated, Reordered, Foreign, Errors int
	Gaps                                         int // told
	Vanished                                     int // had, but Redis has not kept it
	Untold                                       int // viewers who had what vanished and were told of no gap
	Needless                                     int // viewers who were told of a gap and had nothing that vanished
	Refused, Returns                             int
	Longest                                      time.Duration // between two events
}

// open puts an audience on the gateways behind an address, and returns when every viewer has had an
// event.
func open(tb testing.TB, addr string, d *deployment, s size) *audience {
	tb.Helper()
	return openThrough(tb, testkit.DialTCP(addr), d, s)
}

// openThrough is open for viewers who dial in this way.
func openThrough(tb testing.TB, dial testkit.DialFunc, d *deployment, s size) *audience {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	publishing, stopPublishing := context.WithCancel(context.Background())
	a := &audience{tb: tb, redis: d, stop: cancel, publishing: stopPublishing}
	tb.Cleanup(func() {
		a.publishing()
		a.publishers.Wait()
		a.stop()
		a.running.Wait()
	})
	for o := range s.organizations {
		org := testkit.Org(tb, fmt.Sprint("org", o))
		for g := range s.groupsEach {
			name, err := event.NewGroup(org, fmt.Sprint("g", g))
			if err != nil {
				tb.Fatal(err)
			}
			one := &group{group: name}
			a.groups = append(a.groups, one)
			for range s.viewersEach {
				shake := handshake(tb, org.String())
				shake.Header.Set("Sec-Websocket-Protocol", "orgcast.v1")
				a.viewers = append(a.viewers, &viewer{audience: a, group: one, dial: dial, shake: shake, ready: make(chan struct{})})
			}
		}
	}
	for _, v := range a.viewers {
		a.running.Go(func() { v.watch(ctx) })
	}
	for _, g := range a.groups {
		a.publishers.Go(func() { g.publish(publishing, d.bus, s.interval) })
	}
	for i, v := range a.viewers {
		select {
		case <-v.ready:
		case <-time.After(testkit.Patience):
			tb.Fatalf("viewer %d has had no event", i)
		}
	}
	a.begin()
	return a
}

// begin forgets what happened before the audience was complete.
func (a *audience) begin() {
	for _, v := range a.viewers {
		v.mu.Lock()
		v.result, v.entries, v.returns = tally{}, nil, nil
		v.mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.silence = silence{}
}

// handshake is that of a user of an organization, with its own session.
func handshake(tb testing.TB, organization string) testkit.Handshake {
	tb.Helper()
	return handshakeWith(tb, organization, sessionKey)
}

// handshakeWith is handshake with a cookie that was signed with this key.
func handshakeWith(tb testing.TB, organization, key string) testkit.Handshake {
	tb.Helper()
	store, err := session.NewCookieStore([]session.KeyPair{{Hash: []byte(key)}}, session.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	org := testkit.Org(tb, organization)
	cookie, err := store.Mint(tb.Context(), session.Grant{UserID: rand.Text(), Organization: org})
	if err != nil {
		tb.Fatal(err)
	}
	return testkit.Handshake{Path: "/ws/events", Header: http.Header{"Origin": {origin}, "Cookie": {cookie.Name + "=" + cookie.Value}}}
}

// publish records one event after the other. One whose outcome is unknown is tried again under the
// same idempotency key, so that it is in the history once.
func (g *group) publish(ctx context.Context, bus *pubsub.Redis, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		payload := fmt.Sprintf(`{"type":"tick","organization_id":"%s","n":%d}`, g.group.Organization(), n)
		for {
			position, err := bus.Record(context.WithoutCancel(ctx), g.group, []byte(payload), event.Recording{MaxLength: historyLength, IdempotencyKey: fmt.Sprint("n", n)})
			if err == nil {
				g.mu.Lock()
				g.acknowledged = append(g.acknowledged, position.String())
				g.mu.Unlock()
				break
			}
			if ctx.Err() != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// more waits until one more event of each group has been acknowledged.
func (a *audience) more() {
	a.tb.Helper()
	before := make([]int, len(a.groups))
	for i, g := range a.groups {
		before[i] = g.count()
	}
	for i, g := range a.groups {
		testkit.Eventually(a.tb, "one more event", func() bool { return g.count() > before[i] })
	}
}

func (g *group) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.acknowledged)
}

// verdict is what became of all that was published.
type verdict struct {
	tally

	acknowledged int // events
	forgotten    int // of them that Redis has not kept
}

// finish ends the publishing, waits until everybody has the last event that Redis has kept or patience
// ends, and judges by what Redis has kept.
func (a *audience) finish(patience time.Duration) (v verdict) {
	a.tb.Helper()
	a.publishing()
	a.publishers.Wait()
	kept := make(map[*group][]sight)
	for _, g := range a.groups {
		kept[g] = a.redis.kept(g.group)
		v.acknowledged += len(g.acknowledged)
		for _, position := range g.acknowledged {
			if !slices.ContainsFunc(kept[g], func(s sight) bool { return s.position == position }) {
				v.forgotten++
			}
		}
	}
	deadline := time.Now().Add(patience)
	for _, one := range a.viewers {
		for !one.has(kept[one.group][len(kept[one.group])-1].n) && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	for _, one := range a.viewers {
		one.judge(kept[one.group], &v.tally)
	}
	return v
}

// has reports whether the viewer has had an event.
func (v *viewer) has(n int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(v.seen, func(s sight) bool { return s.n == n })
}

// judge adds up what went wrong. What counts as kept begins with the first event that the viewer had. An event is
// the same one at whatever position.
func (v *viewer) judge(kept []sight, total *tally) {
	v.mu.Lock()
	defer v.mu.Unlock()
	place := make(map[int]int, len(kept))
	for i, s := range kept {
		place[s.n] = i
	}
	first, highest := -1, -1
	had, shown := make(map[int]bool), make(map[int]bool)
	vanished, moved := 0, 0
	for _, s := range v.seen {
		i, ok := place[s.n]
		again := shown[s.n]
		shown[s.n] = true
		if ok && kept[i].position != s.position {
			moved++ // the place is gone from which the gateway would have gone on
		}
		switch {
		case again:
			total.Duplicated++
			continue
		case !ok:
			vanished++
			continue
		case i < highest:
			total.Reordered++
		}
		if first < 0 {
			first = i
		}
		had[i] = true
		highest = max(highest, i)
	}
	for i := max(first, 0); i < len(kept); i++ {
		if !had[i] {
			total.Lost++
		}
	}
	if vanished > 0 && v.result.Gaps == 0 {
		total.Untold++
	}
	if vanished+moved == 0 && v.result.Gaps > 0 {
		total.Needless++
	}
	total.Vanished += vanished
	total.Gaps += v.result.Gaps
	total.Foreign += v.result.Foreign
	total.Errors += v.result.Errors
	total.Refused += v.result.Refused
	total.Returns += v.result.Returns
	total.Longest = max(total.Longest, v.result.Longest)
}

// expectWhole fails the test unless everybody had everything that Redis has kept, once, in order, and
// nothing else, and was told of a gap exactly if something vanished that they had.
func (v verdict) expectWhole(tb testing.TB, d *deployment) {
	tb.Helper()
	if !d.forgets && (v.forgotten > 0 || v.Vanished > 0) {
		tb.Errorf("Redis forgot %d events that it had acknowledged, and viewers had %d that it has not kept, want none", v.forgotten, v.Vanished)
	}
	wrong := v.tally
	wrong.Gaps, wrong.Vanished, wrong.Refused, wrong.Returns, wrong.Longest = 0, 0, 0, 0, 0
	if wrong != (tally{}) {
		tb.Errorf("got %+v, want none", wrong)
	}
}

// String is what the log of a test says.
func (v verdict) String() string {
	return fmt.Sprintf("%d events acknowledged, %d of them not kept by Redis; lost %d, twice %d, out of order %d, foreign %d; gaps told %d, for %d deliveries of what Redis has not kept; returns %d",
		v.acknowledged, v.forgotten, v.Lost, v.Duplicated, v.Reordered, v.Foreign, v.Gaps, v.Vanished, v.Returns)
}

// quiet returns the longest time in which nobody had an event.
func (a *audience) quiet() silence {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.silence
}

// heard takes note that someone had an event.
func (a *audience) heard(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := (silence{a.last, now}); !a.last.IsZero() && s.length() > a.silence.length() {
		a.silence = s
	}
	a.last = now
}

// comebacks returns how those came back who were sent away, the least late first.
func (a *audience) comebacks() (all []comeback) {
	for _, v := range a.viewers {
		v.mu.Lock()
		all = append(all, v.returns...)
		v.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b comeback) int { return int(a.late - b.late) })
	return all
}

// admitted returns the handshakes that gateways admitted.
func (a *audience) admitted() (all []entry) {
	for _, v := range a.viewers {
		v.mu.Lock()
		all = append(all, v.entries...)
		v.mu.Unlock()
	}
	return all
}

// watch comes back whenever the connection ends.
func (v *viewer) watch(ctx context.Context) {
	for ctx.Err() == nil {
		wait := v.visit(ctx)
		wait += time.Duration(mathrand.Int64N(int64(200 * time.Millisecond)))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		v.mu.Lock()
		v.result.Returns++
		v.mu.Unlock()
	}
}

// visit is one connection. It returns how long the gateway asked to stay away.
func (v *viewer) visit(ctx context.Context) (wait time.Duration) {
	asked := time.Now()
	c, _, err := testkit.Open(ctx, v.dial, v.shake)
	if c == nil || err != nil {
		v.mu.Lock()
		v.result.Refused++
		v.mu.Unlock()
		return 0
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	c.Timeout = 40 * time.Second // more than the gateway's pings are apart
	hello := v.enter(asked, time.Now())
	if c.SendText(hello) != nil {
		return 0
	}
	for {
		text, err := c.Next()
		if closed, ok := errors.AsType[*testkit.ClosedError](err); ok {
			var reason struct {
				RetryAfterMS int64 `json:"retry_after_ms"`
			}
			_ = json.Unmarshal([]byte(closed.Reason), &reason) // other codes have other reasons
			wait = time.Duration(reason.RetryAfterMS) * time.Millisecond
			v.mu.Lock()
			v.away, v.told = time.Now(), wait
			v.mu.Unlock()
			return wait
		}
		if err != nil {
			return 0
		}
		v.take(text)
	}
}

// enter takes note of a connection, and returns what to ask on it.
func (v *viewer) enter(asked, now time.Time) (hello string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.entries = append(v.entries, entry{asked, now})
	if v.told > 0 {
		v.returns = append(v.returns, comeback{v.told, now.Sub(v.away) - v.told})
		v.told = 0
	}
	if len(v.seen) == 0 {
		return fmt.Sprintf(`{"type":"subscribe","group":%q}`, v.group.group.Name())
	}
	return fmt.Sprintf(`{"type":"subscribe","groups":{%q:{"after":%q}}}`, v.group.group.Name(), v.seen[len(v.seen)-1].position)
}

// take counts a frame.
func (v *viewer) take(text string) {
	var frame struct {
		Type           string `json:"type"`
		OrganizationID string `json:"organization_id"`
		N              int    `json:"n"`
		Group          string `json:"group"`
		ID             string `json:"id"`
	}
	if err := json.Unmarshal(testkit.Flat(text), &frame); err != nil {
		v.audience.tb.Errorf("no JSON: %.80s", text)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch frame.Type {
	case "gap":
		v.result.Gaps++
	case "error":
		v.result.Errors++
		v.audience.tb.Logf("told %s", text)
	case "tick":
		if frame.OrganizationID != v.group.group.Organization().String() || frame.Group != v.group.group.Name() {
			v.result.Foreign++
			return
		}
		now := time.Now()
		if len(v.seen) == 0 {
			close(v.ready)
		} else {
			v.result.Longest = max(v.result.Longest, now.Sub(v.last))
		}
		v.seen, v.last = append(v.seen, sight{frame.N, frame.ID}), now
		v.audience.heard(now)
	}
}
