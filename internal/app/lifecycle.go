package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// undoTimeout is how long an undo may take, unless it says otherwise. It is far longer than any
// undo takes, and only keeps a hanging part from blocking the end of the process.
const undoTimeout = 30 * time.Second

// stack holds the undo of each acquired resource.
type stack struct {
	unwound chan struct{} // closed by the first unwind when it has finished
	err     error         // of the first unwind; read after unwound is closed

	mu      sync.Mutex
	undos   []undo
	started bool
}

func newStack() *stack { return &stack{unwound: make(chan struct{})} }

type undo struct {
	name   string
	within func() time.Duration
	run    func(ctx context.Context) error
}

// add registers an undo, which is called once, in the reverse order of registration. Its context
// ends when its time is over, and from then on it is no longer waited for. An undo added after
// unwind began is called at once.
func (s *stack) add(name string, within time.Duration, run func(ctx context.Context) error) {
	s.addWithin(name, func() time.Duration { return within }, run)
}

// addWithin is add for an undo whose time is known when it begins.
func (s *stack) addWithin(name string, within func() time.Duration, run func(ctx context.Context) error) {
	u := undo{name, within, run}
	s.mu.Lock()
	late := s.started
	if !late {
		s.undos = append(s.undos, u)
	}
	s.mu.Unlock()
	if late {
		_ = u.do() // the first caller of unwind has the other errors, and does not need this one
	}
}

// unwind calls all undos, even after errors, and returns their errors. Another call waits for the
// first one and returns the same.
func (s *stack) unwind() error {
	s.mu.Lock()
	again := s.started
	s.started = true
	s.mu.Unlock()
	if again {
		<-s.unwound
		return s.err
	}
	var errs []error
	for _, u := range slices.Backward(s.undos) { // nothing is appended anymore
		errs = append(errs, u.do())
	}
	s.err = errors.Join(errs...)
	close(s.unwound)
	return s.err
}

func (u undo) do() error {
	within := u.within()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	done := make(chan error, 1) // so that a late undo does not block
	go func() { done <- u.run(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	default:
		return fmt.Errorf("stop: %s: not done within %s", u.name, within)
	}
}
