package directory_test

import (
	"errors"
	"testing"

	"orgcast/internal/directory"
	"orgcast/internal/testkit/redistest"
)

// TestClaimWhileWritesAreRefused: while Redis refuses to write, a conversation claimed earlier can
// still be opened, by its owner alone. A new one cannot be claimed.
func TestClaimWhileWritesAreRefused(t *testing.T) {
	for _, state := range redistest.States() {
		if state.ReadsRefused() {
			continue
		}
		t.Run(string(state), func(t *testing.T) {
			f := newFixture(t)
			o, _ := newObjects(t, f)
			ctx := as(t, "acme")
			if owner, err := o.Claim(ctx, "chat", "1", "ada"); !owner || err != nil {
				t.Fatalf("got %v, %v, want the owner", owner, err)
			}
			f.server.RefuseWrites(state)
			for _, step := range []struct {
				id, user string
				owner    bool
				err      error
			}{{"1", "ada", true, nil}, {"1", "alan", false, nil}, {"2", "ada", false, directory.ErrUnavailable}} {
				if owner, err := o.Claim(ctx, "chat", step.id, step.user); owner != step.owner || !errors.Is(err, step.err) {
					t.Errorf("%s by %s: got %v, %v, want %v, %v", step.id, step.user, owner, err, step.owner, step.err)
				}
			}
		})
	}
}
