package webhook_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/testkit"
	"orgcast/internal/webhook"
)

// steps writes everything that is due, and returns it.
func steps(o webhook.Occupancy, now time.Time) (list []string) {
	for {
		g, what, ok := o.Next(now)
		if !ok {
			return list
		}
		o.Done(g, what)
		list = append(list, what+" "+g.Name())
	}
}

// TestOccupancy: what a node writes about a group, move by move.
func TestOccupancy(t *testing.T) {
	const linger = 10 * time.Second
	type move struct {
		at   time.Duration
		do   string // come, leave, look, lost (Redis knows nothing), buried (nor does it know this node's groups)
		want string
	}
	for name, moves := range map[string][]move{
		"comes and leaves":       {{0, "come", "occupy"}, {1 * time.Second, "leave", ""}, {10 * time.Second, "look", ""}, {11 * time.Second, "look", "vacate"}},
		"a reload":               {{0, "come", "occupy"}, {1 * time.Second, "leave", ""}, {3 * time.Second, "come", ""}, {20 * time.Second, "look", ""}},
		"two reloads":            {{0, "come", "occupy"}, {1 * time.Second, "leave", ""}, {9 * time.Second, "come", ""}, {10 * time.Second, "leave", ""}, {12 * time.Second, "look", ""}, {20 * time.Second, "look", "vacate"}},
		"told twice":             {{0, "come", "occupy"}, {1 * time.Second, "come", ""}, {2 * time.Second, "leave", ""}, {4 * time.Second, "leave", ""}, {12 * time.Second, "look", "vacate"}},
		"leaves unseen":          {{0, "leave", ""}, {30 * time.Second, "look", ""}},
		"comes again afterwards": {{0, "come", "occupy"}, {1 * time.Second, "leave", ""}, {11 * time.Second, "look", "vacate"}, {12 * time.Second, "come", "occupy"}},
		"Redis loses its data":   {{0, "come", "occupy"}, {1 * time.Second, "lost", "know"}, {2 * time.Second, "leave", ""}, {12 * time.Second, "look", "vacate"}},
		"taken for dead":         {{0, "come", "occupy"}, {1 * time.Second, "buried", "occupy"}},
		"lost while it lingers":  {{0, "come", "occupy"}, {1 * time.Second, "leave", ""}, {5 * time.Second, "lost", "know"}, {11 * time.Second, "look", ""}, {15 * time.Second, "look", "vacate"}},
		"dead while it lingers":  {{0, "come", "occupy"}, {1 * time.Second, "leave", ""}, {5 * time.Second, "buried", ""}, {15 * time.Second, "look", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			o, g, start := webhook.NewOccupancy(linger), testkit.Group(t, "acme", "room"), time.Now()
			for _, m := range moves {
				now := start.Add(m.at)
				switch m.do {
				case "come", "leave":
					o.Observe(g, m.do == "come", now)
				case "lost", "buried":
					o.Reconcile(nil, m.do == "lost", now)
				}
				if got := strings.TrimSuffix(strings.Join(steps(o, now), ", "), " room"); got != m.want {
					t.Errorf("%v %s: got %q, want %q", m.at, m.do, got, m.want)
				}
			}
		})
	}
}

// TestOccupancyForgets: groups that are vacated are not remembered.
func TestOccupancyForgets(t *testing.T) {
	o, now := webhook.NewOccupancy(time.Second), time.Now()
	for i := range 100 {
		g := testkit.Group(t, "acme", fmt.Sprint("room.", i))
		o.Observe(g, true, now)
		if i%2 == 0 {
			steps(o, now)
		}
		o.Observe(g, false, now)
	}
	steps(o, now.Add(time.Second))
	if groups, leaving, orgs := o.Size(); groups+leaving+orgs != 0 {
		t.Errorf("got %d groups, %d departures of %d organizations, want none", groups, leaving, orgs)
	}
}

// TestLingeringIsBounded: members who run through many groups cannot fill the memory of the node.
func TestLingeringIsBounded(t *testing.T) {
	o, now := webhook.NewOccupancy(time.Hour), time.Now()
	for i := range webhook.MaxLingering + 100 {
		g := testkit.Group(t, "acme", fmt.Sprint("room.", i))
		o.Observe(g, true, now)
		steps(o, now)
		o.Observe(g, false, now)
		steps(o, now)
	}
	if groups, leaving, _ := o.Size(); groups > webhook.MaxLingering || leaving > webhook.MaxLingering {
		t.Errorf("got %d groups and %d departures, want at most %d", groups, leaving, webhook.MaxLingering)
	}
	quiet := testkit.Group(t, "globex", "room")
	o.Observe(quiet, true, now)
	steps(o, now)
	o.Observe(quiet, false, now)
	if got := steps(o, now); got != nil {
		t.Errorf("another organization's group: got %v, want nothing yet", got)
	}
}

// TestOccupancyEndsRight: whatever happens in whatever order, what was written in the end is whether
// the group has connections, no two steps of a group are under way at once, and a stay shorter than
// the pause is written at most as an arrival.
func TestOccupancyEndsRight(t *testing.T) {
	groups := []event.Group{testkit.Group(t, "acme", "a"), testkit.Group(t, "acme", "b"), testkit.Group(t, "globex", "a")}
	rapid.Check(t, func(t *rapid.T) {
		o, now := webhook.NewOccupancy(10*time.Second), time.Now()
		present, redis := make(map[event.Group]bool), make(map[event.Group]bool)
		type under struct {
			g    event.Group
			what string
		}
		var way []under
		apply := func(u under) {
			redis[u.g] = u.what != "vacate"
			o.Done(u.g, u.what)
		}
		for range rapid.IntRange(1, 60).Draw(t, "moves") {
			g := rapid.SampledFrom(groups).Draw(t, "group")
			switch rapid.SampledFrom([]string{"come", "leave", "wait", "next", "done", "lost", "buried"}).Draw(t, "move") {
			case "come":
				present[g] = true
				o.Observe(g, true, now)
			case "leave":
				present[g] = false
				o.Observe(g, false, now)
			case "wait":
				now = now.Add(time.Duration(rapid.IntRange(1, 12).Draw(t, "seconds")) * time.Second)
			case "next":
				if g, what, ok := o.Next(now); ok {
					if slices.ContainsFunc(way, func(u under) bool { return u.g == g }) {
						t.Fatalf("two steps about %s under way", g)
					}
					way = append(way, under{g, what})
				}
			case "done":
				if len(way) > 0 {
					apply(way[0])
					way = way[1:]
				}
			case "lost", "buried":
				if len(way) == 0 {
					clear(redis)
					o.Reconcile(map[event.Group]bool{}, rapid.Bool().Draw(t, "lost"), now)
				}
			}
		}
		for _, u := range way {
			apply(u)
		}
		for range 3 {
			now = now.Add(time.Minute)
			for {
				g, what, ok := o.Next(now)
				if !ok {
					break
				}
				apply(under{g, what})
			}
		}
		for _, g := range groups {
			if redis[g] != present[g] {
				t.Fatalf("%s: written %v, has connections %v", g, redis[g], present[g])
			}
		}
	})
}
