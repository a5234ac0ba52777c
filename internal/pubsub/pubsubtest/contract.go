package pubsubtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"orgcast/internal/event"
	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
)

// Bus is the common interface of the buses of package pubsub.
type Bus interface {
	Subscribe(ctx context.Context, g event.Group) error
	Unsubscribe(g event.Group)
	Publish(ctx context.Context, g event.Group, payload []byte) error
	PublishAll(ctx context.Context, out []event.Publication) []event.Receipt
	Record(ctx context.Context, g event.Group, payload []byte, o event.Recording) (event.Position, error)
	History(ctx context.Context, g event.Group, n int) ([]*event.Event, error)
	Since(ctx context.Context, g event.Group, after event.Position, limit int) (events []*event.Event, complete bool, err error)
	Healthy() error
	Run(ctx context.Context, sink pubsub.Sink) error
}

// Fixture is a bus that does not run yet.
type Fixture struct {
	Bus Bus
	// Inject publishes without the checks of Publish, as a back end in another language can. It is
	// nil if the bus has no such way.
	Inject func(ctx context.Context, g event.Group, payload string) error
	// Pass makes time pass for recorded events. It is nil if real time passes.
	Pass func(d time.Duration)
	// Ahead makes the next position of a group's history lie an hour ahead. Lose loses that
	// history, so that the next position follows the clock again.
	Ahead, Lose func(ctx context.Context, g event.Group) error
	// Uncounted says that the server does not count the dropped entries of a history, so that no
	// answer can be complete from the beginning.
	Uncounted bool
}

// Payload returns a payload for the group that contains a text.
func Payload(g event.Group, text string) string {
	return fmt.Sprintf(`{"type":"t","organization_id":%q,"text":%q}`, g.Organization(), text)
}

// Message returns the Item for the payload that [Payload] returns.
func Message(g event.Group, text string) Item { return Item{Group: g, Payload: Payload(g, text)} }

// Start runs the bus until the returned function is called, which waits for the end of Run, or
// until the test ends.
func Start(tb testing.TB, bus Bus, sink pubsub.Sink) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1) // one result, so that Run's goroutine ends in any case
	go func() { done <- bus.Run(ctx, sink) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				tb.Errorf("Run: got %v, want nil", err)
			}
		case <-time.After(Patience):
			tb.Error("Run did not return after its context ended")
		}
	})
	tb.Cleanup(stop)
	return stop
}

// Subscribe subscribes to groups, or fails the test.
func Subscribe(tb testing.TB, bus Bus, groups ...event.Group) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for _, g := range groups {
		if err := bus.Subscribe(ctx, g); err != nil {
			tb.Fatalf("Subscribe(%v): %v", g, err)
		}
	}
}

// Publish publishes texts, or fails the test.
func Publish(tb testing.TB, bus Bus, g event.Group, texts ...string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	for _, text := range texts {
		if err := bus.Publish(ctx, g, []byte(Payload(g, text))); err != nil {
			tb.Fatalf("Publish to %v: %v", g, err)
		}
	}
}

// trial is the input of one part of the contract.
type trial struct {
	*testing.T
	Fixture
}

// Run tests a bus against the contract. It calls newFixture for each part.
func Run(t *testing.T, newFixture func(t *testing.T) Fixture) {
	t.Helper()
	for name, part := range map[string]func(t trial){
		"events arrive in order":                 inOrder,
		"events arrive in order from PublishAll": inOrderAll,
		"subscriptions are counted":              counted,
		"equal names of two organizations":       twoOrganizations,
		"many subscribers at once":               manySubscribers,
		"malformed payloads do no harm":          malformed,
		"Subscribe ends with its context":        subscribeEnds,
		"Run ends with its context":              runEnds,
		"Run runs once":                          runsOnce,
		"a second Run reports gaps":              runsAgain,
		"the zero group":                         zeroGroup,
		"Unsubscribe without Subscribe":          unsubscribeAlone,
		"recorded events arrive and stay":        recorded,
		"a history of several pages":             longHistory,
		"a large history is read in part":        largeHistory,
		"recorded and transient in one batch":    recordedBatch,
		"an idempotency key counts once":         idempotent,
		"refused payloads are not recorded":      notRecorded,
		"histories have a length":                boundedLength,
		"histories have an age":                  boundedAge,
		"what was missed":                        since,
		"what was missed of nothing":             sinceNothing,
		"histories of two organizations":         twoHistories,
		"order of channel and history":           sameOrder,
		"positions that go back are a gap":       positionsGoBack,
	} {
		t.Run(name, func(t *testing.T) { part(trial{T: t, Fixture: newFixture(t)}) })
	}
}

