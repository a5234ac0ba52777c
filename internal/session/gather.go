package session

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// gatherTime is how long a question waits for others to travel with it.
	gatherTime = 5 * time.Millisecond
	// maxGatherTime is how long it waits at most while another question is under way. When all pages of a site
	// come back at once, most of them thus share a few questions.
	maxGatherTime = 50 * time.Millisecond
	// maxOutstanding bounds the questions that have no answer yet, in bytes.
	maxOutstanding = 32 << 20
)

// question is about one cookie. identity and err are set before its batch's answered is closed.
type question struct {
	value   string
	encoded []byte // value in JSON
	askers  int    // who wait for the answer; guarded by the gatherer's mu

	identity Identity
	err      error
}

// errNotAsked answers a question that was not asked.
var errNotAsked = fmt.Errorf("%w: not asked", ErrUnavailable)

func newQuestion(value string) *question {
	return &question{value: value, encoded: encodeText(value), err: errNotAsked}
}

// batch is the questions of one call.
type batch struct {
	questions []*question
	bytes     int

	byValue  map[string]*question // while it is gathered
	answered chan struct{}        // closed when all are answered
	ripe     bool                 // it has been gathered for gatherTime
}

// fits reports whether a question may travel with those of the batch.
func (b *batch) fits(q *question, limit int) bool {
	return len(b.questions) < limit && b.bytes+len(q.encoded)+1 <= maxQuestion
}

func (b *batch) add(q *question) {
	b.questions = append(b.questions, q)
	b.bytes += len(q.encoded) + 1
}

// gatherer lets questions that come at the same time travel together. It is safe for concurrent use.
type gatherer struct {
	limit int // questions of a batch
	// call answers the questions. It waits for the network, for a bounded time.
	call func(ctx context.Context, questions []*question)

	calls sync.WaitGroup

	mu          sync.Mutex
	open        *batch // gathers; nil if there is no question
	underWay    int    // calls
	outstanding int    // bytes of questions without an answer
	closed      bool
}

func newGatherer(limit int, call func(context.Context, []*question)) *gatherer {
	return &gatherer{limit: limit, call: call}
}

// ask waits for the answer to a question about a cookie. The same cookie is asked about once in a batch, but never
// is an older answer taken.
func (g *gatherer) ask(ctx context.Context, value string) (Identity, error) {
	b, q, err := g.join(ctx, value)
	if err != nil {
		return Identity{}, err
	}
	select {
	case <-b.answered:
		return q.identity, q.err
	case <-ctx.Done():
		g.mu.Lock()
		q.askers--
		g.mu.Unlock()
		return Identity{}, unavailable(context.Cause(ctx))
	}
}

// join puts a question among those that are gathered.
func (g *gatherer) join(ctx context.Context, value string) (*batch, *question, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, nil, fmt.Errorf("%w: closed", ErrUnavailable)
	}
	if g.open != nil {
		if q := g.open.byValue[value]; q != nil {
			q.askers++
			return g.open, q, nil
		}
	}
	q := newQuestion(value)
	if g.outstanding+len(q.encoded) > maxOutstanding {
		return nil, nil, fmt.Errorf("%w: too many questions without an answer", ErrUnavailable)
	}
	g.outstanding += len(q.encoded)
	q.askers = 1
	ctx = context.WithoutCancel(ctx) // who asks first may leave first
	if g.open != nil && !g.open.fits(q, g.limit) {
		g.send(ctx)
	}
	b := g.open
	if b == nil {
		b = &batch{byValue: make(map[string]*question), answered: make(chan struct{})}
		g.open = b
		time.AfterFunc(gatherTime, func() { g.ripen(ctx, b) })
	}
	b.add(q)
	b.byValue[value] = q
	if len(b.questions) == g.limit {
		g.send(ctx)
	}
	return b, q, nil
}

// ripen sends a batch, or lets it wait for the call that is under way.
func (g *gatherer) ripen(ctx context.Context, b *batch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != b {
		return
	}
	if b.ripe = true; g.underWay == 0 {
		g.send(ctx)
		return
	}
	time.AfterFunc(maxGatherTime-gatherTime, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.open == b {
			g.send(ctx)
		}
	})
}

// send makes the call of the batch that is open. g.mu is held.
func (g *gatherer) send(ctx context.Context) {
	b := g.open
	g.open = nil
	g.underWay++
	g.calls.Go(func() {
		if wanted := g.wanted(b); len(wanted) > 0 {
			g.call(ctx, wanted)
		}
		close(b.answered)
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, q := range b.questions {
			g.outstanding -= len(q.encoded)
		}
		if g.underWay--; g.underWay == 0 && g.open != nil && g.open.ripe {
			g.send(ctx)
		}
	})
}

// wanted returns the questions that someone still waits for.
func (g *gatherer) wanted(b *batch) []*question {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*question, 0, len(b.questions))
	for _, q := range b.questions {
		if q.askers > 0 {
			out = append(out, q)
		}
	}
	return out
}

func (g *gatherer) close() {
	g.mu.Lock()
	g.closed = true
	if g.open != nil {
		g.send(context.Background())
	}
	g.mu.Unlock()
	g.calls.Wait()
}
