package bench_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"orgcast/internal/bench"
)

func TestMembershipTellsFaultsApart(t *testing.T) {
	t.Parallel()
	var (
		fine       = bench.NewArrival(0, false, false)
		late       = bench.NewArrival(-1, true, false)
		duplicated = bench.NewArrival(0, false, true)
		reordered  = bench.NewArrival(0, true, false)
		lost       = func(n int64) bench.Arrival { return bench.NewArrival(n, false, false) }
	)
	tests := map[string]struct {
		before  int // events published before the subscription is confirmed
		after   int // and after it
		receive []int64
		want    []bench.Arrival
		owed    int64
	}{
		"all in order":                     {after: 3, receive: []int64{1, 2, 3}, want: []bench.Arrival{fine, fine, fine}},
		"none":                             {before: 4, after: 3, owed: 3},
		"the last one":                     {after: 3, receive: []int64{1, 2}, want: []bench.Arrival{fine, fine}, owed: 1},
		"the first one":                    {before: 4, after: 3, receive: []int64{6, 7}, want: []bench.Arrival{lost(1), fine}},
		"two in the middle":                {after: 4, receive: []int64{1, 4}, want: []bench.Arrival{fine, lost(2)}},
		"earlier ones may be missing":      {before: 4, after: 1, receive: []int64{5}, want: []bench.Arrival{fine}},
		"earlier ones may arrive":          {before: 4, after: 1, receive: []int64{4, 5}, want: []bench.Arrival{fine, fine}},
		"earlier ones with a hole":         {before: 4, after: 1, receive: []int64{2, 4, 5}, want: []bench.Arrival{fine, lost(1), fine}},
		"twice":                            {after: 2, receive: []int64{1, 1, 2, 1}, want: []bench.Arrival{fine, duplicated, fine, duplicated}},
		"swapped":                          {after: 3, receive: []int64{1, 3, 2}, want: []bench.Arrival{fine, lost(1), late}},
		"swapped at the start":             {after: 2, receive: []int64{2, 1}, want: []bench.Arrival{lost(1), late}},
		"late, then twice":                 {after: 3, receive: []int64{1, 3, 2, 2}, want: []bench.Arrival{fine, lost(1), late, duplicated}},
		"the middle of a hole":             {after: 5, receive: []int64{1, 5, 3, 3, 2, 4}, want: []bench.Arrival{fine, lost(3), late, duplicated, late, late}},
		"older than the first, before all": {before: 4, after: 1, receive: []int64{4, 3, 5}, want: []bench.Arrival{fine, reordered, fine}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			room := bench.NewRoom(16)
			for range tt.before {
				room.Publish()
			}
			member := room.Member()
			member.Confirm()
			for range tt.after {
				room.Publish()
			}
			var got []bench.Arrival
			for _, seq := range tt.receive {
				got = append(got, member.Receive(seq))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if owed := member.Owed(); owed != tt.owed {
				t.Errorf("owed: got %d, want %d", owed, tt.owed)
			}
		})
	}
}

// TestFlowControlCompletesEveryEventOnce lets members come, read, lose and leave in any order: once
// every member has seen the last event or left, as many events are complete as were published.
func TestFlowControlCompletesEveryEventOnce(t *testing.T) {
	t.Parallel()
	const inFlight = 8
	rapid.Check(t, func(t *rapid.T) {
		room := bench.NewRoom(inFlight)
		members := make([]*bench.Membership, 5)
		var published, completed int
		read := make([]int64, len(members))
		take := func() { completed += room.Completed() }
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			i := rapid.IntRange(0, len(members)-1).Draw(t, "member")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				if published-completed < inFlight {
					room.Publish()
					published++
				}
			case 1:
				if members[i] == nil {
					members[i] = room.Member()
					members[i].Confirm()
					read[i] = int64(published)
				}
			case 2:
				if skip := rapid.Int64Range(1, 3).Draw(t, "skip"); members[i] != nil && read[i]+skip <= int64(published) {
					read[i] += skip
					members[i].Receive(read[i])
				}
			case 3:
				if members[i] != nil {
					members[i].Leave()
					members[i] = nil
				}
			}
			take()
			if completed > published {
				t.Fatalf("completed: got %d, want at most %d", completed, published)
			}
		}
		for _, m := range members {
			if m != nil {
				m.Leave()
			}
		}
		take()
		if completed != published {
			t.Errorf("completed: got %d, want %d", completed, published)
		}
	})
}