func inOrder(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	g := testkit.Group(t, "acme", "room")
	Subscribe(t, t.Bus, g)
	var want []Item
	for i := range 200 {
		Publish(t, t.Bus, g, fmt.Sprint(i))
		want = append(want, Message(g, fmt.Sprint(i)))
	}
	sink.WaitFor(t, want[len(want)-1])
	if diff := cmp.Diff(want, sink.Items(), equalItems); diff != "" {
		t.Fatalf("items differ (-want +got):\n%s", diff)
	}
}

func inOrderAll(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	g := testkit.Group(t, "acme", "room")
	Subscribe(t, t.Bus, g)
	results := t.Bus.PublishAll(t.Context(), []event.Publication{
		{Group: g, Payload: []byte(Payload(g, "1"))},
		{Group: g, Payload: []byte(`{"type":"t","organization_id":"rival"}`)},
		{Group: g, Payload: []byte(Payload(g, "2"))},
	})
	if len(results) != 3 || results[0].Err != nil || !errors.Is(results[1].Err, event.ErrForeign) || results[2].Err != nil {
		t.Fatalf("PublishAll: got %v, want the second alone to be foreign", results)
	}
	sink.WaitFor(t, Message(g, "2"))
	want := []Item{Message(g, "1"), Message(g, "2")}
	if diff := cmp.Diff(want, sink.Items(), equalItems); diff != "" {
		t.Fatalf("items differ (-want +got):\n%s", diff)
	}
	if results := t.Bus.PublishAll(t.Context(), nil); len(results) != 0 {
		t.Fatalf("PublishAll of nothing: got %v, want nothing", results)
	}
}

func counted(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	g, other := testkit.Group(t, "acme", "room"), testkit.Group(t, "acme", "other")
	Subscribe(t, t.Bus, g, g, other)
	t.Bus.Unsubscribe(g)
	Publish(t, t.Bus, g, "kept by the second")
	sink.WaitFor(t, Message(g, "kept by the second"))
	t.Bus.Unsubscribe(g)
	Publish(t, t.Bus, g, "nobody wants it")
	// The bus keeps order, so every earlier event has come before this one.
	Publish(t, t.Bus, other, "last")
	sink.WaitFor(t, Message(other, "last"))
	Subscribe(t, t.Bus, g)
	Publish(t, t.Bus, g, "again")
	sink.WaitFor(t, Message(g, "again"))
	want := []Item{Message(g, "kept by the second"), Message(other, "last"), Message(g, "again")}
	if diff := cmp.Diff(want, sink.Items(), equalItems); diff != "" {
		t.Fatalf("items differ (-want +got):\n%s", diff)
	}
}

func twoOrganizations(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	ours, theirs := testkit.Group(t, "acme", "research_7"), testkit.Group(t, "rival", "research_7")
	Subscribe(t, t.Bus, ours)
	Publish(t, t.Bus, theirs, "secret")
	Publish(t, t.Bus, ours, "ours")
	sink.WaitFor(t, Message(ours, "ours"))
	if diff := cmp.Diff([]Item{Message(ours, "ours")}, sink.Items(), equalItems); diff != "" {
		t.Fatalf("items differ (-want +got):\n%s", diff)
	}
	// With both wanted, each event still goes to its own group.
	Subscribe(t, t.Bus, theirs)
	Publish(t, t.Bus, theirs, "theirs")
	sink.WaitFor(t, Message(theirs, "theirs"))
	if got := len(sink.Of(ours)); got != 1 {
		t.Fatalf("items of %v: got %d, want 1", ours, got)
	}
}

