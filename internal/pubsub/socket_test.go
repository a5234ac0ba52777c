package pubsub_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/pubsub"
)

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	repeat := func(n int, gaps ...time.Duration) (all []time.Duration) {
		for range n {
			all = append(all, gaps...)
		}
		return all
	}
	for name, tc := range map[string]struct {
		gaps []time.Duration
		want bool
	}{
		"one event in flight to a thousand": {repeat(100, 10*ms), false},
		"a hundred in a second":             {repeat(100, 10*ms), false},
		"two thousand in a second":          {repeat(pubsub.BusyReads, ms/2), true},
		"nearly enough":                     {repeat(pubsub.BusyReads-1, ms/2), false},
		"never enough in a row":             {repeat(20, append(repeat(pubsub.BusyReads-1, ms/2), 3*ms)...), false},
		"stays busy over a short gap":       {append(repeat(pubsub.BusyReads, ms/2), 7*ms), true},
		"quiet after a long one":            {append(repeat(pubsub.BusyReads, ms/2), 9*ms), false},
		"busy again only after as many":     {append(repeat(pubsub.BusyReads, ms/2), 9*ms, ms), false},
	} {
		t.Run(name, func(t *testing.T) {
			var p pubsub.Pace
			now := time.Unix(1e9, 0)
			got := p.Read(now)
			for _, gap := range tc.gaps {
				now = now.Add(gap)
				got = p.Read(now)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("busy (-want +got):\n%s", diff)
			}
		})
	}
}
