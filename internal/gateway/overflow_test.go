package gateway_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
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

// smallWindow is the receive buffer of browsers that are to fall behind soon, in bytes.
const smallWindow = 16 << 10

// narrow is a dial function whose connections take little before the server has to wait.
func narrow(addr string) testkit.DialFunc {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if controlErr := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, smallWindow)
		}); controlErr != nil {
			return controlErr
		}
		return err
	}}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
}

// v1 is the header that asks for the subprotocol.
func v1() http.Header { return http.Header{"Sec-Websocket-Protocol": {consumer.ProtocolV1}} }

// numbers makes numbered events, each group counting for itself.
type numbers struct {
	tb   testing.TB
	next map[event.Group]int
}

func newNumbers(tb testing.TB) *numbers {
	tb.Helper()
	return &numbers{tb: tb, next: make(map[event.Group]int)}
}

// event makes the group's next event.
func (n *numbers) event(g event.Group, typ string, size int) *event.Event {
	n.tb.Helper()
	n.next[g]++
	payload := fmt.Sprintf(`{"type":%q,"organization_id":%q,"in":%q,"n":%d,"pad":%q}`,
		typ, g.Organization(), g.Name(), n.next[g], strings.Repeat("x", size))
	e, err := event.Decode(g, payload, event.DefaultMaxSize, time.Now())
	if err != nil {
		n.tb.Fatal(err)
	}
	return e
}

// reading checks what a connection gets of numbered events.
type reading struct {
	org string
	// gaps says that gap frames are due wherever something is missing.
	gaps bool
	// spurious says that gap frames may also stand where nothing is missing.
	spurious bool

	last    map[string]int  // by group
	newest  map[string]int  // by group and type
	gap     map[string]bool // told, and nothing of the group came since
	missing int             // events left out
	gapped  int             // gap frames
	count   int             // events
}

func newReading(org string, gaps bool) *reading {
	return &reading{org: org, gaps: gaps, last: map[string]int{}, newest: map[string]int{}, gap: map[string]bool{}}
}

// take checks one frame and returns the type of its event, "" for other frames.
func (r *reading) take(text string) (typ string, err error) {
	var f struct {
		Type, In, Group string
		OrganizationID  string `json:"organization_id"`
		N               int
	}
	if err := json.Unmarshal(testkit.Flat(text), &f); err != nil {
		return "", err
	}
	switch {
	case f.Type == "gap" && !r.gaps:
		return "", errors.New("a gap frame for a client that does not know it")
	case f.Type == "gap":
		r.gap[f.Group] = true
		r.gapped++
		return "", nil
	case f.In == "":
		return "", nil // an answer or the welcome
	case f.OrganizationID != r.org:
		return "", fmt.Errorf("an event of %s: %.100s", f.OrganizationID, text)
	}
	holes := f.N - r.last[f.In] - 1
	switch {
	case holes < 0:
		return "", fmt.Errorf("group %s: number %d after %d", f.In, f.N, r.last[f.In])
	case holes > 0 && r.gaps && !r.gap[f.In]:
		return "", fmt.Errorf("group %s: number %d after %d, and no gap frame between", f.In, f.N, r.last[f.In])
	case holes == 0 && r.gap[f.In] && !r.spurious:
		return "", fmt.Errorf("group %s: a gap frame before number %d, and nothing is missing", f.In, f.N)
	}
	r.missing += holes
	r.count++
	r.last[f.In] = f.N
	r.newest[f.In+"/"+f.Type] = f.N
	r.gap[f.In] = false
	return f.Type, nil
}

// until reads up to the first event of a type.
func (r *reading) until(tb testing.TB, c *testkit.Client, last string) {
	tb.Helper()
	for {
		text, err := c.Next()
		if err != nil {
			tb.Fatalf("after %d events: %v", r.count, err)
		}
		typ, err := r.take(text)
		if err != nil {
			tb.Fatal(err)
		}
		if typ == last {
			return
		}
	}
}

// slowNode is a node with a route for each policy, whose connections join the groups a and b.
func slowNode(tb testing.TB, over via, o gateway.Options) *node {
	tb.Helper()
	h := &hooks{connect: joining("a", "b")}
	var routes []consumer.Route
	for i, name := range consumer.WhenFullNames() {
		route := h.route("/ws/" + name)
		route.WhenFull = consumer.WhenFull(i)
		routes = append(routes, route)
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 64 << 10
	}
	o.WriteTimeout, o.CloseTimeout = time.Minute, testkit.Patience // what is tested is not these
	return startNode(tb, setup{over: over, options: o, routes: routes})
}

