package event_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"orgcast/internal/event"
)

// decoded returns an event with a text.
func decoded(tb testing.TB, g event.Group, text string) *event.Event {
	tb.Helper()
	payload := fmt.Sprintf(`{"type":"note","organization_id":"%s","text":%q}`, g.Organization(), text)
	e, err := event.Decode(g, payload, event.DefaultMaxSize, time.Unix(1, 0))
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// join joins the whole list into bursts.
func join(list []*event.Event, limit int) []*event.Burst {
	var bursts []*event.Burst
	for len(list) > 0 {
		var b *event.Burst
		b, list = event.NewBurst(list, limit)
		bursts = append(bursts, b)
	}
	return bursts
}

// TestBurstBorders: events that must not be written together are not joined, in whatever order they
// come.
func TestBurstBorders(t *testing.T) {
	all7, all8, room7, room70 := mustGroup(t, "7", "all"), mustGroup(t, "8", "all"), mustGroup(t, "7", "room"), mustGroup(t, "70", "room")
	tests := map[string]struct {
		groups []event.Group
		limit  int
		want   []int // number of events in each burst
	}{
		"one event":                          {[]event.Group{all7}, 1000, []int{1}},
		"one group":                          {[]event.Group{all7, all7, all7}, 1000, []int{3}},
		"one event over the limit":           {[]event.Group{all7}, 0, []int{1}},
		"all over the limit":                 {[]event.Group{all7, all7}, 0, []int{1, 1}},
		"up to the limit":                    {[]event.Group{all7, all7, all7}, 2 * decoded(t, all7, "x").Size(), []int{2, 1}},
		"one byte short":                     {[]event.Group{all7, all7, all7}, 2*decoded(t, all7, "x").Size() - 1, []int{1, 1, 1}},
		"two groups of one organization":     {[]event.Group{all7, room7}, 1000, []int{1, 1}},
		"equal names of two organizations":   {[]event.Group{all7, all8}, 1000, []int{1, 1}},
		"runs of equal names":                {[]event.Group{all7, all7, all8, all8, all8, all7}, 1000, []int{2, 3, 1}},
		"organization a beginning of others": {[]event.Group{room7, room7, room70, room70}, 1000, []int{2, 2}},
		"alternating":                        {[]event.Group{all7, all8, all7, all8}, 1000, []int{1, 1, 1, 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			list := make([]*event.Event, 0, len(test.groups))
			for _, g := range test.groups {
				list = append(list, decoded(t, g, "x"))
			}
			var got []int
			for _, b := range join(list, test.limit) {
				got = append(got, len(b.Events()))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("events of each burst: want (-), got (+):\n%s", diff)
			}
		})
	}
}

// TestPropertyBurst: bursts contain all events once and in order. Each burst has one group and one
// organization, stays within the limit, and is as long as these rules allow.
func TestPropertyBurst(t *testing.T) {
	var groups []event.Group
	for _, org := range []string{"7", "70", "8"} {
		for _, name := range []string{"all", "room"} {
			groups = append(groups, mustGroup(t, org, name))
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		var list []*event.Event
		for range rapid.IntRange(1, 8).Draw(rt, "runs") {
			g := rapid.SampledFrom(groups).Draw(rt, "group")
			for range rapid.IntRange(1, 4).Draw(rt, "length") {
				list = append(list, decoded(t, g, strings.Repeat("x", rapid.IntRange(0, 200).Draw(rt, "size"))))
			}
		}
		limit := rapid.IntRange(0, 1000).Draw(rt, "limit")
		var order []*event.Event
		var before *event.Burst
		for _, b := range join(slices.Clone(list), limit) {
			var frames []byte
			size := 0
			for _, e := range b.Events() {
				if e.Group() != b.Group() || e.Organization() != b.Organization() || b.Group().Organization() != b.Organization() {
					rt.Fatalf("%s in a burst of %s of organization %s", e, b.Group(), b.Organization())
				}
				frames = append(frames, frameOf(e)...)
				size += e.Size()
			}
			if !bytes.Equal(frames, plain(b).Frames()) || b.Size() != size {
				rt.Fatal("Frames differ from the frames of the events in a row")
			}
			if len(b.Events()) > 1 && size > limit {
				rt.Fatalf("%d bytes in a burst, want at most %d", size, limit)
			}
			if before != nil && before.Group() == b.Group() && before.Size()+b.Events()[0].Size() <= limit {
				rt.Fatal("a burst ended although the next event had room in it")
			}
			order = append(order, b.Events()...)
			before = b
		}
		if !slices.Equal(order, list) {
			rt.Fatal("not all events once and in order")
		}
	})
}

// TestAlone: the burst of a single event costs nothing.
func TestAlone(t *testing.T) {
	e := decoded(t, mustGroup(t, "7", "all"), "x")
	if allocs := testing.AllocsPerRun(100, func() { _ = plain(e.Alone()).Frames() }); allocs != 0 {
		t.Errorf("allocations: got %v, want 0", allocs)
	}
	if b, rest := event.NewBurst([]*event.Event{e}, 1000); b != e.Alone() || len(rest) != 0 {
		t.Error("NewBurst of one event is not that event's own burst")
	}
	if first := frameOf(e); &first[0] != &frameOf(e)[0] {
		t.Error("the frame is made for each receiver")
	}
}

func BenchmarkNewBurst(b *testing.B) {
	for _, size := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(size, "events"), func(b *testing.B) {
			e := decoded(b, mustGroup(b, "7", "all"), strings.Repeat("x", 100))
			list := slices.Repeat([]*event.Event{e}, size)
			b.ReportAllocs()
			for b.Loop() {
				event.NewBurst(list, 1<<20)
			}
		})
	}
}
