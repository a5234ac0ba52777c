package gateway_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"orgcast/internal/gateway"
	"orgcast/internal/inventory"
	"orgcast/internal/testkit"
)

// rows fails the test at an error and returns the rows of a page.
func rows[R any](tb testing.TB, report func(inventory.Query) (inventory.Page[R], error), q inventory.Query) []R {
	tb.Helper()
	if q.Limit == 0 {
		q.Limit = inventory.MaxLimit
	}
	page, err := report(q)
	if err != nil {
		tb.Fatal(err)
	}
	return page.Rows
}

// TestReportsShowWhoIsConnected: who, where, in which groups, and what each was sent.
func TestReportsShowWhoIsConnected(t *testing.T) {
	n := startNode(t, setup{})
	before := time.Now().Add(-time.Second)
	ada, alan, grace := n.subscribe("ada", "acme", "all", "room.1"), n.subscribe("alan", "acme", "all"), n.subscribe("grace", "globex", "all")
	for i := range 3 {
		payload := n.publish("acme", "all", fmt.Sprint(i))
		ada.Expect(t, payload)
		alan.Expect(t, payload)
	}
	grace.Expect(t, n.publish("globex", "all", "x"))
	s := n.gateway
	testkit.Eventually(t, "all deliveries are counted", func() bool { return n.metric("orgcast_deliveries_total") == 7 })

	list := rows(t, s.ReportConnections, inventory.Query{})
	if len(list) != 3 {
		t.Fatalf("got %v, want three connections", list)
	}
	for _, c := range list {
		want := map[string]struct {
			org                string
			groups, deliveries int
		}{"ada": {"acme", 2, 3}, "alan": {"acme", 1, 3}, "grace": {"globex", 1, 1}}[c.User]
		if c.Organization != want.org || c.Groups != want.groups || c.Deliveries != uint64(want.deliveries) {
			t.Errorf("got %+v, want %+v", c, want)
		}
		if c.ID == "" || c.Session == "" || c.Route != "/ws/events" || c.Transport != "websocket" || c.Client != "127.0.0.1" || c.ConnectedAt.Before(before) || c.DeliveredBytes < 40 {
			t.Errorf("got %+v", c)
		}
	}
	for _, test := range []struct {
		q    inventory.Query
		want int
	}{
		{inventory.Query{Organization: "acme"}, 2},
		{inventory.Query{User: "ada"}, 1},
		{inventory.Query{Group: "all"}, 3},
		{inventory.Query{Group: "room.1"}, 1},
		{inventory.Query{Organization: "globex", Group: "room.1"}, 0},
		{inventory.Query{Limit: 2}, 2},
		{inventory.Query{Limit: 1, After: list[1].ID}, 1},
		{inventory.Query{After: list[2].ID}, 0},
	} {
		if got := rows(t, s.ReportConnections, test.q); len(got) != test.want {
			t.Errorf("%+v: got %d connections, want %d", test.q, len(got), test.want)
		}
	}

	s.Measure(time.Now(), false)
	for _, o := range rows(t, s.ReportOrganizations, inventory.Query{}) {
		want := map[string][2]int{"acme": {2, 6}, "globex": {1, 1}}[o.ID]
		if o.Connections != want[0] || o.Deliveries != uint64(want[1]) || o.Nodes != 1 {
			t.Errorf("got %+v, want %v connections and deliveries", o, want)
		}
	}
	got := make(map[string]int)
	for _, g := range rows(t, s.ReportGroups, inventory.Query{}) {
		got[g.Key()] = g.Connections
	}
	if fmt.Sprint(got) != "map[acme/all:2 acme/room.1:1 globex/all:1]" {
		t.Errorf("groups: got %v", got)
	}
	if got := rows(t, s.ReportGroups, inventory.Query{User: "alan", Group: "all"}); len(got) != 1 || got[0].Connections != 1 {
		t.Errorf("groups of alan: got %v", got)
	}
}

// TestReportsShowWhoIsSlow: bytes that wait, and for how long.
func TestReportsShowWhoIsSlow(t *testing.T) {
	n := slowNode(t, webSockets, gateway.Options{})
	c := testkit.Connect(t, asAsked(narrow(n.slowAddr)), n.handshake("/ws/drop_oldest", "ada", "acme", nil))
	defer c.Close()
	e := newNumbers(t)
	g := mustGroup(t, "acme", "a")
	testkit.Eventually(t, "bytes wait for the browser", func() bool {
		n.hub.Deliver(e.event(g, "note", 16<<10))
		o := rows(t, n.gateway.ReportOrganizations, inventory.Query{Sort: inventory.ByLag})
		return len(o) == 1 && o[0].QueuedBytes > 0 && o[0].LagSeconds > 0
	})
	list := rows(t, n.gateway.ReportConnections, inventory.Query{Sort: inventory.ByQueued})
	if len(list) != 1 || list[0].QueuedBytes == 0 || list[0].LagSeconds <= 0 {
		t.Errorf("got %+v, want who is slow", list)
	}
}