func manySubscribers(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	const workers, rounds, names = 16, 30, 10
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				g := testkit.Group(t, fmt.Sprintf("org%d", w%2), fmt.Sprintf("g%d", (w*i)%names))
				if err := t.Bus.Subscribe(ctx, g); err != nil {
					t.Errorf("Subscribe(%v): %v", g, err)
					return
				}
				text := fmt.Sprintf("%d/%d", w, i)
				if err := t.Bus.Publish(ctx, g, []byte(Payload(g, text))); err != nil {
					t.Errorf("Publish to %v: %v", g, err)
				}
				sink.WaitFor(t, Message(g, text))
				t.Bus.Unsubscribe(g)
			}
		})
	}
	wg.Wait()
	// Nothing is left behind: no count, no event.
	before := len(sink.Items())
	for n := range names {
		Publish(t, t.Bus, testkit.Group(t, "org0", fmt.Sprintf("g%d", n)), "late")
	}
	last := testkit.Group(t, "org0", "last")
	Subscribe(t, t.Bus, last)
	Publish(t, t.Bus, last, "last")
	sink.WaitFor(t, Message(last, "last"))
	if got := len(sink.Items()) - before; got != 1 {
		t.Fatalf("items after all left: got %d, want 1", got)
	}
}

func malformed(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	g := testkit.Group(t, "7", "room")
	Subscribe(t, t.Bus, g)
	for name, test := range map[string]struct {
		payload string
		want    error
	}{
		"empty":                      {"", event.ErrNotObject},
		"array":                      {`[{"type":"t","organization_id":7}]`, event.ErrNotObject},
		"truncated":                  {`{"type":"t","organization_id":7`, event.ErrNotObject},
		"two objects":                {`{"type":"t","organization_id":7}{}`, event.ErrNotObject},
		"not UTF-8":                  {"{\"type\":\"t\",\"organization_id\":7,\"x\":\"\xff\"}", event.ErrNotUTF8},
		"no organization":            {`{"type":"t"}`, event.ErrNoOrganization},
		"organization in a part":     {`{"type":"t","data":{"organization_id":7}}`, event.ErrNoOrganization},
		"organization as a float":    {`{"type":"t","organization_id":7.0}`, event.ErrNoOrganization},
		"foreign organization":       {`{"type":"t","organization_id":8}`, event.ErrForeign},
		"two organizations":          {`{"type":"t","organization_id":7,"organization_id":8}`, event.ErrDuplicateField},
		"two organizations, escaped": {`{"type":"t","organization_id":7,"organi\u007aation_id":8}`, event.ErrDuplicateField},
		"no type":                    {`{"organization_id":7}`, event.ErrInvalidType},
		"too large":                  {`{"type":"t","organization_id":7,"x":"` + strings.Repeat("x", event.DefaultMaxSize) + `"}`, event.ErrTooLarge},
		"nested too deep":            {`{"type":"t","organization_id":7,"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`, event.ErrNotObject},
	} {
		if err := t.Bus.Publish(t.Context(), g, []byte(test.payload)); !errors.Is(err, test.want) {
			t.Errorf("Publish %s: got %v, want %v", name, err, test.want)
		}
		if t.Inject != nil {
			if err := t.Inject(t.Context(), g, test.payload); err != nil {
				t.Fatalf("inject %s: %v", name, err)
			}
		}
	}
	Publish(t, t.Bus, g, "good")
	sink.WaitFor(t, Message(g, "good"))
	if diff := cmp.Diff([]Item{Message(g, "good")}, sink.Items(), equalItems); diff != "" {
		t.Fatalf("items differ (-want +got):\n%s", diff)
	}
}

