package usage_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
	"orgcast/internal/usage"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// counter is a Meter that counts deliveries of one organization.
type counter struct{ deliveries atomic.Uint64 }

func (c *counter) Measure(_ time.Time, reset bool) []usage.Share {
	n := c.deliveries.Load()
	if reset {
		n = c.deliveries.Swap(0)
	}
	return []usage.Share{{Organization: "acme", PeakConnections: 1, Deliveries: n}}
}

// memory is a Store, which may be down.
type memory struct {
	mu     sync.Mutex
	down   bool
	hours  map[string]map[string]string
	writes int
}

// set changes whether the store is down.
func (m *memory) set(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

// state returns what is written of two hours, and how many writes there were.
func (m *memory) state(first, second string) (fields string, writes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hours[first]["acme:n1"] + ", " + m.hours[second]["acme:n1"], m.writes
}

func (m *memory) Write(_ context.Context, hour time.Time, fields map[string]string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errors.New("down")
	}
	m.writes++
	key := hour.Format("15")
	if m.hours[key] == nil {
		m.hours[key] = make(map[string]string)
	}
	maps.Copy(m.hours[key], fields)
	return nil
}

// TestEveryHourHasItsOwn: what is counted before the end of an hour is written to that hour, what is
// counted after it to the next; an organization without news costs no write; and what could not be
// written is written later.
func TestEveryHourHasItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour + 59*time.Minute + 55*time.Second))) // 5 s before an hour
		c, m := new(counter), &memory{hours: make(map[string]map[string]string)}
		hour := time.Now().UTC()
		first, second := hour.Format("15"), hour.Add(time.Hour).Format("15")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- usage.NewRecorder(usage.Options{Meter: c, Node: "n1", Store: m}).Run(ctx) }()
		at := func(after time.Duration, deliveries uint64) {
			time.Sleep(after)
			synctest.Wait()
			c.deliveries.Add(deliveries)
		}
		expect := func(want string) {
			t.Helper()
			synctest.Wait()
			if got, _ := m.state(first, second); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		at(4*time.Second, 7)
		at(time.Second+time.Millisecond, 0) // the end of the hour
		expect("1 7 0 0, ")
		at(time.Second, 2)
		at(10*time.Second, 0)
		expect("1 7 0 0, 1 2 0 0")
		_, before := m.state(first, second)
		at(time.Minute, 0)
		if _, after := m.state(first, second); after != before {
			t.Errorf("got %d writes without news", after-before)
		}
		m.set(true)
		at(time.Second, 1)
		at(time.Minute, 0)
		expect("1 7 0 0, 1 2 0 0")
		m.set(false)
		at(10*time.Second, 0)
		expect("1 7 0 0, 1 3 0 0")
		at(time.Second, 1)
		cancel() // in order
		<-done
		expect("1 7 0 0, 1 4 0 0")
	})
}

// resets counts what a Meter is asked for.
type resets struct {
	mu           sync.Mutex
	times, reset int
}

func (m *resets) Measure(_ time.Time, reset bool) []usage.Share {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.times++
	if reset {
		m.reset++
	}
	return nil
}

// TestMeasuresForRatesAndForgets: rates are those of the last 10 s, and each hour organizations that
// are gone are forgotten, also if nothing is kept.
func TestMeasuresForRatesAndForgets(t *testing.T) {
	for name, store := range map[string]usage.Store{"kept": &memory{hours: make(map[string]map[string]string)}, "not kept": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := new(resets)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() { _ = usage.NewRecorder(usage.Options{Meter: m, Node: "n1", Store: store}).Run(ctx) }()
				time.Sleep(2*time.Hour + time.Second)
				synctest.Wait()
				m.mu.Lock()
				defer m.mu.Unlock()
				if m.times != 720 || m.reset != 2 {
					t.Errorf("got %d measurements and %d resets, want 720 and 2", m.times, m.reset)
				}
			})
		})
	}
}

// TestClockPutBack: a clock that is put back a little does not begin the hour before again, which
// would overwrite what was written of it.
func TestClockPutBack(t *testing.T) {
	hour := time.Date(2026, 11, 29, 4, 0, 0, 0, time.UTC)
	c, m := new(counter), &memory{hours: make(map[string]map[string]string)}
	r := usage.NewRecorder(usage.Options{Meter: c, Node: "n1", Store: m})
	for _, step := range []struct {
		at         time.Duration
		deliveries uint64
	}{{59 * time.Minute, 7}, {time.Hour, 1}, {time.Hour - time.Second, 2}, {time.Hour + time.Second, 3}} {
		c.deliveries.Add(step.deliveries)
		usage.Record(t.Context(), r, hour.Add(step.at))
	}
	if got, _ := m.state("04", "05"); got != "1 8 0 0, 1 5 0 0" {
		t.Errorf("got %q, want %q", got, "1 8 0 0, 1 5 0 0")
	}
}