// connectSlow connects a browser that takes little and reads nothing for now.
func (n *node) connectSlow(path, user, org string, header http.Header) *testkit.Client {
	n.tb.Helper()
	all := http.Header{"Origin": {origin}, "Cookie": {n.cookie(user, org)}}
	maps.Copy(all, header)
	return n.over.connect(n.tb, narrow(n.addr()), path, all)
}

// addr is the loopback port of the node.
func (n *node) addr() string {
	n.tb.Helper()
	c, err := n.dial(n.tb.Context())
	if err != nil {
		n.tb.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.RemoteAddr().String()
}

func (n *node) dropped(reason string) int {
	n.tb.Helper()
	return int(n.metric("orgcast_deliveries_dropped_total", "reason="+reason))
}

// TestDropOldest: a browser that stops reading loses the oldest events, and finds the news of it in
// their place if it knows such frames. A quick one beside it loses nothing, nor does another
// organization with equal group names, whose events reach nobody else.
func TestDropOldest(t *testing.T) { overEach(t, dropOldestOver) }

func dropOldestOver(t *testing.T, over via) {
	t.Helper()
	headers := map[string]http.Header{"with gap frames": v1()}
	if over == webSockets { // a stream always has them
		headers["without"] = nil
	}
	for name, header := range headers {
		t.Run(name, func(t *testing.T) {
			n := slowNode(t, over, gateway.Options{})
			slow := n.connectSlow("/ws/drop_oldest", "ada", "acme", header)
			quick, other := n.connect("/ws/drop_oldest", "alan", "acme"), n.connect("/ws/drop_oldest", "grace", "globex")
			got, whole, foreign := newReading("acme", header != nil), newReading("acme", false), newReading("globex", false)
			events := newNumbers(t)
			for i := 0; n.dropped("drop_oldest") < 50; i++ {
				if i == 10000 {
					t.Fatal("no event was dropped")
				}
				group := []string{"a", "b"}[i%2]
				n.hub.Deliver(events.event(mustGroup(t, "acme", group), fmt.Sprint("t", i), 8000))
				whole.until(t, quick, fmt.Sprint("t", i))
				n.hub.Deliver(events.event(mustGroup(t, "globex", group), fmt.Sprint("t", i), 10))
				foreign.until(t, other, fmt.Sprint("t", i))
			}
			n.hub.Deliver(events.event(mustGroup(t, "acme", "b"), "last_b", 0))
			n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "last", 0))
			whole.until(t, quick, "last")
			got.until(t, slow, "last")
			if whole.missing != 0 || foreign.missing != 0 {
				t.Errorf("events missing for those that read: %d and %d", whole.missing, foreign.missing)
			}
			if want := n.dropped("drop_oldest"); got.missing != want || got.count+got.missing != whole.count {
				t.Errorf("the slow one: got %d events without %d, want %d of %d left out", got.count, got.missing, want, whole.count)
			}
			if header != nil && got.gapped == 0 {
				t.Error("no gap frame")
			}
			n.expectConnections(3)
			n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "after", 0)) // all is well again
			before := got.missing
			if got.until(t, slow, "after"); got.missing != before {
				t.Error("an event is missing although the browser reads again")
			}
			n.expectMetric(0, "orgcast_queue_bytes")
			if _, used := n.gateway.Books(); used != 0 {
				t.Errorf("budget in use: got %d bytes, want 0", used)
			}
		})
	}
}

