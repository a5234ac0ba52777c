package hub_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/testkit"
)

// blocking is a member whose Offer blocks, which a real member's must not. It stands for an
// organization whose work takes long.
type blocking struct {
	*member

	release chan struct{}
}

func (b blocking) Offer(burst *event.Burst) bool {
	<-b.release
	return b.member.Offer(burst)
}

// TestOverloadIsLoggedPerOrganization: the log has one line for each organization that loses
// events, and not one for each event.
func TestOverloadIsLoggedPerOrganization(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	h := hub.New(newBus(), hub.Options{IntakeBytes: 4 << 10, Log: zap.New(core)})
	release := make(chan struct{})
	began := time.Now()
	for _, org := range []string{"acme", "globex"} {
		g := testkit.Group(t, org, "all")
		for range 41 { // a crowd, so that the receiver does not serve it itself
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
		lines := logs.FilterMessage("intake full, events dropped").FilterField(zap.Stringer("organization_id", testkit.Group(t, org, "all").Organization()))
		if lines.Len() == 0 || lines.Len() > most {
			t.Errorf("%s: got %d lines, want 1 to %d", org, lines.Len(), most)
		}
	}
}

// TestOverload: an organization that sends more than its members accept loses events and gets a gap
// at the right place, while another is not affected.
func TestOverload(t *testing.T) {
	h := hub.New(newBus(), hub.Options{IntakeBytes: 4 << 10})
	noisy, quiet := testkit.Group(t, "acme", "all"), testkit.Group(t, "globex", "all")
	slow := blocking{newMember(noisy.Organization()), make(chan struct{})}
	other := newMember(quiet.Organization())
	if err := errors.Join(h.Join(t.Context(), noisy, slow), h.Join(t.Context(), quiet, other)); err != nil {
		t.Fatal(err)
	}
	for range 40 { // a crowd, so that the receiver does not serve it itself
		if err := h.Join(t.Context(), noisy, newMember(noisy.Organization())); err != nil {
			t.Fatal(err)
		}
	}
	const events = 1000
	for n := range events {
		h.Deliver(numbered(noisy, n)) // returns although slow does not accept events
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

// order records the order in which events are passed to members.
type order struct {
	mu    sync.Mutex
	orgs  []string
	total int
	done  chan struct{} // closed when there are total of them
}

// ordered is a member that records its events in an order.
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

func (ordered) Flush() {}

func (ordered) OfferGap(event.Group) {}

// TestLongTurnIsMadeUpFor: an organization whose events are each more work than a turn allows gets
// fewer turns.
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
	// All workers are blocked. Then one is released, and serves two lanes in turn.
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
	// 40 events of the light one make a turn; of the heavy one, a fraction of one event does.
	if n := slices.Index(seen.orgs[1:], "heavy"); seen.orgs[0] != "heavy" || n < 100 {
		t.Errorf("between two heavy events: got %d light ones, want some 120", n)
	}
}

// counted is a member that counts what it is offered.
type counted struct{ events int }

func (c *counted) Offer(b *event.Burst) bool { c.events += len(b.Events()); return false }

func (*counted) Flush() {}

func (*counted) OfferGap(event.Group) {}

// TestLargeGroupsAreLeft: a member that leaves a group that is or was large gets no later events,
// whatever the order of leaving. All other members get each event once.
func TestLargeGroupsAreLeft(t *testing.T) {
	h := hub.New(newBus(), hub.Options{})
	g := testkit.Group(t, "acme", "all")
	in, out := make(map[*counted]int), []*counted{new(counted)} // in: how many events each must have got
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
			h.Leave(g, m) // it is no longer a member
			delete(in, m)
			m.events = 0
			out = append(out, m)
		}
		h.Leave(g, out[0]) // it never was one
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