func TestHistogramQuantiles(t *testing.T) {
	t.Parallel()
	var h bench.Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("of nothing: got %v, want 0", got)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	values := make([]time.Duration, 50_000)
	for i := range values {
		values[i] = time.Duration(rng.ExpFloat64() * float64(5*time.Millisecond))
		h.Record(values[i])
	}
	slices.Sort(values)
	for _, q := range []float64{0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		want := values[max(int(q*float64(len(values))+0.5)-1, 0)]
		got := h.Quantile(q)
		if got < want || got > want+want/64+1 {
			t.Errorf("quantile %v: got %v, want %v to 1/64 more", q, got, want)
		}
	}
}

func TestHistogramTakesAnyDuration(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{-1, 0, 1, 127, 128, 129, time.Hour, 1<<63 - 1} {
		var h bench.Histogram
		h.Record(d)
		if got := h.Quantile(1); got != max(d, 0) {
			t.Errorf("got %v, want %v", got, max(d, 0))
		}
	}
}

func TestProcessFigures(t *testing.T) {
	t.Parallel()
	before, err := bench.CPUOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	after := before
	for x := 1; after == before; x++ { // ends with the next tick of CPU time
		for range 1000 {
			x ^= x << 1
		}
		if after, err = bench.CPUOf(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if rss, err := bench.RSSOf(os.Getpid()); err != nil || rss < 1<<20 {
		t.Errorf("memory: got %d, %v, want a megabyte at least", rss, err)
	}
	if _, err := bench.CPUOf(1 << 30); err == nil {
		t.Error("CPU time of no process: got none, want an error")
	}
}

func TestComparison(t *testing.T) {
	t.Parallel()
	reports := func(cpu ...float64) func() bench.Report {
		return func() bench.Report {
			next := cpu[0]
			cpu = cpu[1:]
			return bench.Report{Name: "x", ServerCPUPerMillion: next}
		}
	}
	c, err := bench.Compare(reports(3, 1, 2), reports(4, 4, 5), 3)
	if err != nil {
		t.Fatal(err)
	}
	want := []bench.Ratio{{
		Name: "server CPU-s per million deliveries", Left: 2, Right: 4, Ratio: 0.5, Lowest: 0.25, Highest: 0.75,
	}}
	if diff := cmp.Diff(want, c.Figures, cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".leftText" || p.Last().String() == ".rightText"
	}, cmp.Ignore())); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		report bench.Report
		want   int
	}{
		"all well":                     {want: 0},
		"noise and stalls are no harm": {report: bench.Report{NoisyLost: 9, NoisyDropped: 1, StalledClosed: 1, Gaps: 1, Refused: 1}, want: 0},
		"lost":                         {report: bench.Report{Lost: 1}, want: 1},
		"duplicated":                   {report: bench.Report{Duplicated: 1}, want: 1},
		"reordered":                    {report: bench.Report{Reordered: 1}, want: 1},
		"dropped":                      {report: bench.Report{Dropped: 1}, want: 1},
		"something left behind":        {report: bench.Report{Left: []string{"9 goroutines"}}, want: 1},
		"foreign outranks all":         {report: bench.Report{Foreign: 1, Lost: 1}, want: 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.report.ExitCode(); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestLeftBehind(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	tests := map[string]struct {
		before, after [3]float64 // goroutines, open files, heap
		want          int        // how many things
	}{
		"as before":            {[3]float64{25, 20, 2 * mib}, [3]float64{25, 20, 2 * mib}, 0},
		"nobody told":          {},
		"what the runtime has": {[3]float64{25, 20, 2 * mib}, [3]float64{28, 60, 5 * mib}, 0},
		"goroutines":           {[3]float64{25, 20, 2 * mib}, [3]float64{35, 20, 2 * mib}, 1},
		"sockets":              {[3]float64{25, 20, 2 * mib}, [3]float64{25, 520, 2 * mib}, 1},
		"heap":                 {[3]float64{25, 20, 2 * mib}, [3]float64{25, 20, 5.5 * mib}, 1},
		"everything":           {[3]float64{25, 20, 2 * mib}, [3]float64{1025, 1020, 9 * mib}, 3},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := bench.Left(1024, tt.before, tt.after); len(got) != tt.want {
				t.Errorf("got %q, want %d", got, tt.want)
			}
		})
	}
}
