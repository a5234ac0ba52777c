package presence_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/presence"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// seatOf is a connection of a history.
type seatOf struct {
	*member

	node  int
	group event.Group
	user  string
	watch bool
}

// history is three nodes at a Redis, each behind a network that can break, and who is connected.
type history struct {
	tb      testing.TB
	server  *redistest.Server
	proxies [3]*redistest.Proxy
	nodes   [3]*gate
	seats   []*seatOf
}

func (h *history) start(i int) {
	client := redis.NewClient(&redis.Options{Addr: h.proxies[i].Addr, ContextTimeoutEnabled: true, MaxRetries: -1})
	h.tb.Cleanup(func() { _ = client.Close() })
	h.nodes[i] = startGate(h.tb, client, short, presence.Options{})
	h.nodes[i].SetGrace(500 * time.Millisecond)
}

// replace ends a node in order, or kills it, and starts another one.
func (h *history) replace(i int, inOrder bool) {
	h.seats = slices.DeleteFunc(h.seats, func(s *seatOf) bool {
		if s.node == i && inOrder {
			h.nodes[i].Leave(s.group, s.member, presence.Lost)
		}
		return s.node == i
	})
	if inOrder {
		_ = h.nodes[i].Close(h.tb.Context()) // Redis may be unreachable
	}
	h.nodes[i].kill()
	h.start(i)
}

// want returns who is in a group.
func (h *history) want(g event.Group) string {
	connections := make(map[string]int)
	for _, s := range h.seats {
		if s.group == g {
			connections[s.user]++
		}
	}
	var list []string
	for _, user := range slices.Sorted(maps.Keys(connections)) {
		list = append(list, user+strings.Repeat("'", connections[user]-1))
	}
	return strings.Join(list, " ")
}

// TestHistoriesOfNodes: three nodes at a real Redis whose users come and go, while nodes are killed
// and replaced, networks break, and Redis restarts and loses its data. Afterwards everyone sees who
// is there, and nobody else.
func TestHistoriesOfNodes(t *testing.T) {
	t.Parallel()
	groups := []event.Group{testkit.Group(t, "acme", "all"), testkit.Group(t, "acme", "room.1"), testkit.Group(t, "globex", "all")}
	for range 4 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 0))
			h := &history{tb: t, server: redistest.StartServer(t)}
			for i := range h.proxies {
				h.proxies[i] = redistest.StartProxy(t, h.server.Addr)
				h.start(i)
			}
			admin := redistest.NewClient(t, h.server.Addr)
			var steps []string
			for range 60 {
				i, what := random.IntN(3), random.IntN(20)
				steps = append(steps, fmt.Sprint(what, "@", i))
				switch {
				case what < 8:
					s := &seatOf{node: i, group: groups[random.IntN(len(groups))], user: fmt.Sprint("u", random.IntN(4)), watch: random.IntN(2) == 0}
					s.member = h.nodes[i].attend(t, s.group, s.user, s.watch)
					h.seats = append(h.seats, s)
				case what < 12 && len(h.seats) > 0:
					at := random.IntN(len(h.seats))
					s := h.seats[at]
					h.seats = slices.Delete(h.seats, at, at+1)
					h.nodes[s.node].Leave(s.group, s.member, presence.Departure(random.IntN(3)))
				case what == 12:
					h.replace(i, false)
				case what == 13:
					h.replace(i, true)
				case what == 14:
					h.proxies[i].Redirect("127.0.0.1:1") // nobody is there
				case what == 15:
					h.proxies[i].Redirect(h.server.Addr)
				case what == 16:
					_ = admin.FlushAll(t.Context()).Err()
				case what == 17 && random.IntN(3) == 0:
					h.server.Stop()
					h.server.Restart()
				default:
					time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond) // so that some of it is under way
				}
			}
			for i := range h.proxies {
				h.proxies[i].Redirect(h.server.Addr)
			}
			for _, s := range h.seats {
				if !s.watch {
					continue
				}
				want := h.want(s.group)
				for deadline := time.Now().Add(testkit.Patience); s.sees() != want; time.Sleep(20 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%s at %d sees %q of %s, want %q; frames %s; steps %v", s.user, s.node, s.sees(), s.group, want, s.shown(), steps)
					}
				}
			}
			for _, g := range groups {
				for i, n := range h.nodes {
					testkit.Eventually(t, fmt.Sprint("who is in ", g, " at ", i, ": ", h.want(g), " after ", steps), func() bool {
						who, err := n.Who(t.Context(), g)
						if err != nil {
							return false
						}
						var list []string
						for _, u := range who.Users {
							list = append(list, u.UserID+strings.Repeat("'", u.Connections-1))
						}
						return strings.Join(list, " ") == h.want(g)
					})
				}
			}
		})
	}
}
