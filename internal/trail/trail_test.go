package trail_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/testkit"
	"orgcast/internal/trail"
)

// clock is a clock that a test moves.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)} }

func (c *clock) read() time.Time { return c.now }

func newTrail(c *clock, perOrganization, all int) *trail.Trail {
	return trail.New(trail.Options{BytesPerOrganization: perOrganization, Bytes: all, Now: c.read})
}

// recorded makes n recorded events, the first at the position.
func recorded(tb testing.TB, g event.Group, first event.Position, n int) (events []*event.Event) {
	tb.Helper()
	for i := range n {
		at := event.NewPosition(first.Milliseconds(), first.Sequence()+uint64(i))
		e, err := event.Decode(g, fmt.Sprintf(`%s {"type":"note","organization_id":%q}`, at, g.Organization()), 1000, time.Now())
		if err != nil {
			tb.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func connect(tb testing.TB, t *trail.Trail, org, user, id string, groups ...string) *trail.Connection {
	tb.Helper()
	c := t.Connect(trail.Client{Organization: testkit.Org(tb, org), ID: id, User: user, HearsGaps: true})
	for _, name := range groups {
		c.Joined(testkit.Group(tb, org, name))
	}
	return c
}

// causes returns the cause for each connection.
func causes(a trail.Answer) map[string]string {
	of := make(map[string]string)
	for _, o := range a.Outcomes {
		of[o.ConnectionID] = o.Cause
	}
	return of
}

// TestOutcomes: for each connection of an organization, what became of one event there.
func TestOutcomes(t *testing.T) {
	c := newClock()
	tr := newTrail(c, 1<<20, 1<<20)
	g := testkit.Group(t, "acme", "room.1")
	step := func() { c.now = c.now.Add(time.Second) }

	got, slow := connect(t, tr, "acme", "ada", "got", "room.1"), connect(t, tr, "acme", "ada", "slow", "room.1")
	left, other := connect(t, tr, "acme", "ada", "left", "room.1"), connect(t, tr, "acme", "alan", "other", "room.2")
	ended, denied := connect(t, tr, "acme", "ada", "ended", "room.1"), connect(t, tr, "acme", "eve", "denied")
	step()
	left.Left(g)
	ended.Ended("session_ended", 4401)
	denied.Denied(g, "unknown_group")
	denied.Denied(g, "unknown_group")
	tr.Refused(testkit.Org(t, "acme"), "bob", "forbidden")
	step()
	at := event.NewPosition(uint64(c.now.UnixMilli()), 0)
	events := recorded(t, g, at, 3)
	tr.Passed(events, 2)
	events[0].Alone().Tally().Wrote(3, 4*time.Millisecond)
	events[0].Alone().Tally().Lost(1)
	events[0].Alone().Tally().Wrote(2, 7*time.Millisecond)
	slow.Lost(events[:1], trail.LostOldest, false)
	step()
	connect(t, tr, "acme", "ada", "later", "room.1")
	other.Joined(g)
	resumed := connect(t, tr, "acme", "ada", "resumed")
	resumed.Joined(g)
	resumed.History(g, events, true)
	got.Left(g) // changes nothing about what was

	a := tr.Ask(trail.Query{Organization: g.Organization(), Group: "room.1", Position: at})
	want := map[string]string{
		"got": trail.CauseWritten, "slow": trail.LostOldest, "left": trail.CauseLeftBefore, "ended": trail.CauseEnded,
		"denied": trail.CauseDenied, "later": trail.CauseLater, "other": trail.CauseJoinedLater, "resumed": trail.CauseHistory, "": trail.CauseRefused,
	}
	if of := causes(a); fmt.Sprint(of) != fmt.Sprint(want) {
		t.Errorf("causes: got %v, want %v", of, want)
	}
	if len(a.Passed) != 1 || a.Passed[0].Offered != 6 || a.Passed[0].Written != 5 || a.Passed[0].Lost != 1 || a.Passed[0].SlowestSeconds != 0.007 {
		t.Errorf("passed: got %+v", a.Passed)
	}
	second := event.NewPosition(at.Milliseconds(), 1)
	if of := causes(tr.Ask(trail.Query{Organization: g.Organization(), Group: "room.1", Position: second})); of["slow"] != trail.CauseWritten {
		t.Errorf("the second event at the slow connection: got %q, want %q", of["slow"], trail.CauseWritten)
	}
	if of := causes(tr.Ask(trail.Query{Organization: g.Organization(), User: "alan", Position: at})); fmt.Sprint(of) != "map[other:joined_later]" {
		t.Errorf("causes for alan, without a group: got %v", of)
	}
	recent := tr.Ask(trail.Query{Organization: g.Organization(), Since: c.now.Add(-time.Minute)})
	if recent.Open != 7 || recent.Counts[trail.CauseDenied] != 1 || recent.Counts[trail.LostOldest] != 1 || recent.Passed[0].Events != 3 {
		t.Errorf("since a minute ago: got %+v", recent)
	}
}

// TestIsolationTrail: answers about one organization contain nothing of another one, even with equal groups,
// users and positions.
func TestIsolationTrail(t *testing.T) {
	c := newClock()
	tr := newTrail(c, 1<<20, 1<<20)
	at := event.NewPosition(uint64(c.now.UnixMilli()), 0)
	for _, org := range []string{"acme", "globex"} {
		g := testkit.Group(t, org, "room.1")
		conn := connect(t, tr, org, "ada", "of-"+org, "room.1", "only-"+org)
		events := recorded(t, g, at, 2)
		tr.Passed(events, 1)
		conn.Lost(events, trail.LostOldest, false)
		tr.Dropped(testkit.Group(t, org, "dropped-"+org), at, "reason-"+org)
		tr.Gap(testkit.Group(t, org, "gap-"+org), "gap-reason-"+org)
		tr.Refused(testkit.Org(t, org), "refused-"+org, "forbidden")
		conn.Denied(testkit.Group(t, org, "denied-"+org), "unknown_group")
		conn.Ended("end-"+org, 1000)
	}
	for _, q := range []trail.Query{{Position: at}, {Position: at, Group: "room.1"}, {Position: at, User: "ada"}, {}, {Group: "room.1"}, {Group: "room.1", User: "ada"}} {
		for org, other := range map[string]string{"acme": "globex", "globex": "acme", "initech": "-acme"} {
			q.Organization = testkit.Org(t, org)
			b, err := json.Marshal(tr.Ask(q))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), other) || org == "initech" && strings.Contains(string(b), "globex") {
				t.Errorf("an answer about %s names %s: %s", org, other, b)
			}
			if org != "initech" && !strings.Contains(string(b), "of-"+org) {
				t.Errorf("an answer about %s does not name its connection: %s", org, b)
			}
		}
	}
}

// TestBounds: however many decisions there are, their bytes stay within the limits, an organization
// displaces only its own, and answers tell how far back they reach.
func TestBounds(t *testing.T) {
	const perOrganization, all = 32 << 10, 256 << 10
	c := newClock()
	tr := newTrail(c, perOrganization, all)
	quiet := testkit.Group(t, "quiet", "room.1")
	events := recorded(t, quiet, event.NewPosition(uint64(c.now.UnixMilli()), 0), 1)
	connect(t, tr, "quiet", "ada", "conn", "room.1")
	tr.Passed(events, 1)
	noisy := testkit.Group(t, "noisy", "room.1")
	user := strings.Repeat("u", 128)
	for i := range 20000 {
		c.now = c.now.Add(2 * time.Second) // nothing is merged
		conn := connect(t, tr, "noisy", user, fmt.Sprintf("%026d", i), "room.1")
		switch i % 5 {
		case 0:
			tr.Dropped(noisy, event.NewPosition(1, uint64(i)), trail.DropRate)
		case 1:
			tr.Gap(noisy, trail.GapIncomplete)
		case 2:
			conn.Lost(recorded(t, noisy, event.NewPosition(1, 1), 1), trail.LostLatest, false)
		case 3:
			conn.Denied(noisy, "unknown_group")
		}
		conn.Ended("closed_by_peer", 1000)
		if got := tr.Used(); got > perOrganization+4<<10 {
			t.Fatalf("after %d connections: %d bytes", i, got)
		}
	}
	if a := tr.Ask(trail.Query{Organization: noisy.Organization()}); !a.Reaches.After(c.now.Add(-24*time.Hour)) || a.Reaches.After(c.now) || a.Open != 0 {
		t.Errorf("the noisy one reaches back to %s at %s, with %d open connections", a.Reaches, c.now, a.Open)
	}
	if a := tr.Ask(trail.Query{Organization: quiet.Organization(), Position: events[0].Position()}); a.Counts[trail.CauseWritten] != 1 {
		t.Errorf("the quiet one has lost its decision: %+v", a)
	}
	for i := range 1000 {
		org := fmt.Sprint("org", i)
		g := testkit.Group(t, org, "room.1")
		conn := connect(t, tr, org, "ada", "c", "room.1")
		for range 20 {
			c.now = c.now.Add(2 * time.Second)
			tr.Passed(recorded(t, g, event.NewPosition(1, 1), 1), 1)
		}
		conn.Ended("closed_by_peer", 1000)
		if got := tr.Used(); got > all {
			t.Fatalf("after %d organizations: %d bytes, want at most %d", i, got, all)
		}
	}
	a := tr.Ask(trail.Query{Organization: testkit.Org(t, "org0")})
	if len(a.Passed) != 0 || a.Reaches.Before(c.now.Add(-20*time.Hour)) {
		t.Errorf("a forgotten organization: got %+v at %s", a, c.now)
	}
}

// TestUsedIsTrue: what a trail says it takes is at least what the allocator gave.
func TestUsedIsTrue(t *testing.T) {
	const orgs = 200
	c := newClock()
	groups := make([]event.Group, orgs)
	events := make([][]*event.Event, orgs)
	for i := range groups {
		groups[i] = testkit.Group(t, fmt.Sprint("org", i), "room.1")
		events[i] = recorded(t, groups[i], event.NewPosition(1, 1), 1)
	}
	before := heap()
	tr := newTrail(c, trail.DefaultBytesPerOrganization, trail.DefaultBytes)
	for range 2000 {
		c.now = c.now.Add(2 * time.Second)
		for i := range groups {
			tr.Passed(events[i], 1)
		}
	}
	took, said := heap()-before, tr.Used()
	if said > trail.DefaultBytes || said < orgs*trail.DefaultBytesPerOrganization*9/10 {
		t.Errorf("the trail says %d bytes, want nearly %d for each of %d organizations", said, trail.DefaultBytesPerOrganization, orgs)
	}
	if took > said*11/10 {
		t.Errorf("the trail takes %d bytes, and says %d", took, said)
	}
	runtime.KeepAlive(tr)
	runtime.KeepAlive(events)
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestMergedRecords: events of one group within a second are one record as long as its members
// stay the same.
func TestMergedRecords(t *testing.T) {
	c := newClock()
	tr := newTrail(c, 1<<20, 1<<20)
	g := testkit.Group(t, "acme", "room.1")
	connect(t, tr, "acme", "ada", "first", "room.1")
	tr.Passed(recorded(t, g, event.NewPosition(1, 0), 2), 1)
	tr.Passed(recorded(t, g, event.NewPosition(1, 2), 2), 1)
	connect(t, tr, "acme", "ada", "second", "room.1")
	tr.Passed(recorded(t, g, event.NewPosition(1, 4), 2), 2)
	c.now = c.now.Add(2 * time.Second)
	tr.Passed(recorded(t, g, event.NewPosition(1, 6), 2), 2)
	for seq, want := range []int{4, 4, 4, 4, 2, 2, 2, 2} {
		a := tr.Ask(trail.Query{Organization: g.Organization(), Group: "room.1", Position: event.NewPosition(1, uint64(seq))})
		if len(a.Passed) != 1 || a.Passed[0].Events != want {
			t.Errorf("event %d: got %+v, want it among %d", seq, a.Passed, want)
		}
		if second := causes(a)["second"]; (second == trail.CauseWritten) != (seq >= 4) {
			t.Errorf("event %d at the second connection: got %q", seq, second)
		}
	}
}

// TestOff: without bytes, a trail remembers nothing and says so.
func TestOff(t *testing.T) {
	tr := trail.New(trail.Options{Bytes: trail.DefaultBytes})
	g := testkit.Group(t, "acme", "room.1")
	conn := connect(t, tr, "acme", "ada", "c", "room.1")
	events := recorded(t, g, event.NewPosition(1, 0), 1)
	tr.Passed(events, 1)
	events[0].Alone().Tally().Wrote(1, time.Second)
	events[0].Alone().Tally().Lost(1)
	conn.Lost(events, trail.LostOldest, false)
	conn.History(g, events, true)
	conn.Denied(g, "unknown_group")
	conn.Left(g)
	conn.Ended("x", 1000)
	conn.Forget()
	tr.Dropped(g, event.Position{}, "x")
	tr.Gap(g, "x")
	tr.Refused(g.Organization(), "ada", "x")
	tr.LinkLost("", errors.New("x"))
	tr.LinkOpened("")
	if a := tr.Ask(trail.Query{Organization: g.Organization()}); !a.Off || tr.Used() != 0 {
		t.Errorf("got %+v with %d bytes, want nothing", a, tr.Used())
	}
}

// TestOutages: a link that is lost and cannot be opened is one outage, and few are remembered.
func TestOutages(t *testing.T) {
	c := newClock()
	tr := newTrail(c, 1<<20, 1<<20)
	for range 100 {
		c.now = c.now.Add(time.Second)
		tr.LinkLost("a", errors.New("refused"))
		tr.LinkLost("a", errors.New(strings.Repeat("again", 100)))
		c.now = c.now.Add(time.Second)
		tr.LinkOpened("a")
	}
	tr.LinkLost("b", errors.New(strings.Repeat("x", 1000)))
	a := tr.Ask(trail.Query{Organization: testkit.Org(t, "acme"), Since: c.now.Add(-time.Hour)})
	if len(a.Outages) != 32 || len(a.Outages[31].Error) != 200 || !a.Outages[31].To.IsZero() || a.Outages[30].To != c.now || a.Outages[30].Error != "refused" {
		t.Errorf("got %d outages, the last %+v", len(a.Outages), a.Outages[len(a.Outages)-2:])
	}
}

// TestConcurrentTrail: everything may happen at once.
func TestConcurrentTrail(t *testing.T) {
	tr := trail.New(trail.Options{BytesPerOrganization: trail.MinBytes, Bytes: 2 * trail.MinBytes})
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 2000 {
				org := fmt.Sprint("org", random.IntN(5))
				g := testkit.Group(t, org, "room.1")
				conn := connect(t, tr, org, "ada", fmt.Sprint(w, i), "room.1")
				events := recorded(t, g, event.NewPosition(1, uint64(i)), 1)
				tr.Passed(events, 1)
				events[0].Alone().Tally().Wrote(1, time.Duration(i))
				conn.Lost(events, trail.LostOldest, random.IntN(2) == 0)
				if random.IntN(50) == 0 {
					tr.Ask(trail.Query{Organization: g.Organization(), Position: events[0].Position()})
				}
				conn.Ended("x", 1000)
			}
		})
	}
	all.Wait()
	if got := tr.Used(); got > 2*trail.MinBytes+4<<10 {
		t.Errorf("%d bytes", got)
	}
	for i := range 5 {
		if a := tr.Ask(trail.Query{Organization: testkit.Org(t, fmt.Sprint("org", i))}); a.Open != 0 {
			t.Errorf("%d open connections are left", a.Open)
		}
	}
}

