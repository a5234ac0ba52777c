package outbox_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/outbox"
)

// shared is a budget and the clients that share it.
type shared struct {
	budget outbox.Budget
	limit  int
	group  event.Group
	n      int // of the newest event
	all    []*peer
}

func newShared(t failer, limit int) *shared {
	t.Helper()
	return &shared{limit: limit, group: mustGroup(t, "g")}
}

// peer is a client of a shared budget. It is its outbox's owner.
type peer struct {
	*outbox.Outbox

	of      *shared
	writes  *outbox.Batch // that are under way
	since   time.Time     // when these, or what is held, began
	dropped int
	full    bool
	held    bool   // something may be
	holds   bool   // or was when the write under way began
	gaveWay func() // before each time
}

func (s *shared) join(policy outbox.Policy) *peer {
	p := &peer{Outbox: new(outbox.Outbox), of: s, gaveWay: func() {}}
	p.Init(&outbox.Options{Policy: policy, Gap: gapOf, Encoding: encoding, Bytes: 1 << 20, BytesPerOrganization: s.limit}, p)
	p.Open()
	s.all = append(s.all, p)
	return p
}

func (p *peer) Budget() *outbox.Budget { return &p.of.budget }

func (p *peer) GaveWay(out outbox.Outcome) {
	p.gaveWay()
	p.dropped += out.Dropped
	if out.Full {
		p.full = true
		p.Seal([]byte("close"), true)
	}
}

func (p *peer) Lost([]*event.Event, outbox.Loss, bool) {}

// write begins to write what waits.
func (p *peer) write() {
	if p.writes != nil {
		return
	}
	if p.writes = p.Claim(); p.writes != nil {
		p.since, p.holds = time.Now(), p.held
		p.Charge(p.writes)
	}
}

// finish ends a write.
func (p *peer) finish() (got []string) {
	if p.writes != nil {
		got = texts(p.writes)
		p.Done(p.writes)
		p.writes = nil
	}
	return got
}

// event makes the next event.
func (s *shared) event(t failer, size int) *event.Burst {
	t.Helper()
	s.n++
	e, err := event.Decode(s.group, fmt.Sprintf(`{"type":"t","organization_id":"acme","n":%d,"pad":%q}`, s.n, strings.Repeat("x", size)), 1<<20, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return e.Alone()
}

// check compares the books with what waits, and reports what is over the limit although somebody
// could give way.
func (s *shared) check() error {
	boxes := make([]*outbox.Outbox, len(s.all))
	movable := false
	for i, p := range s.all {
		boxes[i] = p.Outbox
		movable = movable || p.CanGiveWay()
	}
	used := s.budget.Used()
	if got := outbox.Recount(boxes); got != used {
		return fmt.Errorf("the budget counts %d bytes, want %d", used, got)
	}
	if used > s.limit && movable || used > 2*s.limit {
		return fmt.Errorf("%d bytes wait, want at most %d", used, s.limit)
	}
	return nil
}

const kib = 1 << 10

// TestWhatManyWaitForCountsOnce: an event that waits for many clients takes memory once, so a large
// burst to many quick clients does not use up what their organization may have.
func TestWhatManyWaitForCountsOnce(t *testing.T) {
	s := newShared(t, 100*kib)
	for range 50 {
		s.join(outbox.Disconnect)
	}
	for range 4 {
		b := s.event(t, 10*kib)
		for _, p := range s.all {
			p.Offer(b)
			p.write()
		}
	}
	if got := s.budget.Used(); got < 40*kib || got > 80*kib {
		t.Errorf("4 events of 10 KiB: got %d bytes that wait", got)
	}
	for i, p := range s.all {
		if got := len(p.finish()); got != 1 {
			t.Errorf("client %d: got %d events", i, got)
		}
		if p.write(); len(p.finish()) != 3 || p.full {
			t.Errorf("client %d lost something", i)
		}
	}
	if got := s.budget.Used(); got != 0 {
		t.Errorf("got %d bytes that wait in the end", got)
	}
}

// TestTheQuickGiveWayToNobody: when slow members have used up what the organization may have, they
// give way. A client that reads does not, even if its write is larger than what any of them holds.
func TestTheQuickGiveWayToNobody(t *testing.T) {
	for name, policy := range map[string]outbox.Policy{"disconnect": outbox.Disconnect, "drop_oldest": outbox.DropOldest, "latest": outbox.Latest} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShared(t, 100*kib)
				var slow []*peer
				for range 3 {
					p := s.join(policy)
					slow = append(slow, p)
					for range 3 { // each its own, so that all of it counts
						p.Offer(s.event(t, 10*kib))
						p.write()
					}
				}
				time.Sleep(time.Second)
				quick := s.join(policy)
				got := 0
				for range 20 {
					for range 2 { // one is written while the next one comes
						quick.Offer(s.event(t, 25*kib))
						quick.write()
					}
					if err := s.check(); err != nil {
						t.Fatal(err)
					}
					got += len(quick.finish())
					quick.write()
					got += len(quick.finish())
				}
				if quick.full || quick.dropped > 0 || got != 40 {
					t.Errorf("the quick one: got %d events, want 40; %d dropped, ended: %v", got, quick.dropped, quick.full)
				}
				lost := 0
				for _, p := range slow {
					if p.full || p.dropped > 0 {
						lost++
					}
				}
				if lost == 0 {
					t.Error("none of the slow ones gave way")
				}
			})
		})
	}
}

