package hub_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/testkit"
)

// TestPropertyIsolation: organizations have equal group names, members join and leave, and payloads
// are valid or not. Every member gets its own events exactly once and in order.
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
		// Workers serve groups of many members; the receiver serves small ones itself.
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
				h.Wait() // so that it does not get earlier events
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
				h.Leave(g, m.member) // also if it is not a member
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
				h.Leave(g, m.member) // leaving twice is not an error
			}
		}
		if h.Groups() != 0 || bus.wanted() != 0 {
			t.Fatal("left over: groups ", h.Groups(), ", subscriptions ", bus.wanted())
		}
	})
}

// TestConcurrentMembership: members come and go while events are delivered. Each member gets a run
// of a group's events without holes, duplicates or disorder, and none of another organization.
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

// TestNothingFromBeforeTheGroup: events wait for members who then all leave. A member that joins
// after that must not get them, because it has missed the events in between.
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
	for range 50 { // too many for the receiver to serve itself
		join(other, newMember(g.Organization()))
	}
	join(g, leaver)
	h.Deliver(numbered(other, 0))
	<-slow.reached            // it now holds the lane
	h.Deliver(numbered(g, 1)) // waits behind the first event
	h.Leave(g, leaver)
	h.Deliver(numbered(g, 2)) // the group has no members
	join(g, late)
	h.Deliver(numbered(g, 3))
	close(slow.open)
	h.Wait()
	late.check(t, map[event.Group][]string{g: {string(numbered(g, 3).Payload())}})
}

// checkRun checks that payloads are numbered without a hole.
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

// TestJoinRefused: if the bus refuses, the caller is not a member.
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
