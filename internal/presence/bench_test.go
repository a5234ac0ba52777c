package presence

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/testkit"
)

// quiet is a member that shows nothing.
type quiet struct{ _ int } // not empty, because members are compared

func (*quiet) Show(*Frame) {}

// crowd returns a machine with a group of users, each with one connection.
func crowd(b *testing.B, users int) (m *machine, now time.Time) {
	b.Helper()
	m, now = newMachine("n1", DefaultMostListed, 1<<40), time.Unix(1_800_000_000, 0)
	g := testkit.Group(b, "acme", "all")
	for i := range users {
		if err := m.attend(g, fmt.Sprint("user", i), new(quiet), false, now); err != nil {
			b.Fatal(err)
		}
	}
	writeAll(m)
	return m, now
}

// writeAll takes all writes, which succeed.
func writeAll(m *machine) {
	for list := m.writes(); len(list) > 0; list = m.writes() {
		m.wrote(list, make([]error, len(list)))
	}
}

// BenchmarkJoin is what a join and a leave cost the node, with what is written about them.
func BenchmarkJoin(b *testing.B) {
	for _, users := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprint(users, "users"), func(b *testing.B) {
			m, now := crowd(b, users)
			g := testkit.Group(b, "acme", "all")
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				who := new(quiet)
				if err := m.attend(g, "guest", who, false, now); err != nil {
					b.Fatal(err)
				}
				m.leave(g, who, Closed, now)
				if i%100 == 0 {
					writeAll(m)
				}
			}
		})
	}
}

// BenchmarkTick is what 40 users cost who come or go in a tick, in a group that is watched.
func BenchmarkTick(b *testing.B) {
	for _, users := range []int{100, 900, 10_000} {
		b.Run(fmt.Sprint(users, "users"), func(b *testing.B) {
			m, now := crowd(b, users)
			g := testkit.Group(b, "acme", "all")
			m.alone = true // as if the hash was read
			if err := m.attend(g, "watcher", new(quiet), true, now); err != nil {
				b.Fatal(err)
			}
			m.tick(now)
			var guests [40]quiet
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now = now.Add(Tick)
				for j := range guests {
					if i%2 == 0 {
						_ = m.attend(g, fmt.Sprint("guest", j), &guests[j], false, now)
					} else {
						m.leave(g, &guests[j], Closed, now)
					}
				}
				for _, d := range m.tick(now) {
					d.frame.Encoded("text", func(text []byte) []byte { return text })
				}
			}
		})
	}
}

// BenchmarkMemory is what a member takes in memory: of a group that nobody here watches, and of one
// that is watched.
func BenchmarkMemory(b *testing.B) {
	const users = 100_000
	for name, watched := range map[string]bool{"unwatched": false, "watched": true} {
		b.Run(name, func(b *testing.B) {
			heap := func() uint64 {
				var s runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&s)
				return s.HeapAlloc
			}
			for b.Loop() {
				before := heap()
				m, now := crowd(b, users)
				if m.alone = watched; watched {
					if err := m.attend(testkit.Group(b, "acme", "all"), "watcher", new(quiet), true, now); err != nil {
						b.Fatal(err)
					}
					m.tick(now)
				}
				b.ReportMetric(float64(heap()-before)/users, "B/member")
				runtime.KeepAlive(m)
			}
		})
	}
}

// BenchmarkGroupMemory is what a group of one member takes in memory, without its user, and what each
// further connection of the same user takes in it.
func BenchmarkGroupMemory(b *testing.B) {
	const many = 20_000
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	now := time.Unix(1_800_000_000, 0)
	for name, of := range map[string]struct {
		groups, seats int
		watch         bool
	}{"group": {many, 1, false}, "watched group": {many, 1, true}, "connection": {1, many, false}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				members := make([]quiet, many)
				groups := make([]event.Group, of.groups)
				for i := range groups {
					groups[i] = testkit.Group(b, "acme", fmt.Sprint("room.", i))
				}
				before := heap()
				m := newMachine("n1", DefaultMostListed, 1<<40)
				for _, g := range groups {
					for i := range of.seats {
						if err := m.attend(g, "ada", &members[i], of.watch, now); err != nil {
							b.Fatal(err)
						}
					}
				}
				writeAll(m)
				b.ReportMetric(float64(heap()-before)/many, "B/each")
				runtime.KeepAlive(m)
				runtime.KeepAlive(members)
				runtime.KeepAlive(groups)
			}
		})
	}
}
