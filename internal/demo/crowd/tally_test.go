package crowd_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/demo/crowd"
)

// TestTallyCountsWhatIsWrong: a delivery that crossed, one that came twice and one that never came
// move their counters, whatever the event says about itself.
func TestTallyCountsWhatIsWrong(t *testing.T) {
	t.Parallel()
	type arrival struct{ at, organization, id string }
	right := []arrival{{"acme", "acme", "A1"}, {"acme", "acme", "A2"}, {"globex", "globex", "G1"}}
	tests := map[string]struct {
		arrivals    []arrival
		unconfirmed string
		want        crowd.Figures // without latencies
	}{
		"all is well":              {arrivals: right, want: crowd.Figures{Deliveries: 3}},
		"foreign":                  {arrivals: append(right[:3:3], arrival{"globex", "acme", "A1"}), want: crowd.Figures{Deliveries: 4, Crossed: 1}},
		"foreign, forged own":      {arrivals: append(right[:3:3], arrival{"globex", "globex", "A1"}), want: crowd.Figures{Deliveries: 4, Crossed: 1}},
		"own, names another":       {arrivals: []arrival{right[0], right[1], {"globex", "acme", "G1"}}, want: crowd.Figures{Deliveries: 3, Crossed: 1, Lost: 1}},
		"never published":          {arrivals: append(right[:3:3], arrival{"acme", "acme", "A9"}), want: crowd.Figures{Deliveries: 4, Crossed: 1}},
		"without an id":            {arrivals: append(right[:3:3], arrival{"acme", "acme", ""}), want: crowd.Figures{Deliveries: 4, Crossed: 1}},
		"repeated":                 {arrivals: append(right[:3:3], right[0], right[0]), want: crowd.Figures{Deliveries: 5, Repeated: 2}},
		"lost":                     {arrivals: right[1:], want: crowd.Figures{Deliveries: 2, Lost: 1}},
		"one lost, one repeated":   {arrivals: []arrival{right[1], right[1], right[2]}, want: crowd.Figures{Deliveries: 3, Repeated: 1, Lost: 1}},
		"nothing came":             {want: crowd.Figures{Lost: 3}},
		"unconfirmed, did come":    {arrivals: right, unconfirmed: "A1", want: crowd.Figures{Deliveries: 3}},
		"unconfirmed, did not":     {arrivals: right[1:], unconfirmed: "A1", want: crowd.Figures{Deliveries: 2}},
		"unconfirmed, other place": {arrivals: []arrival{{"globex", "globex", "A1"}, right[1], right[2]}, unconfirmed: "A1", want: crowd.Figures{Deliveries: 3, Crossed: 1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tally := crowd.NewTally()
			guests := map[string]*crowd.Guest{"acme": tally.Join("acme"), "globex": tally.Join("globex")}
			now := time.Now()
			tally.Publish("acme", "A1", now)
			tally.Publish("acme", "A2", now)
			tally.Publish("globex", "G1", now)
			if test.unconfirmed != "" {
				tally.Unconfirmed(test.unconfirmed)
			}
			for _, a := range test.arrivals {
				tally.Deliver(guests[a.at], crowd.Delivery{Organization: a.organization, ID: a.id, At: now})
			}
			if got := tally.Outstanding(); got != test.want.Lost {
				t.Errorf("outstanding: got %d, want %d", got, test.want.Lost)
			}
			if got := tally.Figures().Lost; got != 0 {
				t.Errorf("lost before the end: got %d, want 0", got)
			}
			tally.Close()
			got := tally.Figures()
			got.P50MS, got.P99MS = 0, 0
			test.want.Published = 3
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("figures (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTallyKnowsGuestsApart: what one guest has received does not count for another one of the same
// organization.
func TestTallyKnowsGuestsApart(t *testing.T) {
	t.Parallel()
	tally := crowd.NewTally()
	first, second := tally.Join("acme"), tally.Join("acme")
	tally.Publish("acme", "A1", time.Now())
	for range 2 {
		tally.Deliver(first, crowd.Delivery{Organization: "acme", ID: "A1", At: time.Now()})
	}
	if got := tally.Outstanding(); got != 1 {
		t.Errorf("outstanding: got %d, want 1", got)
	}
	tally.Deliver(second, crowd.Delivery{Organization: "acme", ID: "A1", At: time.Now()})
	if got := tally.Figures(); got.Repeated != 1 || tally.Outstanding() != 0 {
		t.Errorf("got %d repeated and %d outstanding, want 1 and 0", got.Repeated, tally.Outstanding())
	}
}

func TestTallyQuantiles(t *testing.T) {
	t.Parallel()
	near := func(got, want float64) bool { return got >= want && got <= want*1.03 }
	tally := crowd.NewTally()
	if f := tally.Figures(); f.P50MS != 0 || f.P99MS != 0 {
		t.Errorf("of nothing: got %v and %v, want 0", f.P50MS, f.P99MS)
	}
	g := tally.Join("acme")
	start := time.Now()
	for i := range 1000 {
		id := time.Duration(i).String()
		tally.Publish("acme", id, start)
		tally.Deliver(g, crowd.Delivery{Organization: "acme", ID: id, At: start.Add(time.Duration(i+1) * time.Millisecond)})
	}
	if f := tally.Figures(); !near(f.P50MS, 500) || !near(f.P99MS, 990) {
		t.Errorf("of 1 to 1000 ms: got %v and %v, want 500 and 990, or up to 3 %% more", f.P50MS, f.P99MS)
	}
	tally.Publish("acme", "late", start)
	tally.Deliver(g, crowd.Delivery{Organization: "acme", ID: "late", At: start.Add(time.Hour)}) // beyond the last bucket
	tally.Publish("acme", "early", start)
	tally.Deliver(g, crowd.Delivery{Organization: "acme", ID: "early", At: start}) // below the first one
	if f := tally.Figures(); f.Deliveries != 1002 {
		t.Errorf("got %d deliveries, want 1002", f.Deliveries)
	}
}
