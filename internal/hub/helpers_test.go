package hub_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// failer is a test or a rapid case.
type failer interface {
	Helper()
	Fatal(args ...any)
}

// decode decodes an event as a bus would. It returns nil for an invalid payload.
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

// fakeBus counts subscriptions.
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

// member records what it is offered. Like a connection, it belongs to one organization.
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

// check compares the events that the member got with those that it should have got.
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
