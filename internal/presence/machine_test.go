package presence

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/testkit"
)

// settled is how long nodes need until all know the same, after a fault: a lease, the time until it
// is believed, and some ticks.
const settled = simLease + confirmDeath + surveyGap + 2*time.Second

// TestHistories: whatever nodes, users and Redis do, everyone sees who is there soon after the last
// fault, and nobody else.
func TestHistories(t *testing.T) {
	groups := []event.Group{testkit.Group(t, "acme", "all"), testkit.Group(t, "acme", "room.1"), testkit.Group(t, "globex", "all")}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 3)
		silent := rapid.Bool().Draw(t, "messages get lost")
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			n := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "node")]
			switch what := rapid.IntRange(0, 24).Draw(t, "step"); {
			case what < 8:
				w.join(n, rapid.SampledFrom(groups).Draw(t, "group"), fmt.Sprint("u", rapid.IntRange(0, 4).Draw(t, "user")), rapid.Bool().Draw(t, "watch"))
			case what < 13 && len(n.members) > 0:
				how := rapid.SampledFrom([]Departure{Lost, Closed, Ended}).Draw(t, "how")
				w.leave(n.members[rapid.IntRange(0, len(n.members)-1).Draw(t, "member")], how)
			case what == 13 && len(n.members) > 0:
				s := n.members[rapid.IntRange(0, len(n.members)-1).Draw(t, "member")]
				if err := n.m.set(s.group, s, fmt.Sprintf(`{"at":%d}`, len(s.frames)), w.now); err != nil {
					t.Fatalf("%v", err)
				}
			case what == 14 && len(w.nodes) > 1:
				w.kill(n)
				w.start()
			case what == 15 && len(w.nodes) > 1:
				w.stop(n)
				w.start()
			case what == 16:
				n.cut = !n.cut
			case what == 17:
				w.flush()
			case what == 18:
				w.restart()
			case what == 19:
				n.unlink()
			case what == 20:
				n.doubt = !n.doubt
			case what == 21:
				w.refuses = !w.refuses
			case what == 22 && silent:
				n.deaf = !n.deaf
			default:
				w.run(time.Duration(rapid.IntRange(1, 40).Draw(t, "ticks")) * Tick)
			}
		}
		w.refuses = false
		for _, n := range w.nodes {
			n.cut, n.doubt, n.deaf = false, false, false
		}
		w.run(settled + Grace)
		if silent {
			w.run(2 * auditEvery)
		}
		w.check()
		for _, n := range w.nodes { // nothing is left of those who leave
			for len(n.members) > 0 {
				w.leave(n.members[0], Ended)
			}
		}
		w.run(4 * Tick)
		for _, n := range w.nodes {
			if len(n.m.groups)+len(n.m.orgs)+len(n.m.nodes) > 0 {
				t.Fatalf("%s: left over: %d groups, %d organizations, %d nodes", n.id, len(n.m.groups), len(n.m.orgs), len(n.m.nodes))
			}
		}
	})
}

// TestNoLeave: a reload, a rolling deploy, a hung Redis and lost data show nobody leaving.
func TestNoLeave(t *testing.T) {
	g := testkit.Group(t, "acme", "all")
	for name, happens := range map[string]func(w *world, ada *simMember) *simMember{
		"reload at the same node": func(w *world, ada *simMember) *simMember {
			w.leave(ada, Lost)
			w.run(Grace - 2*Tick)
			return w.join(ada.node, g, "ada", false)
		},
		"reload at another node": func(w *world, ada *simMember) *simMember {
			w.leave(ada, Lost)
			w.run(Grace - 4*Tick)
			return w.join(w.nodes[1], g, "ada", false)
		},
		"the new page is faster than the end of the old one": func(w *world, ada *simMember) *simMember {
			next := w.join(w.nodes[1], g, "ada", false)
			w.leave(ada, Lost)
			w.run(2 * Grace)
			return next
		},
		"the second tab is closed while the first reloads": func(w *world, ada *simMember) *simMember {
			second := w.join(ada.node, g, "ada", false)
			w.leave(ada, Lost)
			w.leave(second, Closed)
			w.run(Grace - 2*Tick)
			return w.join(ada.node, g, "ada", false)
		},
		"rolling deploy": func(w *world, ada *simMember) *simMember {
			old := ada.node
			next := w.start()
			w.run(4 * Tick)
			w.leave(ada, Lost)
			w.run(4 * Tick)
			w.stop(old)
			w.run(Grace - 12*Tick)
			return w.join(next, g, "ada", false)
		},
		"Redis hangs for longer than the leases": func(w *world, ada *simMember) *simMember {
			for _, n := range w.nodes {
				n.cut = true
			}
			w.run(3 * simLease)
			for _, n := range w.nodes {
				n.cut = false
			}
			w.run(settled)
			return ada
		},
		"data is lost, and then Redis hangs": func(w *world, ada *simMember) *simMember {
			for range 10 {
				w.run(Tick) // a different moment between two renewals each time
				w.flush()
				w.run(2 * Tick)
				for _, n := range w.nodes {
					n.cut = true
				}
				w.run(3 * simLease)
				for _, n := range w.nodes {
					n.cut = false
				}
				w.run(settled)
			}
			return ada
		},
		"FLUSHALL":                        func(w *world, ada *simMember) *simMember { w.flush(); w.run(settled); return ada },
		"Redis restarts without its data": func(w *world, ada *simMember) *simMember { w.restart(); w.run(settled); return ada },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3)
			ada := w.join(w.nodes[0], g, "ada", false)
			watcher := w.join(w.nodes[2], g, "watcher", true)
			w.run(settled)
			happens(w, ada)
			w.run(settled)
			w.check()
			if text := strings.Join(watcher.frames, ", "); strings.Contains(text, "-ada") || strings.Contains(text, "list watcher") {
				t.Errorf("ada left: %s", text)
			}
		})
	}
}

