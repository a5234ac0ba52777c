// Package gather lets questions that come at the same time travel together. A question that comes
// alone is asked at once. Those that come while another is under way are gathered, and go together
// as soon as its answer is there. So nothing waits for company, and the more questions come, the
// fewer calls each of them costs.
package gather

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrUnanswered is returned for a question that a call has not answered, because it panicked.
var ErrUnanswered = errors.New("gather: the question was not answered")

// Options are the options of [New]. All are required.
type Options[Q comparable, A any] struct {
	// Call answers questions, in their order. No question is among them twice. It waits for the
	// network, for a bounded time.
	Call func(ctx context.Context, questions []Q) []A
	// Most is how many questions one call can take.
	Most int
	// Patience is how long a question waits for the answers to earlier ones. Then it is asked
	// whether they have come or not.
	Patience time.Duration
}

// Gatherer asks questions. It is safe for concurrent use. It has no goroutines: one of those who ask
// makes the call for all.
type Gatherer[Q comparable, A any] struct {
	o Options[Q, A]

	mu       sync.Mutex
	underWay int          // calls, including those that an asker was told to make
	open     *batch[Q, A] // gathers questions while calls are under way; nil if there is none
}

// batch is the questions of one call.
type batch[Q comparable, A any] struct {
	questions []Q
	waiting   int           // those who ask and have not left; guarded by the Gatherer's mu
	lead      chan struct{} // tells one of them to make the call; capacity 1, and used once
	answered  chan struct{} // closed by the caller when the call is over
	answers   []A           // read after that; nil if the call panicked
}

// New returns a Gatherer.
func New[Q comparable, A any](o Options[Q, A]) *Gatherer[Q, A] { return &Gatherer[Q, A]{o: o} }

// Ask returns the answer to a question, from a call that begins after Ask was called. Askers of the
// same question may share an answer, and nothing else: if ctx ends, Ask returns its cause, and the
// others get their answers. An asker whose turn it is to make the call stays until the call is over.
// Any other error is [ErrUnanswered].
func (g *Gatherer[Q, A]) Ask(ctx context.Context, q Q) (answer A, err error) {
	b, place := g.join(q)
	if b == nil {
		return g.alone(ctx, q)
	}
	patience := time.NewTimer(g.o.Patience)
	defer patience.Stop()
	for {
		select {
		case <-b.answered:
			return b.answerTo(place)
		case <-b.lead:
			g.call(b) //nolint:contextcheck // see call
			return b.answerTo(place)
		case <-patience.C:
			if g.hurry(b) {
				g.call(b) //nolint:contextcheck // see call
				return b.answerTo(place)
			}
		case <-ctx.Done():
			g.leave(b)
			return answer, context.Cause(ctx)
		}
	}
}

// Waiting returns how many questions are gathered and not under way.
func (g *Gatherer[Q, A]) Waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		return 0
	}
	return len(g.open.questions)
}

// join puts a question among those that are gathered. It returns nil if none is under way.
func (g *Gatherer[Q, A]) join(q Q) (b *batch[Q, A], place int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.underWay == 0 {
		g.underWay++
		return nil, 0
	}
	if g.open != nil {
		if place = slices.Index(g.open.questions, q); place >= 0 {
			g.open.waiting++
			return g.open, place
		}
		if len(g.open.questions) == g.o.Most {
			g.send()
		}
	}
	if g.open == nil {
		g.open = &batch[Q, A]{lead: make(chan struct{}, 1), answered: make(chan struct{})}
	}
	b = g.open
	b.questions = append(b.questions, q)
	b.waiting++
	return b, len(b.questions) - 1
}

// send has the gathered questions asked, if there are any. Its caller holds mu.
func (g *Gatherer[Q, A]) send() {
	if b := g.open; b != nil {
		g.open = nil
		g.underWay++
		b.lead <- struct{}{}
	}
}

// over ends a call, and has those asked that were gathered meanwhile. Its caller holds mu.
func (g *Gatherer[Q, A]) over() {
	g.underWay--
	g.send()
}

// alone asks a question by itself.
func (g *Gatherer[Q, A]) alone(ctx context.Context, q Q) (answer A, err error) {
	defer func() { // also if the call panics
		g.mu.Lock()
		defer g.mu.Unlock()
		g.over()
	}()
	b := batch[Q, A]{answers: g.o.Call(ctx, []Q{q})}
	return b.answerTo(0)
}

// call asks the questions of a batch. Its context belongs to none of the askers: it must not end
// with one of them, nor carry the organization or the trace of one to the others.
func (g *Gatherer[Q, A]) call(b *batch[Q, A]) {
	defer func() { // also if the call panics
		close(b.answered)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.over()
	}()
	b.answers = g.o.Call(context.Background(), b.questions)
}

// hurry reports whether its caller has to make the call of a batch that still waits for others.
func (g *Gatherer[Q, A]) hurry(b *batch[Q, A]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != b {
		return false
	}
	g.open = nil
	g.underWay++
	return true
}

// leave takes an asker off a batch. If nobody is left, the questions are not asked.
func (g *Gatherer[Q, A]) leave(b *batch[Q, A]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if b.waiting--; b.waiting > 0 {
		return
	}
	if g.open == b {
		g.open = nil
		return
	}
	select {
	case <-b.lead: // nobody else can take it
		g.over()
	default:
	}
}

// answerTo returns an answer of a call that is over.
func (b *batch[Q, A]) answerTo(place int) (answer A, err error) {
	if place >= len(b.answers) {
		return answer, ErrUnanswered
	}
	return b.answers[place], nil
}
