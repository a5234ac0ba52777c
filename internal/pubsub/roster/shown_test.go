package roster_test

import (
	"runtime"
	"testing"

	"orgcast/internal/event"
	"orgcast/internal/pubsub/roster"
)

// TestRepetitionsAreRememberedInBounds: a flood of keys in one group makes only that group forget
// its old ones, and a flood in one organization only that organization, within 1 MiB.
func TestRepetitionsAreRememberedInBounds(t *testing.T) {
	at := func(n int) event.Head {
		return event.Head{Position: event.NewPosition(uint64(n)+1, 0), Key: uint64(n) + 1}
	}
	echoOf := func(n int) event.Head {
		return event.Head{Position: event.NewPosition(uint64(n)+1, 7), Key: uint64(n) + 1}
	}
	var s roster.Shown
	s.Add(1, at(0))
	for n := range 3 * roster.ShownPerGroup {
		s.Add(0, at(n))
	}
	if got, want := s.Len(), roster.ShownPerGroup+1; got != want {
		t.Errorf("remembered: got %d, want %d", got, want)
	}
	for n, want := range map[int]bool{0: false, 2*roster.ShownPerGroup - 1: false, 2 * roster.ShownPerGroup: true, 3*roster.ShownPerGroup - 1: true} {
		if got := s.Repeats(0, echoOf(n)); got != want {
			t.Errorf("event %d of a flood: known %t, want %t", n, got, want)
		}
	}
	if !s.Repeats(1, echoOf(0)) {
		t.Error("the flood of one group made another one forget")
	}

	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s = roster.Shown{}
	for n := range 3 * roster.ShownPerOrganization {
		s.Add(n%1000, at(n))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := s.Len(); got != roster.ShownPerOrganization {
		t.Errorf("remembered of 1000 groups: got %d, want %d", got, roster.ShownPerOrganization)
	}
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 1<<20+200<<10 { // 1000 groups have 48 bytes each
		t.Errorf("memory: got %d bytes, want at most 1 MiB beside the groups", used)
	}
	for group := range 1000 {
		s.Forget(group)
	}
	if got := s.Len(); got != 0 {
		t.Errorf("remembered of groups that are gone: got %d", got)
	}
}
