// Package gather lets questions that come at the same time travel together. A question that comes
// alone is asked at once, and takes along those of goroutines that are ready to ask. Those that come
// while a call is under way are gathered, and go together as soon as its answer is there. So nothing
// waits for company while the processor is idle, and the more questions come, the fewer calls each
// of them costs.
package gather

import (
	"context"
	"errors"
	"runtime"
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
	underWay int          // calls, including those that an asker is to make
	open     *batch[Q, A] // gathers questions until its call begins; nil if there is none
}

// batch is the questions of one call.
type batch[Q comparable, A any] struct {
	questions []Q
	waiting   int           // those who ask and have not left; guarded by the Gatherer's mu
	led       bool          // one of them is to make the call; guarded by the Gatherer's mu
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
	b, place, lead := g.join(q)
	if lead {
		g.call(ctx, b)
		return b.answerTo(place)
	}
	patience := time.NewTimer(g.o.Patience)
	defer patience.Stop()
	for {
		select {
		case <-b.answered:
			return b.answerTo(place)
		case <-b.lead:
			g.call(ctx, b)
			return b.answerTo(place)
		case <-patience.C:
			if g.hurry(b) {
				g.call(ctx, b)
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

// join puts a question among those that are gathered. lead says that no call is under way, so that
// its caller has to make one.
func (g *Gatherer[Q, A]) join(q Q) (b *batch[Q, A], place int, lead bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != nil {
		if place = slices.Index(g.open.questions, q); place >= 0 {
			g.open.waiting++
			return g.open, place, false
		}
		if len(g.open.questions) == g.o.Most {
			g.send()
			g.open = nil
		}
	}
	if g.open == nil {
		g.open = &batch[Q, A]{lead: make(chan struct{}, 1), answered: make(chan struct{})}
	}
	b = g.open
	b.questions = append(b.questions, q)
	b.waiting++
	if lead = g.underWay == 0; lead {
		b.led = true
		g.underWay++
	}
	return b, len(b.questions) - 1, lead
}

// send has one of those who wait make the call for the gathered questions, if there are any. Its
// caller holds mu.
func (g *Gatherer[Q, A]) send() {
	if b := g.open; b != nil && !b.led {
		b.led = true
		g.underWay++
		b.lead <- struct{}{}
	}
}

// over ends a call, and has those asked that were gathered meanwhile. Its caller holds mu.
func (g *Gatherer[Q, A]) over() {
	g.underWay--
	g.send()
}

// call asks the questions of a batch, and those of goroutines that need only be let to run. If there
// are several askers, its context belongs to none of them: it must not end with one of them, nor
// carry the organization or the trace of one to the others.
func (g *Gatherer[Q, A]) call(ctx context.Context, b *batch[Q, A]) { //nolint:contextcheck // see above
	runtime.Gosched()
	if g.begin(b) > 1 {
		ctx = context.Background()
	}
	defer func() { // also if the call panics
		close(b.answered)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.over()
	}()
	b.answers = g.o.Call(ctx, b.questions)
}

// begin takes no more questions into a batch, and returns how many askers it has, or has had.
func (g *Gatherer[Q, A]) begin(b *batch[Q, A]) (askers int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.close(b)
	return max(b.waiting, len(b.questions))
}

// close takes no more questions into a batch. Its caller holds mu.
func (g *Gatherer[Q, A]) close(b *batch[Q, A]) {
	if g.open == b {
		g.open = nil
	}
}

// hurry reports whether its caller has to make the call of a batch that still waits for others.
func (g *Gatherer[Q, A]) hurry(b *batch[Q, A]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if b.led {
		return false
	}
	b.led = true
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
	g.close(b)
	if !b.led {
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
