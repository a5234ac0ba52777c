package app

import "testing"

// TestPercentFor: garbage may take half of the live memory, or more if that is gcHeadroom or if
// collections would come too often, but never more than twice the live memory. In a rush of new
// connections they may come often.
func TestPercentFor(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		live, perSecond float64
		want            int
	}{
		{0, 0, 200},
		{1 * mib, 0, 200},
		{4 * mib, 0, 200},
		{8 * mib, 0, 100},
		{16 * mib, 0, 50},
		{1 << 40, 0, 50},
		{16 * mib, 100 * mib, 200},
		{17 * mib, 100 * mib, 50},
		{100 * mib, 1 * mib, 50},
		{100 * mib, 8 * mib, 80},
		{100 * mib, 20 * mib, 200},
		{100 * mib, 50 * mib, 200},
		{100 * mib, 51 * mib, 50},
	} {
		if got := percentFor(c.live, c.perSecond); got != c.want {
			t.Errorf("%.0f bytes live, %.0f allocated per second: got %d %%, want %d", c.live, c.perSecond, got, c.want)
		}
	}
}