// TestGoneAtOnce: who leaves is gone from all nodes with the next ticks.
func TestGoneAtOnce(t *testing.T) {
	g := testkit.Group(t, "acme", "all")
	for _, how := range []Departure{Closed, Ended} {
		w := newWorld(t, 2)
		ada, watcher := w.join(w.nodes[0], g, "ada", false), w.join(w.nodes[1], g, "watcher", true)
		w.run(settled)
		if how == Ended { // also if another connection was just lost
			w.leave(w.join(w.nodes[0], g, "ada", false), Lost)
		}
		w.leave(ada, how)
		w.run(3 * Tick)
		if got := watcher.sees(); got != "watcher:1" {
			t.Errorf("%v: got %q", how, got)
		}
	}
}

// TestKilledNodeIsBuried: users of a killed node are gone from the others within 10 s, and its
// fields from Redis, although messages about others come meanwhile.
func TestKilledNodeIsBuried(t *testing.T) {
	g := testkit.Group(t, "acme", "all")
	w := newWorld(t, 3)
	for i := range 1000 {
		w.join(w.nodes[0], g, fmt.Sprint("u", i), false)
	}
	watcher := w.join(w.nodes[2], g, "watcher", true)
	w.run(settled)
	if watcher.count != 1001 {
		t.Fatalf("got %d users", watcher.count)
	}
	w.kill(w.nodes[0])
	for i := range 10*time.Second/Tick - 1 {
		if i%7 == 0 {
			w.leave(w.join(w.nodes[0], g, "other", false), Closed)
		}
		w.run(Tick)
	}
	if got := watcher.sees(); got != "watcher:1" {
		t.Errorf("after 10 s: got %d users", watcher.count)
	}
	if got := len(w.hashes[g]); got != 2 {
		t.Errorf("fields left: %v", w.hashes[g])
	}
}

// TestKilledNodeIsBuriedBySlowSurveys: users of a killed node are gone after some time also where Redis
// takes long to say which nodes there are, or does not always answer.
func TestKilledNodeIsBuriedBySlowSurveys(t *testing.T) {
	g := testkit.Group(t, "acme", "all")
	for name, test := range map[string]struct {
		slow  time.Duration
		flaky bool
		most  time.Duration // until the users have to be gone
	}{
		"slow":           {slow: 2 * surveyGap, most: simLease + 4*2*surveyGap},
		"slow and flaky": {slow: surveyGap * 3 / 4, flaky: true, most: simLease + 12*surveyGap*3/2},
		"flaky":          {flaky: true, most: simLease + 4*confirmDeath},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			n := w.nodes[1]
			n.slow, n.flaky = test.slow, test.flaky
			w.join(w.nodes[0], g, "ada", false)
			watcher := w.join(n, g, "watcher", true)
			w.run(settled)
			if got := watcher.sees(); got != "ada:1 watcher:1" {
				t.Fatalf("got %q", got)
			}
			w.kill(w.nodes[0])
			w.run(test.most)
			if got := watcher.sees(); got != "watcher:1" {
				t.Errorf("%v after its node was killed, ada is still there", test.most)
			}
		})
	}
}