func subscribeEnds(t trial) {
	// Run does not run, so nothing is confirmed.
	g := testkit.Group(t, "acme", "room")
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error, 1) // one result
	go func() { result <- t.Bus.Subscribe(ctx, g) }()
	why := errors.New("the connection ended")
	cancel(why)
	if err := <-result; !errors.Is(err, why) {
		t.Fatalf("Subscribe: got %v, want %v", err, why)
	}
	// The failed Subscribe does not count.
	var sink Recorder
	Start(t, t.Bus, &sink)
	other := testkit.Group(t, "acme", "other")
	Subscribe(t, t.Bus, other)
	Publish(t, t.Bus, g, "nobody wants it")
	Publish(t, t.Bus, other, "last")
	sink.WaitFor(t, Message(other, "last"))
	if got := sink.Of(g); len(got) != 0 {
		t.Fatalf("items of a group given up: got %v, want none", got)
	}
}

func runEnds(t trial) {
	before := goleak.IgnoreCurrent()
	if err := t.Bus.Healthy(); err == nil {
		t.Error("Healthy before Run: got nil, want an error")
	}
	var sink Recorder
	stop := Start(t, t.Bus, &sink)
	Subscribe(t, t.Bus, testkit.Group(t, "acme", "room"))
	Eventually(t, "healthy", func() bool { return t.Bus.Healthy() == nil })
	stop()
	if err := t.Bus.Healthy(); err == nil {
		t.Error("Healthy after Run: got nil, want an error")
	}
	// A client's pool keeps open connections, which miniredis serves in this process.
	const serves = "github.com/alicebob/miniredis/v2/server.(*Server).servePeer"
	testkit.ExpectNoLeaks(t, before, goleak.IgnoreAnyFunction(serves), goleak.IgnoreAnyFunction(serves+".func2"))
}

func runsOnce(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	Subscribe(t, t.Bus, testkit.Group(t, "acme", "room")) // so it runs
	if err := t.Bus.Run(t.Context(), &sink); !errors.Is(err, pubsub.ErrRunning) {
		t.Fatalf("second Run: got %v, want %v", err, pubsub.ErrRunning)
	}
}

func runsAgain(t trial) {
	var sink Recorder
	stop := Start(t, t.Bus, &sink)
	kept, left := testkit.Group(t, "acme", "kept"), testkit.Group(t, "acme", "left")
	Subscribe(t, t.Bus, kept, left)
	stop()
	t.Bus.Unsubscribe(left)
	Publish(t, t.Bus, kept, "lost")
	Start(t, t.Bus, &sink)
	sink.WaitFor(t, Gap(kept))
	Subscribe(t, t.Bus, left) // it is new again, so it missed nothing
	Publish(t, t.Bus, kept, "after")
	sink.WaitFor(t, Message(kept, "after")) // its group may still be catching up, so the other one may overtake it
	Publish(t, t.Bus, left, "last")
	sink.WaitFor(t, Message(left, "last"))
	want := []Item{Gap(kept), Message(kept, "after"), Message(left, "last")}
	if diff := cmp.Diff(want, sink.Items(), equalItems); diff != "" {
		t.Fatalf("items differ (-want +got):\n%s", diff)
	}
}

func zeroGroup(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	if err := t.Bus.Subscribe(t.Context(), event.Group{}); !errors.Is(err, event.ErrInvalidGroup) {
		t.Errorf("Subscribe: got %v, want %v", err, event.ErrInvalidGroup)
	}
	if err := t.Bus.Publish(t.Context(), event.Group{}, []byte(`{"type":"t","organization_id":"a"}`)); !errors.Is(err, event.ErrForeign) {
		t.Errorf("Publish: got %v, want %v", err, event.ErrForeign)
	}
	t.Bus.Unsubscribe(event.Group{})
}

func unsubscribeAlone(t trial) {
	var sink Recorder
	Start(t, t.Bus, &sink)
	g := testkit.Group(t, "acme", "room")
	t.Bus.Unsubscribe(g)
	Subscribe(t, t.Bus, g)
	Publish(t, t.Bus, g, "1")
	sink.WaitFor(t, Message(g, "1"))
}

// Eventually waits until a condition holds that has no signal.
func Eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("not within %v: %s", Patience, what)
		}
	}
}

// equalItems lets go-cmp compare Items, which contain types with unexported fields.
var equalItems = cmpopts.EquateComparable(event.Group{}, event.Position{}) //nolint:gochecknoglobals // immutable
