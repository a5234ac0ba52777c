package pubsubtest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
)

// Record records texts and returns their Items, or fails the test.
func Record(tb testing.TB, bus Bus, g event.Group, o event.Recording, texts ...string) []Item {
	tb.Helper()
	items := make([]Item, len(texts))
	for i, text := range texts {
		position, err := bus.Record(tb.Context(), g, []byte(Payload(g, text)), o)
		if err != nil || position.IsZero() {
			tb.Fatalf("Record to %v: got %v, %v", g, position, err)
		}
		items[i] = Item{Group: g, Payload: Payload(g, text), Position: position}
	}
	return items
}

// History reads a history, or fails the test.
func History(tb testing.TB, bus Bus, g event.Group, n int) []Item {
	tb.Helper()
	events, err := bus.History(tb.Context(), g, n)
	if err != nil {
		tb.Fatalf("History of %v: %v", g, err)
	}
	return itemsOf(events)
}

func itemsOf(events []*event.Event) (items []Item) {
	for _, e := range events {
		items = append(items, itemOf(e))
	}
	return items
}

// expect compares items, or fails the test.
func expect(t trial, what string, want, got []Item) {
	t.Helper()
	if diff := cmp.Diff(want, got, equalItems, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s differs (-want +got):\n%s", what, diff)
	}
}

// expectSince compares what Since returns.
func expectSince(t trial, g event.Group, after event.Position, limit int, want []Item, wantComplete bool) {
	t.Helper()
	events, complete, err := t.Bus.Since(t.Context(), g, after, limit)
	if err != nil {
		t.Fatalf("Since(%v): %v", after, err)
	}
	expect(t, fmt.Sprintf("Since(%v)", after), want, itemsOf(events))
	if after.IsZero() && len(want) > 0 && t.Uncounted {
		wantComplete = false
	}
	if complete != wantComplete {
		t.Fatalf("Since(%v): got complete %t, want %t", after, complete, wantComplete)
	}
}

// numbers returns n texts, counting from 0.
func numbers(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprint(i)
	}
	return texts
}

func recorded(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	g := testkit.Group(t, "acme", "room")
	early := Record(t, t.Bus, g, event.Recording{}, "nobody listened")
	Subscribe(t, t.Bus, g)
	want := Record(t, t.Bus, g, event.Recording{}, numbers(50)...)
	sink.WaitFor(t, want[len(want)-1])
	expect(t, "what arrived", want, sink.Items())
	all := append(early, want...)
	for i := 1; i < len(all); i++ {
		if all[i].Position.Compare(all[i-1].Position) <= 0 {
			t.Fatalf("position %v after %v", all[i].Position, all[i-1].Position)
		}
	}
	Publish(t, t.Bus, g, "transient")
	for n, from := range map[int]int{0: 51, -1: 51, 1: 50, 10: 41, 50: 1, 51: 0, 1000: 0} {
		expect(t, fmt.Sprintf("History of %d", n), append([]Item(nil), all[from:]...), History(t, t.Bus, g, n))
	}
}

// longHistory reads a history of several pages, at all lengths near page borders.
func longHistory(t trial) {
	g := testkit.Group(t, "acme", "room")
	all := Record(t, t.Bus, g, event.Recording{}, numbers(300)...)
	for _, n := range []int{1, 127, 128, 129, 255, 256, 257, 299, 300, 301, 1000} {
		expect(t, fmt.Sprintf("History of %d", n), all[max(0, len(all)-n):], History(t, t.Bus, g, n))
	}
}

// largeHistory reads a history of which only the newest events fit.
func largeHistory(t trial) {
	g := testkit.Group(t, "acme", "room")
	const size = 200 << 10
	texts := numbers(40)
	for i := range texts {
		texts[i] += strings.Repeat("x", size)
	}
	all := Record(t, t.Bus, g, event.Recording{}, texts...)
	fit := pubsub.HistoryBytes / len(all[0].Payload)
	expect(t, "a large history", all[len(all)-fit:], History(t, t.Bus, g, 100))
	expect(t, "a few of it", all[len(all)-3:], History(t, t.Bus, g, 3))
}