// TestDropOldestKeepsAnswers: what the server itself has to say is never dropped for events; a
// browser that asks and asks and does not read ends.
func TestDropOldestKeepsAnswers(t *testing.T) {
	var talk consumer.Conn
	h := &hooks{connect: func(ctx context.Context, c consumer.Conn) error {
		talk = c
		return c.Join(ctx, "a")
	}}
	route := h.route("/ws/talk")
	route.WhenFull = consumer.DropOldest
	const limit = 2000
	n := startNode(t, setup{routes: []consumer.Route{route}, pipe: testkit.Listen(), options: gateway.Options{QueueBytes: limit, WriteTimeout: time.Minute, CloseTimeout: testkit.Patience}})
	c := n.connect("/ws/talk", "ada", "acme")
	events := newNumbers(t)
	sent := 0
	for n.dropped("too_slow") == 0 {
		if sent++; sent > limit {
			t.Fatal("a queue without end")
		}
		n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "note", 300))
		if err := talk.Send(map[string]int{"answer": sent}); err != nil {
			t.Fatal(err)
		}
		if got := n.metric("orgcast_queue_bytes"); got > 2*limit {
			t.Fatalf("queue: got %v bytes, want at most what is written and as much again", got)
		}
	}
	if sent < limit/20 {
		t.Errorf("ended after %d answers, before events had given way", sent)
	}
	c.ExpectClose(t, 4413)
}

// TestLatest: of states that replace each other the browser finds, when it reads again, the newest
// of each group and type.
func TestLatest(t *testing.T) { overEach(t, latestOver) }

func latestOver(t *testing.T, over via) {
	t.Helper()
	n := slowNode(t, over, gateway.Options{})
	slow, quick := n.connectSlow("/ws/latest", "ada", "acme", v1()), n.connect("/ws/latest", "alan", "acme")
	got, whole := newReading("acme", false), newReading("acme", false)
	events := newNumbers(t)
	for i := 0; n.dropped("latest") < 50; i++ {
		if i == 10000 {
			t.Fatal("no event was replaced")
		}
		typ := fmt.Sprint("t", i%3)
		n.hub.Deliver(events.event(mustGroup(t, "acme", []string{"a", "b"}[i/3%2]), typ, 8000))
		whole.until(t, quick, typ)
	}
	n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "last", 0))
	whole.until(t, quick, "last")
	got.until(t, slow, "last")
	for key, want := range whole.newest {
		if got.newest[key] != want {
			t.Errorf("newest of %s: got %d, want %d", key, got.newest[key], want)
		}
	}
	if want := n.dropped("latest"); got.missing != want || got.count+got.missing != whole.count {
		t.Errorf("got %d events without %d, want %d of %d left out", got.count, got.missing, want, whole.count)
	}
	n.expectConnections(2)
}

// TestTooSlow: where nothing may give way, or giving way is not enough, the connection ends with
// 4413, after events without a hole.
func TestTooSlow(t *testing.T) { overEach(t, tooSlowOver) }

func tooSlowOver(t *testing.T, over via) {
	t.Helper()
	for name, typ := range map[string]string{"disconnect": "note", "latest": "each of its own type "} {
		t.Run(name, func(t *testing.T) {
			n := slowNode(t, over, gateway.Options{})
			slow, quick := n.connectSlow("/ws/"+name, "ada", "acme", nil), n.connect("/ws/"+name, "alan", "acme")
			whole := newReading("acme", false)
			events := newNumbers(t)
			for i := 0; n.dropped("too_slow") == 0; i++ {
				if i == 10000 {
					t.Fatal("the connection never ended")
				}
				each := typ
				if name == "latest" {
					each = fmt.Sprint("t", i)
				}
				n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), each, 8000))
				whole.until(t, quick, each)
			}
			frames, reason := slow.ExpectClose(t, 4413)
			got := newReading("acme", false)
			for _, text := range frames {
				if _, err := got.take(text); err != nil {
					t.Fatal(err)
				}
			}
			if got.missing != 0 || got.count == 0 || reason != "too slow" {
				t.Errorf("got %d events, %d left out, and the reason %q", got.count, got.missing, reason)
			}
			n.expectConnections(1)
			n.expectMetric(1, "orgcast_connections_closed_total", "code=4413")
			if whole.missing != 0 {
				t.Errorf("events missing for the quick one: %d", whole.missing)
			}
		})
	}
}

// TestBudget: many slow browsers of one organization share what waits for it. Beyond that those
// that are behind give way; a quick one of the same organization and other organizations do not.
func TestBudget(t *testing.T) { budgetOver(t, webSockets) }

