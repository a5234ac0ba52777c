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
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

// audience is many browsers in groups of several organisations, and a publisher for each group.
// The groups of all organisations have the same names.
type audience struct {
	tb      testing.TB
	size    size
	groups  []*group
	viewers []*viewer
	stop    context.CancelFunc
	running sync.WaitGroup

	publishing context.CancelFunc
	publishers sync.WaitGroup
}

// size of a test.
type size struct {
	organizations, groupsEach, viewersEach int
	interval                               time.Duration // between two events of a group
}

// group is what is published to one group.
type group struct {
	group     event.Group
	published atomic.Int64 // that Redis acknowledged
}

// viewer is a browser with one group, which comes back and resumes as the browser client does.
type viewer struct {
	audience  *audience
	group     *group
	dial      testkit.DialFunc
	handshake testkit.Handshake

	mu       sync.Mutex
	position string
	next     int64 // number of the event that is due
	last     time.Time
	result   tally
	away     time.Time     // when a gateway sent it away
	told     time.Duration // for how long
	late     time.Duration // how much later it was back; 0: it was not sent away, or is not back
	ready    chan struct{} // closed at the first event
}

// tally is what went wrong, and how often a viewer had to come back.
type tally struct {
	Lost, Duplicated, Foreign, Gaps, Errors int64
	Refused, Returns                        int64
	Longest                                 time.Duration // between two events
}

// open puts an audience on the gateways behind an address, and returns when every viewer has had an
// event.
func open(tb testing.TB, addr string, bus *pubsub.Redis, s size) *audience {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	publishing, stopPublishing := context.WithCancel(context.Background())
	a := &audience{tb: tb, size: s, stop: cancel, publishing: stopPublishing}
	tb.Cleanup(func() {
		a.publishing()
		a.publishers.Wait()
		a.stop()
		a.running.Wait()
	})
	for o := range s.organizations {
		org, err := orgctx.ParseID(fmt.Sprint("org", o))
		if err != nil {
			tb.Fatal(err)
		}
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
				a.viewers = append(a.viewers, &viewer{audience: a, group: one, dial: testkit.DialTCP(addr), handshake: shake, ready: make(chan struct{})})
			}
		}
	}
	for _, v := range a.viewers {
		a.running.Go(func() { v.watch(ctx) })
	}
	for _, g := range a.groups {
		a.publishers.Go(func() { g.publish(publishing, bus, s.interval) })
	}
	for i, v := range a.viewers {
		select {
		case <-v.ready:
		case <-time.After(testkit.Patience):
			tb.Fatalf("viewer %d has had no event", i)
		}
	}
	for _, v := range a.viewers {
		v.begin()
	}
	return a
}