// TestAnswersFit: the largest answer of a node is below what nodes may send each other, 1 MiB.
func TestAnswersFit(t *testing.T) {
	c := newClock()
	tr := newTrail(c, 64<<20, 64<<20)
	long := func(text string, length int) string { return (text + strings.Repeat("x", length))[:length] }
	org, user := long("o", 64), long("u", 128)
	var conns []*trail.Connection
	for i := range 1000 {
		var groups []string
		for k := range 30 {
			groups = append(groups, long(fmt.Sprint(k), 100))
		}
		conns = append(conns, connect(t, tr, org, user, long(fmt.Sprint(i), 26), groups...))
	}
	asked := testkit.Group(t, org, long("asked", 100))
	at := event.NewPosition(uint64(c.now.UnixMilli()), 0)
	for i := range 300 {
		c.now = c.now.Add(2 * time.Second)
		tr.Passed(recorded(t, testkit.Group(t, org, long(fmt.Sprint("p", i), 100)), at, 1), 1)
		tr.Dropped(asked, at, trail.DropRate)
		tr.Gap(asked, trail.GapIncomplete)
		tr.LinkLost(fmt.Sprint(i), errors.New(long("e", 1000)))
		conns[i].Denied(asked, long("d", 20))
	}
	for _, q := range []trail.Query{{Position: at, Group: asked.Name(), User: user}, {Position: at}, {Since: c.now.Add(-time.Hour)}, {Since: c.now.Add(-time.Hour), User: user, Group: asked.Name()}} {
		q.Organization = asked.Organization()
		a := tr.Ask(q)
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 1<<20-1000 {
			t.Errorf("%+v: an answer of %d bytes, with %d outcomes", q, len(b), len(a.Outcomes))
		}
	}
}