func budgetOver(t *testing.T, over via) {
	t.Helper()
	const slowOnes, size, limit = 8, 16000, 400 << 10
	for policy, reason := range map[string]string{"disconnect": "too_slow", "drop_oldest": "drop_oldest", "latest": "latest"} {
		t.Run(policy, func(t *testing.T) {
			n := slowNode(t, over, gateway.Options{QueueBytes: 1 << 20, QueueBytesPerOrganization: limit})
			var slow []*testkit.Client
			for range slowOnes {
				slow = append(slow, n.connectSlow("/ws/"+policy, "ada", "acme", nil))
			}
			quick, other := n.connect("/ws/"+policy, "alan", "acme"), n.connect("/ws/"+policy, "grace", "globex")
			behind := n.connectSlow("/ws/disconnect", "grace", "globex", nil)
			whole, foreign := newReading("acme", false), newReading("globex", false)
			events := newNumbers(t)
			for i := 0; n.dropped(reason) < slowOnes/2; i++ {
				if i == 20000 {
					t.Fatal("nothing gave way")
				}
				typ := fmt.Sprint("t", i%2)
				n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), typ, size))
				whole.until(t, quick, typ)
				n.hub.Deliver(events.event(mustGroup(t, "globex", "a"), typ, 0))
				foreign.until(t, other, typ)
				// What a browser is behind with first is not refused: it was taken before.
				if _, used := n.gateway.Books(); used > limit+2*slowOnes*size {
					t.Fatalf("budget: got %d bytes in use, want about %d", used, limit)
				}
			}
			n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "last", 0))
			n.hub.Deliver(events.event(mustGroup(t, "globex", "a"), "last", 0))
			whole.until(t, quick, "last")
			foreign.until(t, other, "last")
			if whole.missing != 0 || foreign.missing != 0 {
				t.Errorf("events missing for those that read: %d and %d", whole.missing, foreign.missing)
			}
			neighbor := newReading("globex", false)
			if neighbor.until(t, behind, "last"); neighbor.missing != 0 {
				t.Errorf("events missing for a slow one of another organization: %d", neighbor.missing)
			}
			var reads sync.WaitGroup
			for _, c := range slow {
				reads.Go(func() {
					if err := readUntil(c, newReading("acme", over == streams && policy == "drop_oldest"), "after"); err != nil {
						t.Error(err)
					}
				})
			}
			n.expectMetric(0, "orgcast_queue_bytes")
			n.hub.Deliver(events.event(mustGroup(t, "acme", "a"), "after", 0)) // to whoever is left
			reads.Wait()
			ended := n.dropped("too_slow") // with latest, too, where not even the newest found room
			n.expectConnections(slowOnes + 3 - ended)
			if policy == "drop_oldest" && ended > 0 {
				t.Errorf("connections ended: got %d, want 0", ended)
			}
			n.expectMetric(0, "orgcast_queue_bytes")
			if _, used := n.gateway.Books(); used != 0 {
				t.Errorf("budget in use: got %d bytes, want 0", used)
			}
		})
	}
}

// readUntil reads up to an event of the type or the end for being too slow.
func readUntil(c *testkit.Client, r *reading, typ string) error {
	for {
		text, err := c.Next()
		if closed, ok := errors.AsType[*testkit.ClosedError](err); ok && closed.Code == 4413 {
			return c.Close()
		}
		if err != nil {
			return err
		}
		if got, err := r.take(text); err != nil || got == typ {
			return err
		}
	}
}

// step is one of a sequence that befalls two slow browsers.
type step struct {
	kind       string
	who, group int
	count      int
	size       int
	typ        string // of the events; default: the case's own
}

// TestPropertyDropOldest: whatever comes, numbers of a group increase, a gap frame stands exactly
// where some are missing, and all that is missing is counted.
func TestPropertyDropOldest(t *testing.T) {
	kinds := []string{"offer", "offer", "offer", "offer", "read", "gap", "answer", "offer without flush"}
	rapid.Check(t, func(rt *rapid.T) {
		budget := rapid.SampledFrom([]int{1 << 20, 3000, 500}).Draw(rt, "budget")
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
			if err := r.conn.Send(map[string]string{"type": "answer"}); err != nil {
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
		r.mu.Lock()
		errs = append(errs, r.err)
		total += r.offered
		total -= r.reading.count
		missing += r.reading.missing
		for _, g := range groups {
			if got, want := r.reading.last[g.Name()], r.events.next[g]; got != want {
				errs = append(errs, fmt.Errorf("group %s: the newest is %d, want %d", g.Name(), got, want))
			}
		}
		r.mu.Unlock()
	}
	if got := n.dropped("drop_oldest"); got != missing || got != total {
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
