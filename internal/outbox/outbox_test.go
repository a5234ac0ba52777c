package outbox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/outbox"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// failer is a test or a rapid case.
type failer interface {
	Helper()
	Fatal(args ...any)
}

func mustGroup(t failer, name string) event.Group {
	t.Helper()
	id, err := orgctx.ParseID("acme")
	if err != nil {
		t.Fatal(err)
	}
	g, err := event.NewGroup(id, name)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// numbered returns event n of a group, recorded at position n if it is recorded.
func numbered(t failer, g event.Group, typ string, n int, recorded bool) *event.Event {
	t.Helper()
	payload := fmt.Sprintf(`{"type":%q,"organization_id":"acme","n":1%06d}`, typ, n)
	if recorded {
		payload = fmt.Sprintf("1000-%d ", n) + payload
	}
	e, err := event.Decode(g, payload, 1<<20, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const (
	limit   = 2000
	small   = 500 // so that it is often full
	gapText = "gap "
)

var slot = event.NewSlot()

// encoding leaves events: as it is.
var encoding = &event.Encoding{Slot: slot, Encode: func(e *event.Event, s event.Shape, _ []byte) []byte { return e.AppendText(nil, s) }}

func gapOf(g event.Group) []byte { return []byte(gapText + g.Name()) }

func newOutbox(policy outbox.Policy, bytes int, budget *outbox.Budget) *outbox.Outbox {
	o := new(outbox.Outbox)
	o.Init(&outbox.Options{Policy: policy, Gap: gapOf, Encoding: encoding, Bytes: bytes, BytesPerOrganization: 100 * bytes}, owner{budget})
	o.Open()
	return o
}

// owner is an owner that does nothing.
type owner struct{ budget *outbox.Budget }

func (o owner) Budget() *outbox.Budget { return o.budget }

func (owner) GaveWay(outbox.Outcome) {}

func (owner) Lost([]*event.Event, outbox.Loss, bool) {}

// text names an item as a test reads it.
func text(it *outbox.Item) (list []string) {
	switch {
	case it.Empty():
	case it.Burst == nil:
		list = append(list, string(it.Frame))
	default:
		for _, e := range it.Burst.Events() {
			list = append(list, fmt.Sprint(e.Group().Name(), " ", e.Type(), " ", e.Position().Sequence()))
		}
	}
	return list
}

// texts names the items of a batch.
func texts(b *outbox.Batch) (list []string) {
	for i := range b.Len() {
		list = append(list, text(b.Item(i))...)
	}
	return list
}

// drain writes everything that waits and returns it.
func drain(o *outbox.Outbox) (list []string) {
	for b := o.Claim(); b != nil; b = o.Claim() {
		list = append(list, texts(b)...)
		o.Done(b)
	}
	return list
}

// TestWhatIsHeldLeavesLessRoom: what is held while a history is read and what is queued meanwhile
// are together no more than one connection may have.
func TestWhatIsHeldLeavesLessRoom(t *testing.T) {
	for name, policy := range map[string]outbox.Policy{"disconnect": outbox.Disconnect, "drop_oldest": outbox.DropOldest, "latest": outbox.Latest} {
		t.Run(name, func(t *testing.T) {
			var budget outbox.Budget
			o := newOutbox(policy, limit, &budget)
			held, live := mustGroup(t, "held"), mustGroup(t, "live")
			if err := o.Hold(held); err != nil {
				t.Fatal(err)
			}
			n := 0
			for o.Bytes() < limit/2 {
				n++
				o.Offer(numbered(t, held, "t", n, true).Alone())
			}
			full := 0
			for i := range 200 {
				if o.Offer(numbered(t, live, "t", i, false).Alone()).Full {
					full++
				}
				if got := o.Bytes(); got > limit {
					t.Fatalf("%d events: got %d bytes that wait, want at most %d", i, got, limit)
				}
			}
			if (full > 0) != (policy == outbox.Disconnect) {
				t.Errorf("full: got %d times", full)
			}
			o.Release(held, event.Position{})
			o.Abandon()
			if o.Bytes() != 0 || budget.Used() != 0 {
				t.Errorf("left: got %d and %d of the budget, want 0", o.Bytes(), budget.Used())
			}
		})
	}
}

// TestWhatIsHeldGivesWayToTheFirstState: where something may give way, the state that a consumer
// makes of a history finds room, however much is held behind it.
func TestWhatIsHeldGivesWayToTheFirstState(t *testing.T) {
	for name, policy := range map[string]outbox.Policy{"drop_oldest": outbox.DropOldest, "latest": outbox.Latest} {
		t.Run(name, func(t *testing.T) {
			var budget outbox.Budget
			o := newOutbox(policy, limit, &budget)
			g := mustGroup(t, "g")
			if err := o.Hold(g); err != nil {
				t.Fatal(err)
			}
			dropped, n := 0, 0
			for dropped == 0 {
				n++
				dropped += o.Offer(numbered(t, g, "t", n, true).Alone()).Dropped
			}
			out := o.Push([]byte(strings.Repeat("s", 300)))
			if out.Full || out.Dropped == 0 {
				t.Errorf("first state: got %+v, want that events gave way", out)
			}
			if got := o.Bytes(); got > limit {
				t.Errorf("got %d bytes that wait, want at most %d", got, limit)
			}
			o.Release(g, event.Position{})
			got := drain(o)
			if len(got) < 2 || len(got[0]) != 300 || got[len(got)-1] != fmt.Sprint("g t ", n) {
				t.Errorf("got %.40q, want the state first and event %d last", got, n)
			}
			if o.Bytes() != 0 || budget.Used() != 0 {
				t.Errorf("left: got %d and %d of the budget, want 0", o.Bytes(), budget.Used())
			}
		})
	}
}

// TestHandover: live events that come while the history is read follow it, without those that it
// had.
func TestHandover(t *testing.T) {
	var budget outbox.Budget
	o := newOutbox(outbox.Disconnect, limit, &budget)
	g, other := mustGroup(t, "g"), mustGroup(t, "other")
	offer := func(g event.Group, n int) { o.Offer(numbered(t, g, "t", n, true).Alone()) }
	if err := o.Hold(g); err != nil {
		t.Fatal(err)
	}
	if err := o.Hold(g); err == nil {
		t.Error("held twice")
	}
	offer(g, 3)
	offer(g, 4)
	offer(other, 9)
	if budget.Used() == 0 {
		t.Error("what is held is not in the organization's budget")
	}
	o.Push([]byte("history up to 3"))
	o.Release(g, event.NewPosition(1000, 3))
	offer(g, 2) // late: the history had it
	offer(g, 5)
	if diff := cmp.Diff([]string{"other t 9", "history up to 3", "g t 4", "g t 5"}, drain(o)); diff != "" {
		t.Error("(-want +got)", diff)
	}
	if o.Bytes() != 0 || budget.Used() != 0 {
		t.Errorf("left: got %d and %d of the budget, want 0", o.Bytes(), budget.Used())
	}
}

// TestSeal: the close frame is the last, and what was queued goes before it unless it is dropped.
func TestSeal(t *testing.T) {
	for name, test := range map[string]struct {
		drop bool
		want []string
	}{
		"after the rest":      {false, []string{"a", "b", "close"}},
		"instead of the rest": {true, []string{"close"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutbox(outbox.Disconnect, limit, new(outbox.Budget))
			o.Push([]byte("a"))
			o.Push([]byte("b"))
			if !o.Seal([]byte("close"), test.drop) || o.Seal([]byte("again"), false) {
				t.Error("not the first one alone has sealed")
			}
			o.Push([]byte("c"))
			if diff := cmp.Diff(test.want, drain(o)); diff != "" {
				t.Error("(-want +got)", diff)
			}
		})
	}
}

// TestQuiet: who waits for it learns that nothing is queued and nobody writes, neither before nor
// never.
func TestQuiet(t *testing.T) {
	o := newOutbox(outbox.Disconnect, limit, new(outbox.Budget))
	<-o.Quiet()
	o.Push([]byte("a"))
	quiet := o.Quiet()
	b := o.Claim()
	o.Push([]byte("b"))
	o.Done(b)
	select {
	case <-quiet:
		t.Fatal("quiet while b waits")
	default:
	}
	b = o.Claim()
	o.Abandon()
	select {
	case <-quiet:
		t.Fatal("quiet while b is being written")
	default:
	}
	o.Done(b)
	<-quiet
}

// TestReplayFitsIntoHalf: missed events take no more than half of the room, the newest of them.
func TestReplayFitsIntoHalf(t *testing.T) {
	o := newOutbox(outbox.Disconnect, limit, new(outbox.Budget))
	g := mustGroup(t, "g")
	var missed []*event.Event
	for n := range 100 {
		missed = append(missed, numbered(t, g, "t", n+1, true))
	}
	fitting := o.Fitting(missed)
	if len(fitting) == 0 || !slices.Equal(fitting, missed[len(missed)-len(fitting):]) {
		t.Fatalf("got %d events, want the newest", len(fitting))
	}
	if out := o.Replay(g, gapOf(g), fitting); out.Full || !out.Flush {
		t.Fatalf("replay: got %+v", out)
	}
	if got := o.Bytes(); got > limit/2+len(gapOf(g)) || o.Spare() > len(fitting[0].Payload()) {
		t.Errorf("got %d bytes and %d to spare, want about %d", got, o.Spare(), limit/2)
	}
}