func recordedBatch(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	g, other := testkit.Group(t, "acme", "room"), testkit.Group(t, "rival", "room")
	Subscribe(t, t.Bus, g, other)
	keep := new(event.Recording)
	payload := func(g event.Group, text string) []byte { return []byte(Payload(g, text)) }
	results := t.Bus.PublishAll(t.Context(), []event.Publication{
		{Group: g, Payload: payload(g, "1"), Record: keep},
		{Group: g, Payload: payload(g, "2")},
		{Group: other, Payload: payload(g, "foreign"), Record: keep},
		{Group: g, Payload: payload(g, "3"), Record: &event.Recording{IdempotencyKey: "é"}},
		{Group: g, Payload: payload(g, "4"), Record: keep},
		{Group: other, Payload: payload(other, "5"), Record: keep},
	})
	for i, want := range []error{nil, nil, event.ErrForeign, event.ErrInvalidIdempotencyKey, nil, nil} {
		if !errors.Is(results[i].Err, want) || results[i].Position.IsZero() != (want != nil || i == 1) {
			t.Fatalf("result %d: got %v, want the error %v", i, results[i], want)
		}
	}
	item := func(i int, g event.Group, text string) Item {
		return Item{Group: g, Payload: Payload(g, text), Position: results[i].Position}
	}
	want := []Item{item(0, g, "1"), item(1, g, "2"), item(4, g, "4"), item(5, other, "5")}
	kept := []Item{want[0], want[2]}
	sink.WaitFor(t, want[2])
	sink.WaitFor(t, want[3])
	expect(t, "what arrived", want[:3], sink.Of(g))
	expect(t, "what arrived", want[3:], sink.Of(other)) // events of different organizations have no common order
	expect(t, "history", kept, History(t, t.Bus, g, 100))
}

func idempotent(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	g, other := testkit.Group(t, "acme", "room"), testkit.Group(t, "acme", "other")
	Subscribe(t, t.Bus, g, other)
	once := event.Recording{IdempotencyKey: "order:17"}
	first := Record(t, t.Bus, g, once, "paid")
	for _, again := range Record(t, t.Bus, g, once, "paid", "something else") {
		if again.Position != first[0].Position {
			t.Errorf("the same key again: got %v, want %v", again.Position, first[0].Position)
		}
	}
	want := append(first, Record(t, t.Bus, g, event.Recording{IdempotencyKey: "order:18"}, "another key")...)
	want = append(want, Record(t, t.Bus, g, event.Recording{}, "no key", "no key")...)
	elsewhere := Record(t, t.Bus, other, once, "another group")
	sink.WaitFor(t, elsewhere[0])
	expect(t, "what arrived", append(want, elsewhere...), sink.Items())
	expect(t, "history", want, History(t, t.Bus, g, 100))
	for _, key := range []string{"a b", "é", "\n", strings.Repeat("k", event.MaxIdempotencyKeyLength+1)} {
		if _, err := t.Bus.Record(t.Context(), g, []byte(Payload(g, "x")), event.Recording{IdempotencyKey: key}); !errors.Is(err, event.ErrInvalidIdempotencyKey) {
			t.Errorf("key %q: got %v, want %v", key, err, event.ErrInvalidIdempotencyKey)
		}
	}
	// Publish many at once.
	var wg sync.WaitGroup
	positions := make([]event.Position, 8)
	for i := range positions {
		wg.Go(func() {
			var err error
			if positions[i], err = t.Bus.Record(t.Context(), g, []byte(Payload(g, fmt.Sprint(i))), event.Recording{IdempotencyKey: "race"}); err != nil {
				t.Errorf("Record: %v", err)
			}
		})
	}
	wg.Wait()
	for _, p := range positions {
		if p != positions[0] {
			t.Errorf("one key at the same time: got %v", positions)
		}
	}
	if got := len(History(t, t.Bus, g, 100)); got != len(want)+1 {
		t.Errorf("history: got %d, want %d", got, len(want)+1)
	}
}

