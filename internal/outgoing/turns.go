package outgoing

import (
	"context"
	"errors"
	"sync"

	"orgcast/internal/orgctx"
)

// turns bounds how many calls of each organization are under way at once.
type turns struct {
	limit int

	mu    sync.Mutex
	lines map[orgctx.ID]*line // of organizations that have calls
}

// line is the calls of one organization.
type line struct {
	places chan struct{} // as many as may be under way; nobody closes it
	calls  int           // under way and waiting; guarded by turns.mu
}

func newTurns(limit int) *turns { return &turns{limit: limit, lines: make(map[orgctx.ID]*line)} }

// take waits for a place, which leave gives back. It returns [ErrBusy] if there was none in time,
// and [ErrAbandoned] if ctx ended otherwise.
func (t *turns) take(ctx context.Context, org orgctx.ID) (leave func(), err error) {
	t.mu.Lock()
	l := t.lines[org]
	if l == nil {
		l = &line{places: make(chan struct{}, t.limit)}
		t.lines[org] = l
	}
	l.calls++
	t.mu.Unlock()
	select {
	case l.places <- struct{}{}:
		return func() { <-l.places; t.left(org, l) }, nil
	case <-ctx.Done():
		t.left(org, l)
		if err := ended(ctx); !errors.Is(err, ErrTimeout) {
			return nil, err
		}
		return nil, ErrBusy
	}
}

func (t *turns) left(org orgctx.ID, l *line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.calls--; l.calls == 0 {
		delete(t.lines, org)
	}
}
