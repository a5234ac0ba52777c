package app

import "testing"

// TestPercentFor: garbage may take gcHeadroom, or half of the live memory if that is more, or twice
// the live memory if collections would come too often.
func TestPercentFor(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		live, perSecond float64
		want            int
	}{
		{0, 0, 1000},
		{1 * mib, 0, 1000},
		{4 * mib, 0, 400},
		{16 * mib, 0, 100},
		{32 * mib, 0, 50},
		{1 << 40, 0, 50},
		{4 * mib, 100 * mib, 400},
		{16 * mib, 100 * mib, 200},
		{100 * mib, 1 * mib, 50},
		{100 * mib, 8 * mib, 80},
		{100 * mib, 20 * mib, 200},
		{100 * mib, 1 << 40, 200},
	} {
		if got := percentFor(c.live, c.perSecond); got != c.want {
			t.Errorf("%.0f bytes live, %.0f allocated per second: got %d %%, want %d", c.live, c.perSecond, got, c.want)
		}
	}
}
