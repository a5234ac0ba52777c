package app

import "testing"

// TestPercentFor: garbage may take gcHeadroom, or half of the live memory if that is more.
func TestPercentFor(t *testing.T) {
	for live, want := range map[uint64]int{
		0: 1000, 1 << 20: 1000, 4 << 20: 400, 16 << 20: 100, 32 << 20: 50, 1 << 30: 50, 1 << 62: 50,
	} {
		if got := percentFor(live); got != want {
			t.Errorf("%d bytes live: got %d %%, want %d", live, got, want)
		}
	}
}
