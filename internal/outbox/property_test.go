package outbox_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"orgcast/internal/event"
	"orgcast/internal/outbox"
)

// modeled is what a client may know of a group.
type modeled struct {
	n      int            // of the newest event
	last   int            // of the last event that was written
	latest map[string]int // the newest event of each type
	shown  map[string]int // the last that was written of each type
	told   bool           // of a gap since the last event
	isHeld bool
}

// TestPropertyOutbox: whatever comes in whatever order, and however slowly it is written, each
// client has the events of each group in order and once. Where some are missing the policy allows
// that: by drop_oldest the client was told first, by latest it has the newest of each type. What
// waits is never more than may, and in the end nothing is in the books.
func TestPropertyOutbox(t *testing.T) {
	for name, policy := range map[string]outbox.Policy{"disconnect": outbox.Disconnect, "drop_oldest": outbox.DropOldest, "latest": outbox.Latest} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				var budget outbox.Budget
				o := newOutbox(policy, small, &budget)
				groups := []event.Group{mustGroup(rt, "a"), mustGroup(rt, "b"), mustGroup(rt, "c")}
				model := make(map[event.Group]*modeled)
				for _, g := range groups {
					model[g] = &modeled{latest: map[string]int{}, shown: map[string]int{}}
				}
				var claimed *outbox.Batch
				var own, ownShown int
				dropped, full := 0, false
				take := func(out outbox.Outcome) {
					dropped += out.Dropped
					full = full || out.Full
				}
				finish := func() {
					for i := range claimed.Len() {
						it := claimed.Item(i)
						for _, line := range text(it) {
							if name, ok := strings.CutPrefix(line, gapText); ok {
								model[mustGroup(rt, name)].told = true
								continue
							}
							var name, typ string
							var n int
							if _, err := fmt.Sscanf(line, "own %d", &n); err == nil {
								if ownShown++; n != ownShown {
									rt.Fatalf("frame %d of the server's own came as number %d", n, ownShown)
								}
								continue
							}
							if _, err := fmt.Sscan(line, &name, &typ, &n); err != nil {
								rt.Fatal(line, err)
							}
							m := model[mustGroup(rt, name)]
							if n <= m.last {
								rt.Fatalf("%s: event %d after %d", name, n, m.last)
							}
							if n != m.last+1 && policy != outbox.Latest && !m.told {
								rt.Fatalf("%s: event %d after %d, and no word of a gap", name, n, m.last)
							}
							m.last, m.shown[typ], m.told = n, n, false
						}
					}
					o.Done(claimed)
					claimed = nil
				}
				actions := map[string]func(*rapid.T){
					"offer": func(rt *rapid.T) {
						g := rapid.SampledFrom(groups).Draw(rt, "group")
						m := model[g]
						var list []*event.Event
						for range rapid.IntRange(1, 4).Draw(rt, "events") {
							m.n++
							typ := rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "type")
							m.latest[typ] = m.n
							list = append(list, numbered(rt, g, typ, m.n, true))
						}
						b, _ := event.NewBurst(list, 1<<20)
						take(o.Offer(b))
					},
					"push": func(*rapid.T) {
						out := o.Push(fmt.Appendf(nil, "own %d", own+1))
						if take(out); !out.Full {
							own++
						}
					},
					"hold": func(rt *rapid.T) {
						g := rapid.SampledFrom(groups).Draw(rt, "group")
						if err := o.Hold(g); (err != nil) != model[g].isHeld {
							rt.Fatalf("hold: got %v", err)
						}
						model[g].isHeld = true
					},
					"release": func(rt *rapid.T) {
						g := rapid.SampledFrom(groups).Draw(rt, "group")
						take(o.Release(g, event.Position{}))
						model[g].isHeld = false
					},
					"claim": func(*rapid.T) {
						if claimed == nil {
							if claimed = o.Claim(); claimed != nil {
								o.Charge(claimed)
							}
						}
					},
					"finish": func(*rapid.T) {
						if claimed != nil {
							finish()
						}
					},
					"": func(rt *rapid.T) {
						waiting := o.Bytes()
						if claimed != nil && policy != outbox.Disconnect {
							waiting -= claimed.Bytes()
						}
						const news = 3 * len(gapText+"a") // of each group one may come on top
						if waiting > small+news {
							rt.Fatalf("%d bytes wait, want at most %d", waiting, small)
						}
						if dropped > 0 && policy == outbox.Disconnect {
							rt.Fatal("dropped: ", dropped)
						}
					},
				}
				for name, act := range actions {
					actions[name] = func(rt *rapid.T) {
						if !full { // then the connection ends
							act(rt)
						}
					}
				}
				rt.Repeat(actions)
				for _, g := range groups {
					take(o.Release(g, event.Position{}))
				}
				for {
					if claimed == nil {
						if claimed = o.Claim(); claimed == nil {
							break
						}
					}
					finish()
				}
				if full {
					return
				}
				for g, m := range model {
					switch {
					case policy == outbox.Latest:
						if diff := cmp.Diff(m.latest, m.shown); diff != "" {
							rt.Fatal(g, " the newest of each type (-want +got) ", diff)
						}
					case m.last != m.n && !m.told:
						rt.Fatalf("%v: got events up to %d, want %d or word of a gap", g, m.last, m.n)
					}
				}
				if own != ownShown || o.Bytes() != 0 || budget.Used() != 0 {
					rt.Fatalf("got %d of %d frames of the server's own; left %d bytes, %d of the budget", ownShown, own, o.Bytes(), budget.Used())
				}
			})
		})
	}
}
