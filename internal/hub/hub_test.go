package hub_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// failer is a test or a rapid case.
type failer interface {
	Helper()
	Fatal(args ...any)
}

// decode makes an event as a bus would; it returns nil for a payload that is none.
func decode(g event.Group, payload string) *event.Event {
	e, err := event.Decode(g, payload, event.DefaultMaxSize, time.Now())
	if err != nil {
		return nil
	}
	return e
}

func numbered(g event.Group, n int) *event.Event {
	return decode(g, fmt.Sprintf(`{"type":"note","organization_id":"%s","n":%d}`, g.Organization(), n))
}

// fakeBus counts what is wanted.
type fakeBus struct {
	mu     sync.Mutex
	counts map[event.Group]int
	err    error
}

func newBus() *fakeBus { return &fakeBus{counts: make(map[event.Group]int)} }

func (b *fakeBus) Subscribe(_ context.Context, g event.Group) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	b.counts[g]++
	return nil
}

func (b *fakeBus) Unsubscribe(g event.Group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.counts[g]--; b.counts[g] == 0 {
		delete(b.counts, g)
	}
}

// wanted returns how many groups are subscribed.
func (b *fakeBus) wanted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.counts)
}

// member notes what it is offered. Like a connection it belongs to one organization.
type member struct {
	org orgctx.ID

	mu      sync.Mutex
	got     map[event.Group][]string
	foreign int
	waiting bool
}

func newMember(org orgctx.ID) *member {
	return &member{org: org, got: make(map[event.Group][]string)}
}

func (m *member) Offer(b *event.Burst) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range b.Events() {
		if e.Organization() != m.org || e.Group() != b.Group() {
			m.foreign++
		}
		m.got[b.Group()] = append(m.got[b.Group()], string(e.Payload()))
	}
	m.waiting = true
	return true
}

func (m *member) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = false
}

func (m *member) OfferGap(g event.Group) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got[g] = append(m.got[g], "gap")
}

// check compares with what the member should have got.
func (m *member) check(t failer, want map[event.Group][]string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.foreign > 0 {
		t.Fatal("foreign events: ", m.foreign)
	}
	if m.waiting {
		t.Fatal("offered, and never flushed")
	}
	for g, list := range want {
		if diff := cmp.Diff(list, m.got[g]); diff != "" {
			t.Fatal(g, ": want (-), got (+):\n", diff)
		}
	}
	for g := range m.got {
		if want[g] == nil {
			t.Fatal("got events of ", g, ", which was never joined")
		}
	}
}

// TestPropertyIsolation: organizations with equal group names, members that join and leave, events
// that are right and payloads that are not. Every member gets its own exactly once and in order.
func TestPropertyIsolation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bus := newBus()
		h := hub.New(bus, hub.Options{})
		var groups []event.Group
		for _, org := range []string{"a", "a-1", "A", "1"} {
			for _, name := range []string{"all", "a", "1"} {
				groups = append(groups, testkit.Group(t, org, name))
			}
		}
		type joined struct {
			*member
			in   map[event.Group]bool
			want map[event.Group][]string
		}
		var members []*joined
		// Groups of many members are served by workers, those of few on the spot.
		crowd := rapid.SampledFrom([]int{0, 0, 40, 300}).Draw(t, "crowd")
		for range crowd {
			m := &joined{newMember(groups[0].Organization()), map[event.Group]bool{groups[0]: true}, map[event.Group][]string{}}
			members = append(members, m)
			if err := h.Join(context.Background(), groups[0], m.member); err != nil {
				t.Fatal(err)
			}
		}
		for n := range rapid.IntRange(1, 120).Draw(t, "steps") {
			g := rapid.SampledFrom(groups).Draw(t, "group")
			switch rapid.SampledFrom([]string{"new", "join", "leave", "deliver", "deliver", "deliver", "wrong", "gap"}).Draw(t, "step") {
			case "new":
				members = append(members, &joined{newMember(g.Organization()), map[event.Group]bool{}, map[event.Group][]string{}})
			case "join":
				if len(members) == 0 {
					continue
				}
				m := rapid.SampledFrom(members).Draw(t, "member")
				if m.org != g.Organization() || m.in[g] {
					continue
				}
				h.Wait() // what came before does not concern it
				if err := h.Join(context.Background(), g, m.member); err != nil {
					t.Fatal(err)
				}
				m.in[g] = true
			case "leave":
				if len(members) == 0 {
					continue
				}
				m := rapid.SampledFrom(members).Draw(t, "member")
				h.Wait()
				h.Leave(g, m.member) // also where it is no member
				delete(m.in, g)
			case "deliver":
				e := numbered(g, n)
				h.Deliver(e)
				for _, m := range members {
					if m.in[g] {
						m.want[g] = append(m.want[g], string(e.Payload()))
					}
				}
			case "wrong":
				other := rapid.SampledFrom(groups).Draw(t, "other").Organization()
				payload := rapid.SampledFrom([]string{
					`{"type":"note"}`, `{"type":"note","organization_id":null}`,
					`{"type":"note","organization_id":"` + other.String() + `","organization_id":"` + g.Organization().String() + `"}`,
					`{"type":"note","organization_id":"` + other.String() + `x"}`,
				}).Draw(t, "payload")
				if e := decode(g, payload); e != nil {
					t.Fatal("decoded ", payload)
				}
				if e := decode(g, `{"type":"note","organization_id":"`+other.String()+`"}`); e != nil && other != g.Organization() {
					t.Fatal("decoded an event of ", other, " for ", g)
				}
			case "gap":
				h.Gap(g)
				for _, m := range members {
					if m.in[g] {
						m.want[g] = append(m.want[g], "gap")
					}
				}
			}
		}
		h.Wait()
		for _, m := range members {
			m.check(t, m.want)
			for g := range m.in {
				h.Leave(g, m.member)
				h.Leave(g, m.member) // twice is no error
			}
		}
		if h.Groups() != 0 || bus.wanted() != 0 {
			t.Fatal("left over: groups ", h.Groups(), ", subscriptions ", bus.wanted())
		}
	})
}