// onCluster is the Cluster that tests use while TestOnCluster runs, else nil.
var onCluster *redistest.Cluster

func newClient(t *testing.T) redis.UniversalClient {
	t.Helper()
	if onCluster != nil {
		return onCluster.NewClient(t)
	}
	return redistest.NewClient(t, redistest.Start(t))
}

// TestRowsAreSumsOfShares: page by page, for all organizations or one.
func TestRowsAreSumsOfShares(t *testing.T) {
	client, keys := newClient(t), testkit.Keys(t)
	s := usage.NewRedis(client, keys, 90*24*time.Hour)
	hour := time.Now().UTC().Truncate(time.Hour).Add(-2 * time.Hour)
	for at, fields := range map[time.Time]map[string]string{
		hour: {
			"acme:n1": "5 100 1000 20", "acme:n2": "3 50 500 1500", "globex:n1": "1 1 10 0", ":n1": "1 0 0 0",
			"acme": "1 1 1 1", "acme:n3": "1 2", "acme:n4": "1 2 3 x", "a b:n1": "1 1 1 1", // not shares
		},
		hour.Add(time.Hour): {"acme:n1": "2 7 70 0"},
	} {
		if err := s.Write(t.Context(), at, fields); err != nil {
			t.Fatal(err)
		}
	}
	if ttl := client.TTL(t.Context(), keys.Usage(hour)).Val(); ttl < 89*24*time.Hour-3*time.Hour || ttl > 91*24*time.Hour {
		t.Errorf("an hour expires in %v, want 90 days", ttl)
	}
	first, second := hour.Format(time.RFC3339), hour.Add(time.Hour).Format(time.RFC3339)
	for name, test := range map[string]struct {
		org   string
		limit int
		want  []string
	}{
		"all":          {"", 1000, []string{first + "/ 1 1 0 0 0", first + "/acme 2 8 150 1500 1.5", first + "/globex 1 1 1 10 0", second + "/acme 1 2 7 70 0"}},
		"page by page": {"", 1, []string{first + "/ 1 1 0 0 0", first + "/acme 2 8 150 1500 1.5", first + "/globex 1 1 1 10 0", second + "/acme 1 2 7 70 0"}},
		"one":          {"acme", 1, []string{first + "/acme 2 8 150 1500 1.5", second + "/acme 1 2 7 70 0"}},
		"none":         {"initech", 10, nil},
	} {
		q := usage.Query{From: hour, To: hour.Add(3 * time.Hour), Limit: test.limit}
		if test.org != "" {
			q.Organization = testkit.Org(t, test.org)
		}
		var got []string
		for more := true; more; {
			var rows []usage.Row
			var err error
			if rows, more, err = s.Read(t.Context(), q); err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				got = append(got, fmt.Sprint(r.Key(), " ", r.Nodes, " ", r.PeakConnections, " ", r.Deliveries, " ", r.DeliveredBytes, " ", r.LagSeconds))
				q.After = r.Key()
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", name, diff)
		}
	}
}

// TestOnCluster runs the tests that use Redis on a Redis Cluster too.
func TestOnCluster(t *testing.T) {
	onCluster = redistest.StartCluster(t, redistest.ClusterOptions{})
	t.Cleanup(func() { onCluster = nil })
	t.Run("RowsAreSumsOfShares", TestRowsAreSumsOfShares)
}

func TestQueriesAreChecked(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		query usage.Query
		want  error
	}{
		"a day":          {usage.Query{From: now.Add(-24 * time.Hour), To: now, Limit: 1}, nil},
		"no limit":       {usage.Query{From: now.Add(-24 * time.Hour), To: now}, usage.ErrLimit},
		"large limit":    {usage.Query{From: now.Add(-24 * time.Hour), To: now, Limit: 1001}, usage.ErrLimit},
		"backwards":      {usage.Query{From: now, To: now.Add(-time.Hour), Limit: 1}, usage.ErrPeriod},
		"too long":       {usage.Query{From: now.Add(-32 * 24 * time.Hour), To: now, Limit: 1}, usage.ErrPeriod},
		"bad cursor":     {usage.Query{From: now.Add(-time.Hour), To: now, Limit: 1, After: "x"}, usage.ErrCursor},
		"bad cursor too": {usage.Query{From: now.Add(-time.Hour), To: now, Limit: 1, After: "2026-11-29T00:00:00Z/a b"}, usage.ErrCursor},
	} {
		if got := test.query.Check(); !errors.Is(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func FuzzShare(f *testing.F) {
	f.Add("acme:n1", "5 100 1000 20")
	f.Add(":n1", "5 100 1000")
	f.Add("acme:n1:x", "-1 0 0 0")
	f.Fuzz(func(t *testing.T, field, text string) {
		share, ok := usage.ParseShare(field, text)
		if ok && (share.PeakConnections < 0 || share.LagSeconds < 0) {
			t.Errorf("%q %q: got %+v", field, text, share)
		}
	})
}