// TestWhoHoldsMostGivesWay: a member that is behind with little is not ended for one that is behind
// with much.
func TestWhoHoldsMostGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared(t, 100*kib)
		little, much := s.join(outbox.Disconnect), s.join(outbox.Disconnect)
		little.Offer(s.event(t, 2*kib))
		little.write()
		much.Offer(s.event(t, 10*kib))
		much.write()
		time.Sleep(time.Second)
		for !much.full {
			little.Offer(s.event(t, kib))
			much.Offer(s.event(t, 10*kib))
			if little.full {
				t.Fatal("the one that holds little has ended")
			}
		}
		if err := s.check(); err != nil {
			t.Error(err)
		}
	})
}

// TestYoungWritesHaveABound: writes that have begun just now may exceed what the organization may have,
// but not twice: then those that began first have to end.
func TestYoungWritesHaveABound(t *testing.T) {
	for _, policy := range []outbox.Policy{outbox.Disconnect, outbox.DropOldest, outbox.Latest} {
		s := newShared(t, 100*kib)
		for range 50 {
			p := s.join(policy)
			p.Offer(s.event(t, 10*kib))
			p.write()
			if got := s.budget.Used(); got > 2*s.limit {
				t.Fatalf("%v: %d bytes are being written, want at most %d", policy, got, 2*s.limit)
			}
		}
		for i, p := range s.all {
			if early := i < 31; p.full != early {
				t.Errorf("%v: client %d has to end: %t, want %t", policy, i, p.full, early)
			}
		}
	}
}

// TestWritesThatHang: writes that hang count, although nothing of them can be dropped. If they alone are
// too much, their connections end, whatever the policy, and then they count no more.
func TestWritesThatHang(t *testing.T) {
	for name, policy := range map[string]outbox.Policy{"disconnect": outbox.Disconnect, "drop_oldest": outbox.DropOldest, "latest": outbox.Latest} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShared(t, 100*kib)
				for range 6 {
					p := s.join(policy)
					p.Offer(s.event(t, 30*kib))
					p.write()
				}
				for _, p := range s.all {
					if p.full {
						t.Fatal("ended for a write that has just begun")
					}
				}
				time.Sleep(time.Second)
				last := s.join(policy)
				last.Offer(s.event(t, 1))
				last.write()
				ended := 0
				for _, p := range s.all {
					if p.full {
						ended++
					}
				}
				if err := s.check(); err != nil || ended != 3 || last.full {
					t.Errorf("got %d connections that have ended, want 3; %v", ended, err)
				}
				for _, p := range s.all {
					p.finish()
					p.Abandon()
				}
				if got := s.budget.Used(); got != 0 {
					t.Errorf("got %d bytes that wait in the end", got)
				}
			})
		})
	}
}

// deed is one step of a property test.
type deed struct {
	kind string
	who  int
	size int
}

