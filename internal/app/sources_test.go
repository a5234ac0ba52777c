package app_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"orgcast/internal/app"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// source is a bus that fails, or counts subscriptions.
type source struct {
	err    error
	counts map[event.Group]int
}

// Subscribe implements the bus.
func (s *source) Subscribe(_ context.Context, g event.Group) error {
	if s.err == nil {
		s.counts[g]++
	}
	return s.err
}

// Unsubscribe implements the bus.
func (s *source) Unsubscribe(g event.Group) { s.counts[g]-- }

// TestSourcesSubscribeToAllOrNone: a source that fails leaves no subscription in the others.
func TestSourcesSubscribeToAllOrNone(t *testing.T) {
	org, err := orgctx.ParseID("acme")
	if err != nil {
		t.Fatal(err)
	}
	g, err := event.NewGroup(org, "report_7")
	if err != nil {
		t.Fatal(err)
	}
	first, second, third := &source{counts: map[event.Group]int{}}, &source{counts: map[event.Group]int{}}, &source{counts: map[event.Group]int{}}
	counts := func() []int { return []int{first.counts[g], second.counts[g], third.counts[g]} }
	sources := app.NewSources(first, second, third)
	if err := sources.Subscribe(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if got, want := counts(), []int{1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("subscribed %v, want %v", got, want)
	}
	second.err = errors.New("not now")
	if err := sources.Subscribe(t.Context(), g); !errors.Is(err, second.err) {
		t.Errorf("got %v, want %v", err, second.err)
	}
	if got, want := counts(), []int{1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("after an error: %v, want %v", got, want)
	}
	sources.Unsubscribe(g)
	if got, want := counts(), []int{0, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("unsubscribed %v, want %v", got, want)
	}
}
