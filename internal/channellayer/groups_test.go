package channellayer_test

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"orgcast/internal/channellayer"
	"orgcast/internal/event"
)

// TestRosterFollowsSubscriptions drives the state machine with subscriptions, answers and lost
// connections in any order. A subscriber that was told to be a member is one, and gets a gap after a
// lost connection. At the end, the server has exactly the wanted groups.
func TestRosterFollowsSubscriptions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		queues := rapid.IntRange(0, 3).Draw(t, "queues")
		r := channellayer.NewRoster(queues)
		server := make(map[string]string) // the tag of each group that the server has
		counts := make(map[event.Group]int)
		told := make(map[event.Group]<-chan struct{})
		gapDue := make(map[event.Group]bool)
		var join, leave map[string]string
		open := false
		groups := []event.Group{group("acme", "a"), group("globex", "a"), group("acme", "b"), group("globex", "c")}

		answer := func() {
			for name, tag := range join {
				server[name] = tag
				gaps, ok := r.Joined(name)
				if !ok {
					t.Fatalf("%s: joining was not expected", name)
				}
				for _, g := range gaps {
					delete(gapDue, g)
				}
				for g := range gapDue {
					if g.Name() == name && counts[g] > 0 {
						t.Fatalf("%s: no gap", g)
					}
				}
			}
			for name, tag := range leave {
				if have, ok := server[name]; ok && have != tag {
					t.Fatalf("%s: left as %q, joined as %q", name, tag, have)
				}
				delete(server, name)
				if !r.Left(name) {
					t.Fatalf("%s: leaving was not expected", name)
				}
			}
			join, leave = nil, nil
		}
		next := func() bool {
			if len(join)+len(leave) == 0 {
				join, leave = r.Next(rapid.IntRange(1, 3).Draw(t, "most"))
			}
			return len(join)+len(leave) > 0
		}
		t.Repeat(map[string]func(*rapid.T){
			"subscribe": func(t *rapid.T) {
				g := rapid.SampledFrom(groups).Draw(t, "group")
				counts[g]++
				told[g] = r.Subscribe(g)
			},
			"unsubscribe": func(t *rapid.T) {
				g := rapid.SampledFrom(groups).Draw(t, "group")
				if r.Unsubscribe(g); counts[g] > 0 {
					counts[g]--
				}
				if counts[g] == 0 {
					delete(told, g)
					delete(gapDue, g)
				}
			},
			"connect": func(*rapid.T) {
				if !open {
					open = true
					r.Begin()
				}
			},
			"lose": func(t *rapid.T) {
				if !open {
					return
				}
				if rapid.Bool().Draw(t, "executed") { // but not answered
					maps.Copy(server, join)
					for name := range leave {
						delete(server, name)
					}
				}
				for g, c := range told {
					if closed(c) {
						gapDue[g] = true
						delete(told, g) // it may be told again, on another channel
					}
				}
				if queues == 0 {
					clear(server) // subscriptions end with their connection
				}
				join, leave, open = nil, nil, false
				r.End()
			},
			"command": func(*rapid.T) { next() },
			"answer":  func(*rapid.T) { answer() },
			"": func(t *rapid.T) {
				for g, c := range told {
					if _, ok := server[g.Name()]; closed(c) && !ok {
						t.Fatalf("%s: told to be a member, and is none", g)
					}
				}
			},
		})
		if !open {
			r.Begin()
		}
		for answer(); next(); {
			answer()
		}
		wanted := make(map[string]bool)
		for g, n := range counts {
			if n > 0 {
				wanted[g.Name()] = true
			}
		}
		if got, want := slices.Sorted(maps.Keys(server)), slices.Sorted(maps.Keys(wanted)); !slices.Equal(got, want) {
			t.Fatalf("the server has %q, want %q", got, want)
		}
		for g, n := range counts {
			for range n {
				r.Unsubscribe(g)
			}
		}
		for next() {
			answer()
		}
		if !r.Empty() || len(server) > 0 {
			t.Fatalf("something is left: %v", server)
		}
	})
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