func notRecorded(t trial) {
	g := testkit.Group(t, "7", "room")
	for payload, want := range map[string]error{
		``:                                     event.ErrNotObject,
		`{"type":"t"}`:                         event.ErrNoOrganization,
		`{"type":"t","organization_id":8}`:     event.ErrForeign,
		`1-1 {"type":"t","organization_id":7}`: event.ErrNotObject, // publishers cannot choose positions
	} {
		if _, err := t.Bus.Record(t.Context(), g, []byte(payload), event.Recording{}); !errors.Is(err, want) {
			t.Errorf("Record(%q): got %v, want %v", payload, err, want)
		}
		if err := t.Bus.Publish(t.Context(), g, []byte(payload)); !errors.Is(err, want) {
			t.Errorf("Publish(%q): got %v, want %v", payload, err, want)
		}
	}
	if got := History(t, t.Bus, g, 10); len(got) != 0 {
		t.Errorf("history: got %v, want nothing", got)
	}
	if _, err := t.Bus.Record(t.Context(), event.Group{}, []byte(`{"type":"t","organization_id":7}`), event.Recording{}); !errors.Is(err, event.ErrForeign) {
		t.Errorf("Record to no group: got %v, want %v", err, event.ErrForeign)
	}
}

func boundedLength(t trial) {
	g := testkit.Group(t, "acme", "room")
	const most, slack = 10, 100 // Redis drops whole blocks of its stream
	all := Record(t, t.Bus, g, event.Recording{MaxLength: most}, numbers(3*slack)...)
	kept := History(t, t.Bus, g, len(all))
	if len(kept) < most || len(kept) > most+slack {
		t.Fatalf("kept %d, want %d to %d", len(kept), most, most+slack)
	}
	expect(t, "history", append([]Item(nil), all[len(all)-len(kept):]...), kept)
	expectSince(t, g, event.Position{}, len(all), kept, false)
	expectSince(t, g, all[0].Position, len(all), kept, false)
	expectSince(t, g, kept[0].Position, len(all), kept[1:], true)
}

func boundedAge(t trial) {
	g := testkit.Group(t, "acme", "room")
	old := Record(t, t.Bus, g, event.Recording{IdempotencyKey: "k"}, "old")
	short := event.Recording{MaxAge: 2 * time.Millisecond, IdempotencyKey: "s"}
	first := Record(t, t.Bus, g, short, "short")
	Eventually(t, "the old event goes, the key may be used again", func() bool {
		if t.Pass != nil {
			t.Pass(short.MaxAge)
		}
		return Record(t, t.Bus, g, short, "short")[0].Position != first[0].Position
	})
	for _, item := range History(t, t.Bus, g, 100) {
		if item == old[0] {
			t.Error("the old event is still there")
		}
	}
	Eventually(t, "the history expires as a whole", func() bool {
		if t.Pass != nil {
			t.Pass(short.MaxAge)
		}
		return len(History(t, t.Bus, g, 100)) == 0
	})
	// The lost history counts as missed.
	expectSince(t, g, old[0].Position, 10, nil, false)
	// A new history within the same millisecond would begin at the same position.
	Eventually(t, "the next millisecond", func() bool { return time.Now().UnixMilli() > int64(old[0].Position.Milliseconds()) }) //nolint:gosec // until the year 292278994
	fresh := Record(t, t.Bus, g, event.Recording{}, "fresh")
	expectSince(t, g, old[0].Position, 10, fresh, false)
	if again := Record(t, t.Bus, g, event.Recording{IdempotencyKey: "k"}, "old"); again[0].Position != old[0].Position {
		t.Errorf("the key of the old event: got %v, want %v", again[0].Position, old[0].Position)
	}
}

