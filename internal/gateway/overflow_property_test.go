package gateway_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/hub"
	"orgcast/internal/testkit"
)

// step is one of a sequence that befalls two slow browsers.
type step struct {
	kind       string
	who, group int
	count      int
	size       int
	typ        string // of the events; default: the case's own
}

// enough is a budget of which twice as much is room for all that two slow readers may have to write at
// once. With less, a connection may have to end for a write that has just begun.
const enough = 4000

// TestPropertyDropOldest: whatever comes, numbers of a group increase, and a gap frame stands exactly
// where some are missing. If no connection has to end, all that is missing is counted.
func TestPropertyDropOldest(t *testing.T) {
	kinds := []string{"offer", "offer", "offer", "offer", "read", "gap", "answer", "offer without flush"}
	rapid.Check(t, func(rt *rapid.T) {
		budget := rapid.SampledFrom([]int{1 << 20, enough, 3000, 500}).Draw(rt, "budget")
		busGaps := rapid.Bool().Draw(rt, "gaps of the bus")
		var steps []step
		answers := 0
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			s := step{
				kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), who: rapid.IntRange(0, 1).Draw(rt, "who"), group: rapid.IntRange(0, 1).Draw(rt, "group"),
				count: rapid.IntRange(1, 5).Draw(rt, "count"), size: rapid.SampledFrom([]int{0, 100, 400, 3000}).Draw(rt, "size"),
			}
			if s.kind == "answer" {
				answers++
			}
			if s.kind == "gap" && !busGaps || answers > 10 && s.kind == "answer" {
				continue
			}
			steps = append(steps, s)
		}
		var err error
		synctest.Test(t, func(t *testing.T) { err = dropOldestCase(t, steps, budget, busGaps) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// slowReader is a connection whose browser reads when it is told to.
type slowReader struct {
	*testkit.Client

	conn    consumer.Conn
	member  hub.Member
	events  *numbers
	offered int
	waiting bool          // for Flush
	tokens  chan struct{} // each lets it read one frame; capacity for any case; closed to let it read on
	stopped chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	reading *reading
	err     error
}

func (r *slowReader) run() {
	defer close(r.stopped)
	defer func() { _ = r.Close() }()
	for {
		<-r.tokens
		text, err := r.Next()
		if err != nil {
			return
		}
		r.mu.Lock()
		if _, err := r.reading.take(text); r.err == nil {
			r.err = err
		}
		r.mu.Unlock()
	}
}

func (r *slowReader) offer(g event.Group, count, size int, flush bool) {
	list := make([]*event.Event, count)
	for i := range list {
		list[i] = r.events.event(g, "note", size)
	}
	r.offered += count
	for len(list) > 0 {
		var b *event.Burst
		b, list = event.NewBurst(list, 1000)
		r.waiting = r.member.Offer(b) || r.waiting
	}
	if flush && r.waiting {
		r.waiting = false
		r.member.Flush()
	}
}

func dropOldestCase(t *testing.T, steps []step, budget int, busGaps bool) error {
	t.Helper()
	var readers []*slowReader
	var latest consumer.Conn
	h := &hooks{connect: func(_ context.Context, c consumer.Conn) error { latest = c; return nil }}
	route := h.route("/ws/slow")
	route.WhenFull = consumer.DropOldest
	n := startNode(t, setup{
		pipe: testkit.Listen(), now: time.Now, routes: []consumer.Route{route},
		options: gateway.Options{QueueBytes: 2000, QueueBytesPerOrganization: budget},
	})
	groups := []event.Group{mustGroup(t, "acme", "a"), mustGroup(t, "acme", "b")}
	for range 2 {
		c := testkit.Connect(t, n.dial, n.handshake("/ws/slow", "ada", "acme", v1()))
		c.Timeout = 0
		_ = c.SetReadDeadline(time.Time{})  // a pipe has no trouble with it
		if _, err := c.Next(); err != nil { // the welcome
			t.Fatal(err)
		}
		r := &slowReader{
			Client: c, conn: latest, events: newNumbers(t), reading: newReading("acme", true),
			tokens: make(chan struct{}, 1000), stopped: make(chan struct{}),
		}
		r.reading.spurious = busGaps
		r.member, _ = latest.(hub.Member)
		readers = append(readers, r)
		go r.run()
	}
	for _, s := range steps {
		r := readers[s.who]
		switch s.kind {
		case "offer", "offer without flush":
			r.offer(groups[s.group], s.count, s.size, s.kind == "offer")
		case "gap":
			r.member.OfferGap(groups[s.group])
		case "answer":
			if err := r.conn.Send(map[string]string{"type": "answer"}); err != nil && n.dropped("too_slow") == 0 {
				t.Fatal(err)
			}
		case "read":
			for range s.count {
				r.tokens <- struct{}{}
			}
		}
		synctest.Wait()
	}
	var errs []error
	total, missing := 0, 0
	for _, r := range readers {
		if r.waiting {
			r.member.Flush()
		}
		close(r.tokens)
	}
	synctest.Wait()
	for _, r := range readers {
		for _, g := range groups { // shows whether something is missing at the end
			r.offer(g, 1, 0, true)
			synctest.Wait()
		}
	}
	ended := n.dropped("too_slow")
	if ended > 0 && budget >= enough {
		errs = append(errs, fmt.Errorf("connections that had to end: %d", ended))
	}
	for _, r := range readers {
		r.mu.Lock()
		errs = append(errs, r.err)
		total += r.offered
		total -= r.reading.count
		missing += r.reading.missing
		for _, g := range groups {
			if got, want := r.reading.last[g.Name()], r.events.next[g]; got != want && ended == 0 {
				errs = append(errs, fmt.Errorf("group %s: the newest is %d, want %d", g.Name(), got, want))
			}
		}
		r.mu.Unlock()
	}
	if got := n.dropped("drop_oldest"); ended == 0 && (got != missing || got != total) {
		errs = append(errs, fmt.Errorf("dropped: counted %d, want %d, missing %d", got, total, missing))
	}
	if _, used := n.gateway.Books(); used != 0 {
		errs = append(errs, fmt.Errorf("budget in use: got %d bytes, want 0", used))
	}
	n.stop()
	for _, r := range readers {
		<-r.stopped
	}
	return errors.Join(errs...)
}

// TestPropertyLatest: whatever comes, in bursts or alone, numbers of a group increase, all that is missing is
// counted and was superseded, and of each group and type the newest arrives.
func TestPropertyLatest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var steps []step
		for range rapid.IntRange(1, 150).Draw(rt, "steps") {
			steps = append(steps, step{
				kind: rapid.SampledFrom([]string{"offer", "offer", "offer", "offer", "read"}).Draw(rt, "kind"), group: rapid.IntRange(0, 1).Draw(rt, "group"),
				count: rapid.IntRange(1, 12).Draw(rt, "count"), size: rapid.SampledFrom([]int{0, 10, 50}).Draw(rt, "size"),
			})
		}
		types := rapid.IntRange(1, 4).Draw(rt, "types")
		// 8 of 200 bytes find room, and one burst with them.
		limit := rapid.SampledFrom([]int{4000, 20000}).Draw(rt, "limit")
		var err error
		synctest.Test(t, func(t *testing.T) { err = latestCase(t, steps, types, limit) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// TestLatestForLong: a browser that does not read for thousands of events, the first of which nothing supersedes,
// still gets that one and the newest.
func TestLatestForLong(t *testing.T) {
	steps := []step{{kind: "offer", count: 1, size: 100, typ: "once"}, {kind: "offer", count: 1, size: 100, typ: "twice"}}
	for i := range 2000 {
		steps = append(steps, step{kind: "offer", count: 1 + i%3, size: 50})
	}
	synctest.Test(t, func(t *testing.T) {
		if err := latestCase(t, steps, 3, 30000); err != nil {
			t.Error(err)
		}
	})
}

// TestDropOldestForLong: the news of gaps does not add up, however many answers stand between the losses.
func TestDropOldestForLong(t *testing.T) {
	var steps []step
	for range 60 {
		steps = append(steps, step{kind: "answer"}, step{kind: "offer", count: 1, size: 400}, step{kind: "offer", count: 1, size: 400, group: 1})
	}
	synctest.Test(t, func(t *testing.T) {
		if err := dropOldestCase(t, steps, 1<<20, false); err != nil {
			t.Error(err)
		}
	})
}

func latestCase(t *testing.T, steps []step, types, limit int) error {
	t.Helper()
	var conn consumer.Conn
	h := &hooks{connect: func(_ context.Context, c consumer.Conn) error { conn = c; return nil }}
	route := h.route("/ws/slow")
	route.WhenFull = consumer.Latest
	n := startNode(t, setup{pipe: testkit.Listen(), now: time.Now, routes: []consumer.Route{route}, options: gateway.Options{QueueBytes: limit}})
	groups := []event.Group{mustGroup(t, "acme", "a"), mustGroup(t, "acme", "b")}
	c := testkit.Connect(t, n.dial, n.handshake("/ws/slow", "ada", "acme", nil))
	c.Timeout = 0
	_ = c.SetReadDeadline(time.Time{}) // a pipe has no trouble with it
	r := &slowReader{
		Client: c, conn: conn, events: newNumbers(t), reading: newReading("acme", false),
		tokens: make(chan struct{}, 10000), stopped: make(chan struct{}),
	}
	r.member, _ = conn.(hub.Member)
	go r.run()
	newest := map[string]int{}
	for i, s := range steps {
		if s.kind == "read" {
			for range s.count {
				r.tokens <- struct{}{}
			}
			synctest.Wait()
			continue
		}
		g := groups[s.group]
		var list []*event.Event
		for k := range s.count {
			e := r.events.event(g, cmp.Or(s.typ, fmt.Sprint("t", (i+k)%types)), s.size)
			newest[g.Name()+"/"+e.Type()] = r.events.next[g]
			list = append(list, e)
		}
		r.offered += len(list)
		for len(list) > 0 {
			var b *event.Burst
			if b, list = event.NewBurst(list, 1000); r.member.Offer(b) {
				r.member.Flush()
			}
		}
		synctest.Wait()
	}
	close(r.tokens)
	synctest.Wait()
	r.mu.Lock()
	errs := []error{r.err}
	for key, want := range newest {
		if got := r.reading.newest[key]; got != want {
			errs = append(errs, fmt.Errorf("newest of %s: got %d, want %d", key, got, want))
		}
	}
	if got, want := n.dropped("latest"), r.offered-r.reading.count; got != want {
		errs = append(errs, fmt.Errorf("superseded: counted %d, want %d", got, want))
	}
	r.mu.Unlock()
	if _, used := n.gateway.Books(); used != 0 {
		errs = append(errs, fmt.Errorf("budget in use: got %d bytes, want 0", used))
	}
	n.stop()
	<-r.stopped
	return errors.Join(errs...)
}