// handshake is that of a user of an organisation, with a session of its own.
func handshake(tb testing.TB, organization string) testkit.Handshake {
	tb.Helper()
	store, err := session.NewCookieStore([]session.KeyPair{{Hash: []byte(sessionKey)}}, session.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	org, err := orgctx.ParseID(organization)
	if err != nil {
		tb.Fatal(err)
	}
	cookie, err := store.Mint(tb.Context(), session.Grant{UserID: rand.Text(), Organization: org})
	if err != nil {
		tb.Fatal(err)
	}
	return testkit.Handshake{Path: "/ws/events", Header: http.Header{"Origin": {origin}, "Cookie": {cookie.Name + "=" + cookie.Value}}}
}

// publish records one event after the other. One whose outcome is unknown is tried again under the
// same idempotency key, so that it is in the stream once.
func (g *group) publish(ctx context.Context, bus *pubsub.Redis, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := int64(0); ctx.Err() == nil; n++ {
		payload := fmt.Sprintf(`{"type":"tick","organization_id":"%s","n":%d}`, g.group.Organization(), n)
		for {
			_, err := bus.Record(context.WithoutCancel(ctx), g.group, []byte(payload), pubsub.RecordOptions{IdempotencyKey: fmt.Sprint("n", n)})
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		g.published.Store(n + 1)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// finish ends the publishing, waits until everybody has everything or patience ends, and returns what
// went wrong, added up.
func (a *audience) finish(patience time.Duration) (total tally, events int64) {
	a.tb.Helper()
	a.publishing()
	a.publishers.Wait()
	deadline := time.Now().Add(patience)
	for _, v := range a.viewers {
		for v.due() < v.group.published.Load() && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
	}
	for _, v := range a.viewers {
		v.mu.Lock()
		missing := v.group.published.Load() - v.next
		total.Lost += v.result.Lost + max(missing, 0)
		total.Duplicated += v.result.Duplicated
		total.Foreign += v.result.Foreign
		total.Gaps += v.result.Gaps
		total.Errors += v.result.Errors
		total.Returns += v.result.Returns
		total.Refused += v.result.Refused
		total.Longest = max(total.Longest, v.result.Longest)
		v.mu.Unlock()
	}
	for _, g := range a.groups {
		events += g.published.Load()
	}
	return total, events
}

// lateness returns how much later than told those came back who were sent away, in order.
func (a *audience) lateness() (all []time.Duration) {
	for _, v := range a.viewers {
		v.mu.Lock()
		if v.late > 0 {
			all = append(all, v.late)
		}
		v.mu.Unlock()
	}
	slices.Sort(all)
	return all
}

// told returns the longest time that anybody was told to stay away for.
func (a *audience) told() (longest time.Duration) {
	for _, v := range a.viewers {
		v.mu.Lock()
		longest = max(longest, v.told)
		v.mu.Unlock()
	}
	return longest
}

func (v *viewer) due() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.next
}

// begin forgets what happened before the audience was complete.
func (v *viewer) begin() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result = tally{}
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
	c, _, err := testkit.Open(ctx, v.dial, v.handshake)
	if c == nil || err != nil {
		v.mu.Lock()
		v.result.Refused++
		v.mu.Unlock()
		return 0
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	c.Timeout = 40 * time.Second // more than the gateway's pings are apart
	v.mu.Lock()
	if v.told > 0 && v.late == 0 {
		v.late = max(time.Since(v.away)-v.told, 1)
	}
	hello := fmt.Sprintf(`{"type":"subscribe","group":%q}`, v.group.group.Name())
	if v.position != "" {
		hello = fmt.Sprintf(`{"type":"resume","groups":{%q:%q}}`, v.group.group.Name(), v.position)
	}
	v.mu.Unlock()
	if c.SendText(hello) != nil {
		return 0
	}
	for {
		text, err := c.Next()
		if closed := new(testkit.ClosedError); errors.As(err, &closed) {
			var reason struct {
				RetryAfterMS int64 `json:"retry_after_ms"`
			}
			_ = json.Unmarshal([]byte(closed.Reason), &reason) // other codes have other reasons
			wait = time.Duration(reason.RetryAfterMS) * time.Millisecond
			v.mu.Lock()
			v.away, v.told, v.late = time.Now(), wait, 0
			v.mu.Unlock()
			return wait
		}
		if err != nil {
			return 0
		}
		v.take(text)
	}
}

// take counts a frame.
func (v *viewer) take(text string) {
	var frame struct {
		Type           string `json:"type"`
		OrganizationID string `json:"organization_id"`
		Group          string `json:"group"`
		ID             string `json:"id"`
		N              int64  `json:"n"`
	}
	if err := json.Unmarshal([]byte(text), &frame); err != nil {
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
		first := v.position == ""
		v.position = frame.ID
		now := time.Now()
		switch {
		case first:
			close(v.ready)
		case frame.N < v.next:
			v.result.Duplicated++
			return
		default:
			v.result.Lost += frame.N - v.next
			v.result.Longest = max(v.result.Longest, now.Sub(v.last))
		}
		v.next, v.last = frame.N+1, now
	}
}

// newBus returns what publishers publish through.
func newBus(tb testing.TB, addr string) (*pubsub.Redis, *redis.Client) {
	tb.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1})
	tb.Cleanup(func() { _ = client.Close() })
	keys, err := keyspace.New(keyspace.DefaultPrefix)
	if err != nil {
		tb.Fatal(err)
	}
	return pubsub.NewRedis(client, keys, pubsub.Options{}), client
}