// TestConcurrentMembership: members come and go while events are delivered. What each got of a
// group is a run without holes, doubles or disorder, and nothing of another organization.
func TestConcurrentMembership(t *testing.T) {
	bus := newBus()
	h := hub.New(bus, hub.Options{IntakeBytes: 1 << 30})
	groups := []event.Group{testkit.Group(t, "acme", "all"), testkit.Group(t, "globex", "all"), testkit.Group(t, "acme", "room.1")}
	const events, members, rounds = 2000, 50, 20
	stay := newMember(groups[0].Organization())
	if err := h.Join(t.Context(), groups[0], stay); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // one goroutine delivers, as the bus does
		for n := range events {
			for _, g := range groups {
				h.Deliver(numbered(g, n))
			}
		}
	})
	for i := range members {
		wg.Go(func() {
			g := groups[i%len(groups)]
			for range rounds {
				m := newMember(g.Organization())
				if err := h.Join(t.Context(), g, m); err != nil {
					t.Error(err)
					return
				}
				h.Leave(g, m)
				m.mu.Lock()
				checkRun(t, g, m.got[g])
				if m.foreign > 0 || len(m.got) > 1 {
					t.Errorf("foreign events: %d, groups: %d", m.foreign, len(m.got))
				}
				m.mu.Unlock()
			}
		})
	}
	wg.Wait()
	h.Wait()
	if got := len(stay.got[groups[0]]); got != events {
		t.Errorf("a member that stayed: got %d events, want %d", got, events)
	}
	checkRun(t, groups[0], stay.got[groups[0]])
	h.Leave(groups[0], stay)
	if h.Groups() != 0 || bus.wanted() != 0 {
		t.Errorf("left over: %d groups, %d subscriptions", h.Groups(), bus.wanted())
	}
}

// gate is a member whose first delivery waits until the gate opens.
type gate struct {
	*member
	reached, open chan struct{}
}

func (g gate) Offer(b *event.Burst) bool {
	close(g.reached)
	<-g.open
	return g.member.Offer(b)
}

// TestNothingFromBeforeTheGroup: what waits for members who have all left is not for one who joins
// then, who would get it with a hole behind it.
func TestNothingFromBeforeTheGroup(t *testing.T) {
	h := hub.New(newBus(), hub.Options{})
	g, other := testkit.Group(t, "acme", "all"), testkit.Group(t, "acme", "room.1")
	slow := gate{newMember(g.Organization()), make(chan struct{}), make(chan struct{})}
	leaver, late := newMember(g.Organization()), newMember(g.Organization())
	join := func(g event.Group, m hub.Member) {
		t.Helper()
		if err := h.Join(t.Context(), g, m); err != nil {
			t.Fatal(err)
		}
	}
	join(other, slow)
	for range 50 { // too many for the receiver to serve by itself
		join(other, newMember(g.Organization()))
	}
	join(g, leaver)
	h.Deliver(numbered(other, 0))
	<-slow.reached            // and holds the lane
	h.Deliver(numbered(g, 1)) // waits behind it
	h.Leave(g, leaver)
	h.Deliver(numbered(g, 2)) // for nobody
	join(g, late)
	h.Deliver(numbered(g, 3))
	close(slow.open)
	h.Wait()
	late.check(t, map[event.Group][]string{g: {string(numbered(g, 3).Payload())}})
}

