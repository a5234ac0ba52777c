package lease_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orgcast/internal/lease"
	"orgcast/internal/session"
)

// endTimes returns how many ends orgcast_lease_end_seconds has seen, and the sum of their times.
func endTimes(t *testing.T, registry *prometheus.Registry) (n uint64, sum time.Duration) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "orgcast_lease_end_seconds" {
			h := f.GetMetric()[0].GetHistogram()
			return h.GetSampleCount(), time.Duration(h.GetSampleSum() * float64(time.Second)).Round(time.Millisecond)
		}
	}
	t.Fatal("there is no orgcast_lease_end_seconds")
	return 0, 0
}

// TestEndTimes: the time of an end counts from when the Keeper learned of it, by whatever way, until
// the socket is closed. A connection that ends by itself does not count.
func TestEndTimes(t *testing.T) {
	const period, deadline = 5 * time.Second, 30 * time.Second
	tests := map[string]struct {
		end  func(k *lease.Keeper, w *world)
		wait time.Duration // until the Keeper has learned of it
		want uint64
	}{
		"announcement": {end: func(k *lease.Keeper, _ *world) {
			k.Apply(lease.Message{Type: lease.SessionEnded, SessionID: "s1"})
		}, want: 1},
		"repeated announcement": {end: func(k *lease.Keeper, _ *world) {
			k.Apply(lease.Message{Type: lease.SessionEnded, SessionID: "s1"})
			k.Apply(lease.Message{Type: lease.UserDisabled, UserID: "ada"})
		}, want: 1},
		"check": {end: func(_ *lease.Keeper, w *world) {
			w.change(func() { w.sessions["ticket-s1"] = session.Standing{Err: session.ErrNone} })
		}, wait: period, want: 1},
		"deadline":  {end: func(_ *lease.Keeper, w *world) { w.change(func() { w.away = true }) }, wait: deadline, want: 1},
		"by itself": {end: func(*lease.Keeper, *world) {}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, registry := newWorld(), prometheus.NewRegistry()
				k, err := lease.NewKeeper(lease.Options{Sessions: w, Directory: w, Period: period, Deadline: deadline, Registerer: registry})
				if err != nil {
					t.Fatal(err)
				}
				run(t, k)
				time.Sleep(2 * period)
				h := open(t, k, "ada", "acme", "s1")
				test.end(k, w)
				time.Sleep(test.wait)
				synctest.Wait()
				if (h.cause() != nil) != (test.want > 0) {
					t.Fatalf("cause: got %v", h.cause())
				}
				const closing = 40 * time.Millisecond
				time.Sleep(closing)
				since := time.Since(h.ended)
				k.Remove(&h.lease)
				k.Remove(&h.lease)
				n, sum := endTimes(t, registry)
				if n != test.want {
					t.Errorf("got %d ends, want %d", n, test.want)
				}
				if n > 0 && (sum-since).Abs() > time.Millisecond { // the clock is in whole milliseconds
					t.Errorf("got %v, want %v since the end", sum, since)
				}
			})
		})
	}
}
