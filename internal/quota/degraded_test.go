package quota_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"orgcast/internal/quota"
	"orgcast/internal/redisreply"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// takeRefused takes connections until it is refused, while Redis refuses to write, and returns how
// many it got.
func takeRefused(tb testing.TB, q *quota.Redis, org string) (n int) {
	tb.Helper()
	for {
		err := q.Take(tb.Context(), testkit.Org(tb, org))
		if err == nil && n < 1000 {
			n++
			continue
		}
		if err != nil && (!errors.Is(err, quota.ErrUnavailable) || errors.Is(err, quota.ErrFull) || !redisreply.WritesRefused(err)) {
			tb.Errorf("%s: got %v, want ErrUnavailable and why", org, err)
		}
		return n
	}
}

// unrecorded returns how many connections were admitted while Redis refused to write.
func unrecorded(tb testing.TB, registry *prometheus.Registry) int {
	tb.Helper()
	families, err := registry.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "orgcast_quota_unrecorded_total" {
		tb.Fatalf("metrics: got %v, %v, want one", families, err)
	}
	return int(families[0].GetMetric()[0].GetCounter().GetValue())
}

// TestWritesRefused: while Redis answers but does not write, a node admits its last share or a
// tenth of the limit, at least ten but never more than the limit. It counts these connections, and
// tells Redis when Redis writes again.
func TestWritesRefused(t *testing.T) {
	for _, state := range redistest.States() {
		t.Run(string(state), func(t *testing.T) {
			s := redistest.StartServer(t)
			f := newFixture(t, s.Addr)
			registry := prometheus.NewRegistry()
			q := f.node(quota.Options{Limit: 200, Registerer: registry})
			for org, limit := range map[string]string{"small": "3", "free": "0", "held": "4", "known": "50"} {
				if err := f.client.HSet(t.Context(), f.keys.Organization(testkit.Org(t, org)), "max_connections", limit).Err(); err != nil {
					t.Fatal(err)
				}
			}
			for org, n := range map[string]int{"shared": 1, "held": 4, "known": 1} {
				for range n {
					if err := q.Take(t.Context(), testkit.Org(t, org)); err != nil {
						t.Fatal(err)
					}
				}
			}
			s.RefuseWrites(state)
			want := map[string]int{
				"first":  20,   // a tenth of the limit
				"small":  3,    // all of a limit below ten
				"free":   1000, // no limit
				"shared": 24,   // an eighth was reserved ahead, at first
				"held":   0,    // it has all that it may have
				"known":  9,    // ten, with the one that it has
			}
			if state.ReadsRefused() { // the limits of organizations that were here before are known
				want["small"], want["free"] = 20, 20
			}
			total := 0
			for org, n := range want {
				if got := takeRefused(t, q, org); got != n {
					t.Errorf("%s: got %d connections, want %d", org, got, n)
				}
				total += n
			}
			// Connections from shares reserved ahead, used before the node met a refusal, are not
			// counted.
			if got := unrecorded(t, registry); got > total || got < total-24-8 {
				t.Errorf("metric: got %d, want about %d", got, total)
			}
			q.Renew(t.Context())
			if got := takeRefused(t, q, "first"); got != 0 {
				t.Errorf("after a renewal that was refused: got %d more, want 0", got)
			}
			q.Give(testkit.Org(t, "first"))
			if got := takeRefused(t, q, "first"); got != 1 {
				t.Errorf("after one was given back: got %d, want 1", got)
			}

			s.Heal()
			before := unrecorded(t, registry)
			q.Renew(t.Context())
			other := f.node(quota.Options{Limit: 20})
			if err := other.Take(t.Context(), testkit.Org(t, "first")); !errors.Is(err, quota.ErrFull) {
				t.Errorf("another node, after a renewal that was recorded: got %v, want ErrFull", err)
			}
			if err := q.Take(t.Context(), testkit.Org(t, "first")); err != nil {
				t.Errorf("got %v, want nil", err)
			}
			if got := unrecorded(t, registry); got != before {
				t.Errorf("metric: got %v more when Redis writes again, want none", got-before)
			}
		})
	}
}

// TestWritesRefusedToManyAtOnce: callers that wait for the same answer are admitted together, up to
// the allowed number.
func TestWritesRefusedToManyAtOnce(t *testing.T) {
	s := redistest.StartServer(t)
	f := newFixture(t, s.Addr)
	q := f.node(quota.Options{Limit: 100})
	s.RefuseWrites(redistest.OutOfMemory)
	var mu sync.Mutex
	admitted, refused := 0, 0
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			err := q.Take(t.Context(), testkit.Org(t, "acme"))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				admitted++
			case strings.Contains(err.Error(), "OOM"):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if admitted != 10 || refused != 30 {
		t.Errorf("got %d admitted and %d refused, want 10 and 30", admitted, refused)
	}
}