// checkRun sees that payloads are numbered without a hole.
func checkRun(tb testing.TB, g event.Group, payloads []string) {
	tb.Helper()
	first := -1
	for i, p := range payloads {
		var n int
		if _, err := fmt.Sscanf(p, `{"type":"note","organization_id":"`+g.Organization().String()+`","n":%d}`, &n); err != nil {
			tb.Errorf("payload %s: %v", p, err)
			return
		}
		if first < 0 {
			first = n
		}
		if n != first+i {
			tb.Errorf("event %d of a run from %d: got number %d", i, first, n)
			return
		}
	}
}

// TestJoinRefused: where the bus refuses, nobody became a member.
func TestJoinRefused(t *testing.T) {
	bus := newBus()
	bus.err = errors.New("no")
	h := hub.New(bus, hub.Options{})
	g := testkit.Group(t, "acme", "all")
	m := newMember(g.Organization())
	if err := h.Join(t.Context(), g, m); !errors.Is(err, bus.err) {
		t.Errorf("Join: got %v, want the error of the bus", err)
	}
	h.Deliver(numbered(g, 1))
	h.Leave(g, m)
	h.Wait()
	m.check(t, nil)
	if h.Groups() != 0 || bus.wanted() != 0 {
		t.Errorf("left over: %d groups, %d subscriptions", h.Groups(), bus.wanted())
	}
}

// blocking is a member whose Offer waits, as no member's should: it stands for an organization whose
// work takes long.
type blocking struct {
	*member

	release chan struct{}
}

func (b blocking) Offer(burst *event.Burst) bool {
	<-b.release
	return b.member.Offer(burst)
}

// TestOverloadIsLoggedPerOrganization: what an organization loses is in the log, a line each and not one for each event.
func TestOverloadIsLoggedPerOrganization(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	h := hub.New(newBus(), hub.Options{IntakeBytes: 4 << 10, Log: zap.New(core)})
	release := make(chan struct{})
	began := time.Now()
	for _, org := range []string{"acme", "globex"} {
		g := testkit.Group(t, org, "all")
		for range 41 { // a crowd, so that the receiver itself does not serve it
			if err := h.Join(t.Context(), g, blocking{newMember(g.Organization()), release}); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 1000 {
			h.Deliver(numbered(g, n))
		}
	}
	most := 1 + int(time.Since(began)/(10*time.Second))
	close(release)
	h.Wait()
	for _, org := range []string{"acme", "globex"} {
		lines := logs.FilterMessage("intake full, events dropped").FilterField(zap.Stringer("organization", testkit.Group(t, org, "all").Organization()))
		if lines.Len() == 0 || lines.Len() > most {
			t.Errorf("%s: got %d lines, want 1 to %d", org, lines.Len(), most)
		}
	}
}

// TestOverload: an organization that brings more than its members take loses events and is told of
// it, in the right place of the order, while another goes on untouched.
func TestOverload(t *testing.T) {
	h := hub.New(newBus(), hub.Options{IntakeBytes: 4 << 10})
	noisy, quiet := testkit.Group(t, "acme", "all"), testkit.Group(t, "globex", "all")
	slow := blocking{newMember(noisy.Organization()), make(chan struct{})}
	other := newMember(quiet.Organization())
	if err := errors.Join(h.Join(t.Context(), noisy, slow), h.Join(t.Context(), quiet, other)); err != nil {
		t.Fatal(err)
	}
	for range 40 { // a crowd, so that the receiver itself does not serve it
		if err := h.Join(t.Context(), noisy, newMember(noisy.Organization())); err != nil {
			t.Fatal(err)
		}
	}
	const events = 1000
	for n := range events {
		h.Deliver(numbered(noisy, n)) // returns although slow takes nothing
	}
	h.Deliver(numbered(quiet, 1))
	if got := len(other.got[quiet]); got != 1 {
		t.Errorf("the quiet organization: got %d events, want 1", got)
	}
	close(slow.release)
	h.Wait()
	got := slow.got[noisy]
	gap := slices.Index(got, "gap")
	if gap < 0 || len(got) >= events {
		t.Fatalf("got %d events and the gap at %d; want fewer than all and a gap", len(got), gap)
	}
	checkRun(t, noisy, got[:gap])
	h.Deliver(numbered(noisy, events))
	h.Wait()
	if last := slow.got[noisy][len(slow.got[noisy])-1]; last != string(numbered(noisy, events).Payload()) {
		t.Errorf("after the overload: got %s, want the latest event", last)
	}
}

// order notes whose events are handed over, one after the other.
type order struct {
	mu    sync.Mutex
	orgs  []string
	total int
	done  chan struct{} // closed when there are total of them
}

// ordered is a member that notes its events in an order.
type ordered struct{ *order }

func (o ordered) Offer(b *event.Burst) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for range b.Events() {
		o.orgs = append(o.orgs, b.Organization().String())
	}
	if len(o.orgs) == o.total {
		close(o.done)
	}
	return false
}

