package task_test

import "testing"

// TestNoteOfAnEarlierTryChangesNothing: if an earlier try of a request is recorded late, after a
// later try has dispatched the work or begun new work, the late record has no effect.
func TestNoteOfAnEarlierTryChangesNothing(t *testing.T) {
	f := newFixture(t)
	requests := newRequests(t, f)
	ctx := asUser(t, "acme", "ada")
	begin := func() (work string, done bool) {
		t.Helper()
		q, err := requests.Begin(ctx, "r1", []byte("content"))
		if err != nil {
			t.Fatal(err)
		}
		return q.Work, q.Done
	}
	first, err := requests.Begin(ctx, "r1", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	if err := requests.Again(ctx, first); err != nil {
		t.Fatal(err)
	}
	second, err := requests.Begin(ctx, "r1", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	if err := requests.Done(ctx, first); err != nil {
		t.Fatal(err)
	}
	if work, done := begin(); work != second.Work || done {
		t.Errorf("done, of the first try: got work %s, done %t, want %s, not done", work, done, second.Work)
	}
	if err := requests.Done(ctx, second); err != nil {
		t.Fatal(err)
	}
	if err := requests.Again(ctx, second); err != nil {
		t.Fatal(err)
	}
	if work, done := begin(); work != second.Work || !done {
		t.Errorf("again, after done: got work %s, done %t, want %s, done", work, done, second.Work)
	}
}