// TestUsageCountsWhatConnectionsLeaveBehind: deliveries to connections that have ended count, once,
// also while others end, and a reset starts over.
func TestUsageCountsWhatConnectionsLeaveBehind(t *testing.T) {
	n := startNode(t, setup{})
	const browsers, events = 20, 5
	total := func(reset bool) (sum uint64, peak int) {
		for _, u := range n.gateway.Measure(time.Now(), reset) {
			sum, peak = sum+u.Deliveries, peak+u.PeakConnections
		}
		return sum, peak
	}
	var ending sync.WaitGroup
	for range browsers {
		c := n.subscribe("ada", "acme", "all")
		for i := range events {
			c.Expect(t, n.publish("acme", "all", fmt.Sprint(i)))
		}
		ending.Go(func() { _ = c.Close() })
		if got, _ := total(false); float64(got) > n.metric("orgcast_deliveries_total") {
			t.Fatalf("got %d deliveries, more than there were", got)
		}
	}
	ending.Wait()
	testkit.Eventually(t, "all have ended", func() bool { return n.gateway.Connections() == 0 })
	want := n.metric("orgcast_deliveries_total")
	if got, peak := total(true); float64(got) != want || want < browsers*events || peak < 1 || peak > browsers {
		t.Errorf("got %d deliveries and a peak of %d, want %v and 1 to %d", got, peak, want, browsers)
	}
	if got, _ := total(false); got != 0 {
		t.Errorf("after the reset: got %d deliveries, want none", got)
	}
}

// TestCountsNeverFall: what is shown of an organization never falls while connections hand over what
// they have delivered, or a counter in Prometheus would seem to have started over.
func TestCountsNeverFall(t *testing.T) {
	n := startNode(t, setup{})
	stays := n.subscribe("alan", "acme", "all")
	looking, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(looking)
		for last := uint64(0); ; {
			select {
			case <-stop:
				return
			default:
			}
			page, err := n.gateway.ReportOrganizations(inventory.Query{Limit: 1})
			if err != nil || len(page.Rows) != 1 || page.Rows[0].Deliveries < last {
				t.Errorf("got %+v, %v after %d deliveries", page.Rows, err, last)
				return
			}
			last = page.Rows[0].Deliveries
		}
	}()
	for i := range 100 {
		c := n.subscribe("ada", "acme", "all")
		payload := n.publish("acme", "all", fmt.Sprint(i))
		c.Expect(t, payload)
		stays.Expect(t, payload)
		_ = c.Close()
	}
	close(stop)
	<-looking
}

// TestUsageOfThoseWhoLeaveAtAReset: what an organization's last connection got counts once, even if
// it ends while a reset drops organizations without connections.
func TestUsageOfThoseWhoLeaveAtAReset(t *testing.T) {
	n := startNode(t, setup{})
	var sum uint64
	measure := func() {
		for _, u := range n.gateway.Measure(time.Now(), true) {
			sum += u.Deliveries
		}
	}
	for i := range 50 {
		c := n.subscribe("ada", "acme", "all")
		c.Expect(t, n.publish("acme", "all", fmt.Sprint(i)))
		_ = c.Close()
		for n.gateway.Connections() > 0 {
			measure()
		}
		measure()
		if want := n.metric("orgcast_deliveries_total"); float64(sum) != want {
			t.Fatalf("got %d deliveries after %d connections, want %v", sum, i+1, want)
		}
	}
	if got := gateway.Accounts(n.gateway); got != 0 {
		t.Errorf("accounts of organizations without connections: got %d, want none", got)
	}
}

// BenchmarkReport is what a question costs a node with 50,000 connections of 1,000 organizations.
// "lock" is the longest time for which a lock of the server is held.
func BenchmarkReport(b *testing.B) {
	s := gateway.Crowd(b, 50_000)
	for name, report := range map[string]func() error{
		"organizations": func() error { _, err := s.ReportOrganizations(inventory.Query{Limit: 100}); return err },
		"connections":   func() error { _, err := s.ReportConnections(inventory.Query{Limit: 100}); return err },
		"slowest": func() error {
			_, err := s.ReportConnections(inventory.Query{Limit: 100, Sort: inventory.ByLag})
			return err
		},
		"groups":  func() error { _, err := s.ReportGroups(inventory.Query{Limit: 100}); return err },
		"measure": func() error { s.Measure(time.Now(), false); return nil },
		"lock":    func() error { s.Snapshot(); return nil },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := report(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