// TestPropertyBudget: whatever happens, the budget counts what waits, and never has too much of it
// if somebody can give way, nor ever more than twice that. A client whose write has begun just now
// gives way only if nobody is behind, and then only if more waits after that write, or twice as much
// waits as may.
func TestPropertyBudget(t *testing.T) {
	policies := []outbox.Policy{outbox.Disconnect, outbox.DropOldest, outbox.Latest}
	kinds := []string{"offer to all", "offer to all", "offer", "push", "hold", "release", "write", "write", "finish", "finish", "time", "seal", "forget"}
	rapid.Check(t, func(rt *rapid.T) {
		clients := rapid.SliceOfN(rapid.SampledFrom(policies), 2, 6).Draw(rt, "policies")
		var deeds []deed
		for range rapid.IntRange(1, 80).Draw(rt, "deeds") {
			deeds = append(deeds, deed{
				kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), who: rapid.IntRange(0, len(clients)-1).Draw(rt, "who"),
				size: rapid.SampledFrom([]int{1, kib, 5 * kib, 30 * kib}).Draw(rt, "size"),
			})
		}
		var err error
		synctest.Test(t, func(t *testing.T) { err = budgetCase(t, clients, deeds) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func budgetCase(t *testing.T, policies []outbox.Policy, deeds []deed) (err error) {
	t.Helper()
	s := newShared(t, 64*kib)
	note := func(e error) {
		if err == nil {
			err = e
		}
	}
	behind := func(p *peer) bool { return p.writes != nil && time.Since(p.since) >= outbox.Patience }
	for i, policy := range policies {
		p := s.join(policy)
		p.gaveWay = func() {
			if behind(p) || p.holds || p.writes == nil { // what is held may have waited for longer
				return
			}
			for k, other := range s.all {
				if k != i && !other.full && behind(other) && other.CanGiveWay() {
					note(fmt.Errorf("client %d gave way, which was not behind as client %d is", i, k))
				}
			}
		}
	}
	for n, d := range deeds {
		p := s.all[d.who]
		switch d.kind {
		case "offer to all":
			b := s.event(t, d.size)
			for _, p := range s.all {
				p.Offer(b)
			}
		case "offer":
			p.Offer(s.event(t, d.size))
		case "push":
			p.Push([]byte(strings.Repeat("p", d.size)))
		case "hold":
			_ = p.Hold(s.group) // or it is held already
			p.held, p.holds = true, true
		case "release":
			p.Release(s.group, event.Position{})
			p.held, p.holds = false, p.writes != nil
		case "forget":
			p.Forget(s.group)
			p.held = false
		case "write":
			p.write()
		case "finish":
			p.finish()
		case "time":
			time.Sleep(outbox.Patience / 2)
		case "seal":
			if d.size == 1 { // seldom
				p.full = true
				p.Seal([]byte("close"), false)
			}
		}
		if e := s.check(); e != nil && d.kind != "time" && d.kind != "finish" {
			note(fmt.Errorf("after %d deeds: %s: %w", n, d.kind, e))
		}
	}
	for _, p := range s.all {
		p.finish()
		p.Abandon()
	}
	if got := s.budget.Used(); got != 0 {
		note(fmt.Errorf("got %d bytes that wait in the end", got))
	}
	return err
}

// TestOldNewsOfAGapGivesWay: to let go of the news of a gap that older news tells already is enough,
// if it makes the room that is needed. The connection does not have to end.
func TestOldNewsOfAGapGivesWay(t *testing.T) {
	s := newShared(t, 8*kib)
	p, other := s.join(outbox.DropOldest), s.join(outbox.DropOldest)
	p.Offer(s.event(t, 10))
	p.write()
	other.Push([]byte("a"))
	other.write()
	frame := func(size int) { other.Push([]byte(strings.Repeat("f", size))) } // gives no way
	p.Offer(s.event(t, 6*kib))
	frame(3 * kib) // takes the room of the event, so that the news of a gap stands first
	p.Offer(s.event(t, 3*kib))
	p.Gap(s.group)
	frame(3 * kib) // and of this one, so that there are two of them
	p.Offer(s.event(t, 300))
	if p.dropped != 2 || p.full {
		t.Fatalf("dropped %d events, full %t, want 2 and false", p.dropped, p.full)
	}
	frame(s.limit - s.budget.Used() - outbox.ItemBytes + 3) // less too much than the news takes
	if p.full {
		t.Error("the connection ends, though it had something to let go of")
	}
	if err := s.check(); err != nil {
		t.Error(err)
	}
}