// TestConnectWhileForgotten: an organization that is forgotten at the moment at which one of its
// members connects is remembered again.
func TestConnectWhileForgotten(t *testing.T) {
	tr := trail.New(trail.Options{BytesPerOrganization: 1, Bytes: 1})
	done := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				tr.Refused(testkit.Org(t, fmt.Sprint("other", i%50)), "eve", "rate")
			}
		}
	})
	acme := testkit.Org(t, "acme")
	for range 3000 {
		c := tr.Connect(trail.Client{Organization: acme, ID: "1", User: "ada"})
		if open := tr.Ask(trail.Query{Organization: acme}).Open; open != 1 {
			t.Errorf("%d connections are open, want 1", open)
			break
		}
		c.Ended("gone", 1001)
	}
	close(done)
	others.Wait()
	if open := tr.Ask(trail.Query{Organization: acme}).Open; open != 0 {
		t.Errorf("%d connections are open, want 0", open)
	}
}

// TestRecordIsSmall: records fill a size class of the allocator with the 8 bytes that it adds. Every
// event that is not merged has one.
func TestRecordIsSmall(t *testing.T) {
	const class, header = 4 << 10, 8
	if got := trail.RecordBytes*trail.ChunkRecords + header; got > class || class-got >= trail.RecordBytes {
		t.Errorf("%d records take %d bytes, want as many as fit into %d", trail.ChunkRecords, got, class)
	}
}