// TestStates: the last state of a user counts, whichever connection sent it, and a user who sends
// states in a loop causes one write a second.
func TestStates(t *testing.T) {
	g := testkit.Group(t, "acme", "all")
	w := newWorld(t, 2)
	one, two := w.join(w.nodes[0], g, "ada", true), w.join(w.nodes[1], g, "ada", true)
	set := func(s *simMember, state string) {
		if err := s.node.m.set(g, s, state, w.now); err != nil {
			t.Fatal(err)
		}
	}
	w.run(settled)
	set(one, `{"n":1}`)
	w.run(4 * Tick)
	set(two, `{"n":2}`)
	w.run(4 * Tick)
	w.leave(two, Closed)
	w.run(4 * Tick)
	if got := one.sees(); got != `ada:1{"n":2}` {
		t.Errorf("got %q", got)
	}
	before := len(one.frames)
	for i := range 4000 {
		set(one, fmt.Sprintf(`{"n":%d}`, 10+i))
		if i%100 == 99 {
			w.run(Tick)
		}
	}
	if got := len(one.frames) - before; got > 11 { // in 10 s
		t.Errorf("got %d frames", got)
	}
	w.run(2 * StatePause)
	if got := one.sees(); got != `ada:1{"n":4009}` {
		t.Errorf("got %q", got)
	}
	set(one, "")
	w.run(2 * StatePause)
	if got := one.sees(); got != "ada:1" {
		t.Errorf("without a state: got %q", got)
	}
}

// TestMany: above the limit only the number is told, and below it the users again.
func TestMany(t *testing.T) {
	g := testkit.Group(t, "acme", "all")
	w := newWorld(t, 1)
	n := w.nodes[0]
	n.m.mostListed = 3
	watcher := w.join(n, g, "u0", true)
	w.run(settled)
	var others []*simMember
	for i := range 4 {
		others = append(others, w.join(n, g, fmt.Sprint("u", i+1), false))
		w.run(countPause + Tick)
	}
	late := w.join(n, g, "u9", true)
	w.run(countPause + Tick)
	for _, s := range append(others, late) {
		w.leave(s, Closed)
		w.run(countPause + Tick)
	}
	want := "list u0, change +u1, change +u2, list, change, change, change, change, list u0 u4 u9, change -u4, change -u9"
	if got := strings.Join(watcher.frames, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := strings.Join(late.frames, ", "); got != "list, change, change, list u0 u4 u9, change -u4" {
		t.Errorf("who came when they were many: got %s", got)
	}
}

// TestCountsAreSlow: where only the number is told, it is told seldom, and the last one is right.
func TestCountsAreSlow(t *testing.T) {
	g := testkit.Group(t, "acme", "all")
	w := newWorld(t, 1)
	n := w.nodes[0]
	n.m.mostListed = 1
	watcher := w.join(n, g, "u0", true)
	w.join(n, g, "u1", false)
	w.run(settled)
	before := len(watcher.frames)
	for i := range 40 {
		w.join(n, g, fmt.Sprint("guest", i), false)
		w.run(Tick)
	}
	if got := len(watcher.frames) - before; got > 6 { // in 10 s
		t.Errorf("got %d frames", got)
	}
	w.run(countPause)
	if watcher.count != 42 {
		t.Errorf("got %d users, want 42", watcher.count)
	}
}

// TestGroupsOfOneTick: groups of one organization do not wait for each other while it has frames left.
func TestGroupsOfOneTick(t *testing.T) {
	w := newWorld(t, 1)
	var pages []*simMember
	for i := range 500 {
		pages = append(pages, w.join(w.nodes[0], testkit.Group(t, "acme", fmt.Sprint("room.", i)), "ada", true))
	}
	w.run(settled)
	for _, s := range pages {
		w.join(w.nodes[0], s.group, "alan", false)
	}
	w.run(Tick)
	for _, s := range pages {
		if got := s.sees(); got != "ada:1 alan:1" {
			t.Fatalf("%s: got %q", s.group, got)
		}
	}
}

// TestPace: an organization whose groups have many watchers gets fewer frames, and others are not
// affected.
func TestPace(t *testing.T) {
	g, other := testkit.Group(t, "acme", "all"), testkit.Group(t, "globex", "all")
	w := newWorld(t, 1)
	n := w.nodes[0]
	n.m.mostListed = 10 // longer lists would take the test longer
	const watchers = 20_000
	for i := range watchers {
		w.join(n, g, fmt.Sprint("u", i%1000), true)
	}
	w.join(n, other, "ada", true)
	w.run(settled)
	all := slices.Clone(n.members)
	before := 0
	for _, s := range all {
		before += len(s.frames)
	}
	const seconds = 20
	for i := range int(seconds * time.Second / Tick) {
		w.leave(w.join(n, g, fmt.Sprint("guest", i), false), Closed)
		w.leave(w.join(n, other, "guest", false), Closed)
		guest := w.join(n, g, fmt.Sprint("new", i), false)
		w.run(Tick)
		w.leave(guest, Closed)
	}
	got := -before
	for _, s := range all {
		got += len(s.frames)
	}
	if most := (seconds + 1) * frameRate; got > most || got < watchers {
		t.Errorf("got %d frames in %d s, want at most %d", got, seconds, most)
	}
}