func since(t trial) {
	g := testkit.Group(t, "acme", "room")
	all := Record(t, t.Bus, g, event.Recording{}, numbers(20)...)
	last := all[len(all)-1].Position
	tests := map[string]struct {
		after    event.Position
		limit    int
		from     int // index among all events
		complete bool
	}{
		"the last":                       {last, 100, 20, true},
		"the one before":                 {all[18].Position, 100, 19, true},
		"the first":                      {all[0].Position, 100, 1, true},
		"the beginning":                  {event.Position{}, 100, 0, true},
		"as many as the limit":           {all[9].Position, 10, 10, true},
		"more than the limit":            {all[8].Position, 10, 10, false},
		"the beginning, exactly":         {event.Position{}, 20, 0, true},
		"the beginning, and one more":    {event.Position{}, 19, 1, false},
		"limit of one":                   {all[18].Position, 1, 19, true},
		"limit of zero":                  {all[18].Position, 0, 20, false},
		"before the first":               {event.NewPosition(1, 1), 100, 0, false},
		"of the future":                  {event.NewPosition(last.Milliseconds()+1e9, 0), 100, 20, false},
		"never there, between":           {event.NewPosition(last.Milliseconds(), last.Sequence()+1), 100, 20, false},
		"never there, before the newest": {event.NewPosition(all[0].Position.Milliseconds()-1, 7), 100, 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(tt *testing.T) {
			expectSince(trial{T: tt, Fixture: t.Fixture}, g, test.after, test.limit, append([]Item(nil), all[test.from:]...), test.complete)
		})
	}
}

func sinceNothing(t trial) {
	g := testkit.Group(t, "acme", "room")
	expectSince(t, g, event.Position{}, 10, nil, true)
	expectSince(t, g, event.NewPosition(1, 1), 10, nil, false)
	if got := History(t, t.Bus, g, 10); len(got) != 0 {
		t.Errorf("history: got %v, want nothing", got)
	}
	first := Record(t, t.Bus, g, event.Recording{}, "first")
	expectSince(t, g, event.Position{}, 10, first, true)
}

func twoHistories(t trial) {
	ours, theirs := testkit.Group(t, "acme", "research_7"), testkit.Group(t, "rival", "research_7")
	secret := Record(t, t.Bus, theirs, event.Recording{}, "secret")
	if got := History(t, t.Bus, ours, 10); len(got) != 0 {
		t.Fatalf("history: got %v, want nothing", got)
	}
	own := Record(t, t.Bus, ours, event.Recording{}, "own")
	expect(t, "history", own, History(t, t.Bus, ours, 10))
	// A position of another organization gives no access.
	expectSince(t, ours, secret[0].Position, 10, keepAfter(own, secret[0].Position), own[0].Position == secret[0].Position)
}

// keepAfter returns the items after a position.
func keepAfter(items []Item, after event.Position) (kept []Item) {
	for _, item := range items {
		if item.Position.Compare(after) > 0 {
			kept = append(kept, item)
		}
	}
	return kept
}

// sameOrder: if several publish at the same time, all readers see the order of the history.
func sameOrder(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	g := testkit.Group(t, "acme", "room")
	Subscribe(t, t.Bus, g)
	const publishers, each = 8, 25
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				if _, err := t.Bus.Record(t.Context(), g, []byte(Payload(g, fmt.Sprint(p, "/", i))), event.Recording{}); err != nil {
					t.Errorf("Record: %v", err)
				}
			}
		})
	}
	wg.Wait()
	want := History(t, t.Bus, g, 2*publishers*each)
	if len(want) != publishers*each {
		t.Fatalf("history: got %d events, want %d", len(want), publishers*each)
	}
	sink.WaitFor(t, want[len(want)-1])
	expect(t, "what arrived", want, sink.Items())
}

// positionsGoBack: positions in one history only grow. If they go back, the history was lost, and
// members get one gap, even on a connection that stays up.
func positionsGoBack(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	g, other := testkit.Group(t, "acme", "room"), testkit.Group(t, "acme", "other")
	Subscribe(t, t.Bus, g, other)
	if err := t.Ahead(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	before := Record(t, t.Bus, g, event.Recording{}, "before")
	elsewhere := Record(t, t.Bus, other, event.Recording{}, "elsewhere")
	sink.WaitFor(t, before[0])
	if err := t.Lose(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	after := Record(t, t.Bus, g, event.Recording{}, numbers(3)...)
	if after[0].Position.Compare(before[0].Position) >= 0 {
		t.Fatalf("positions: got %v after %v, want one before it", after[0].Position, before[0].Position)
	}
	elsewhere = append(elsewhere, Record(t, t.Bus, other, event.Recording{}, "too")...)
	sink.WaitFor(t, after[2])
	sink.WaitFor(t, elsewhere[1])
	expect(t, "what arrived", append(append(before, Gap(g)), after...), sink.Of(g))
	expect(t, "what arrived", elsewhere, sink.Of(other))
}