func (ordered) Flush()               {}
func (ordered) OfferGap(event.Group) {}

// TestLongTurnIsMadeUpFor: an organization whose events are each more work than a turn may be gets its
// turn the more seldom.
func TestLongTurnIsMadeUpFor(t *testing.T) {
	h := hub.New(newBus(), hub.Options{IntakeBytes: 1 << 30})
	crowd := func(g event.Group, m hub.Member, more int) {
		t.Helper()
		if err := h.Join(t.Context(), g, m); err != nil {
			t.Fatal(err)
		}
		for range more {
			if err := h.Join(t.Context(), g, newMember(g.Organization())); err != nil {
				t.Fatal(err)
			}
		}
	}
	// All workers are held; then one is let go, and serves two lanes in turn.
	var held []gate
	for i := range max(2, runtime.GOMAXPROCS(0)) {
		g := testkit.Group(t, fmt.Sprint("held-", i), "all")
		m := gate{newMember(g.Organization()), make(chan struct{}), make(chan struct{})}
		crowd(g, m, 50)
		h.Deliver(numbered(g, 0))
		<-m.reached
		held = append(held, m)
	}
	const heavyEvents, lightEvents = 3, 400
	seen := &order{total: heavyEvents + lightEvents, done: make(chan struct{})}
	heavy, light := testkit.Group(t, "heavy", "all"), testkit.Group(t, "light", "all")
	crowd(heavy, ordered{seen}, 99)
	crowd(light, ordered{seen}, 49)
	payload := `{"type":"note","organization_id":"heavy","text":"` + strings.Repeat("x", 4<<20) + `"}`
	for range heavyEvents {
		e, err := event.Decode(heavy, payload, 5<<20, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		h.Deliver(e)
	}
	for n := range lightEvents {
		h.Deliver(numbered(light, n))
	}
	close(held[0].open)
	<-seen.done
	for _, m := range held[1:] {
		close(m.open)
	}
	h.Wait()
	// Of the light one 40 events make a turn, of the heavy one a fraction of one event.
	if n := slices.Index(seen.orgs[1:], "heavy"); seen.orgs[0] != "heavy" || n < 100 {
		t.Errorf("between two heavy events: got %d light ones, want some 120", n)
	}
}

// counted is a member that counts what it is offered.
type counted struct{ events int }

func (c *counted) Offer(b *event.Burst) bool { c.events += len(b.Events()); return false }
func (*counted) Flush()                      {}
func (*counted) OfferGap(event.Group)        {}

// TestLargeGroupsAreLeft: whoever leaves a group that is large, or was, whatever the order, gets nothing of what comes
// later, and all others get each event once.
func TestLargeGroupsAreLeft(t *testing.T) {
	h := hub.New(newBus(), hub.Options{})
	g := testkit.Group(t, "acme", "all")
	in, out := make(map[*counted]int), []*counted{new(counted)} // in: what each has to have had
	join := func(n int) {
		for range n {
			m := new(counted)
			if err := h.Join(t.Context(), g, m); err != nil {
				t.Fatal(err)
			}
			in[m] = 0
		}
	}
	leave := func(n int) {
		for m := range in { // in any order
			if n--; n < 0 {
				break
			}
			h.Leave(g, m)
			h.Leave(g, m) // is no member any more
			delete(in, m)
			m.events = 0
			out = append(out, m)
		}
		h.Leave(g, out[0]) // never was
	}
	deliver := func() {
		t.Helper()
		h.Deliver(numbered(g, 1))
		h.Wait()
		for m := range in {
			if in[m]++; m.events != in[m] {
				t.Fatalf("a member: got %d events, want %d", m.events, in[m])
			}
		}
		for _, m := range out {
			if m.events != 0 {
				t.Fatalf("one that has left: got %d events more", m.events)
			}
		}
	}
	for _, step := range []int{10, -3, 400, -1, -100, 1000, -1200, 500, -590, 300, -300} {
		if step > 0 {
			join(step)
		} else {
			leave(-step)
		}
		deliver()
	}
	leave(len(in))
	if got := h.Groups(); got != 0 {
		t.Errorf("groups: got %d, want 0", got)
	}
}
