package console

import (
	"sync"
	"time"

	"orgcast/internal/bucket"
	"orgcast/internal/orgctx"
)

const (
	// A page asks some three times in five seconds.
	orgPerSecond, orgBurst = 5, 40
	// All organizations together. A question costs every node a look at all its connections.
	nodePerSecond, nodeBurst = 40, 80
	// asking is how many questions may be under way, so that operators can always ask.
	asking = 4
	// maxPaced bounds the memory for organizations that have asked. They are forgotten all at once.
	maxPaced = 4096
)

// pace bounds how often organizations may ask, and how much at a time.
type pace struct {
	started time.Time
	slots   chan struct{} // one for each question under way; nobody closes it

	mu   sync.Mutex
	all  bucket.Bucket
	each map[orgctx.ID]*bucket.Bucket
}

func newPace(now time.Time) *pace {
	return &pace{started: now, slots: make(chan struct{}, asking), all: bucket.New(nodeBurst), each: make(map[orgctx.ID]*bucket.Bucket)}
}

// take returns nil if an organization may ask now. The caller then calls give.
func (p *pace) take(org orgctx.ID, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	age := now.Sub(p.started)
	own := p.each[org]
	if own == nil {
		if len(p.each) >= maxPaced {
			clear(p.each)
		}
		full := bucket.New(orgBurst)
		own = &full
		own.TakeN(age, orgPerSecond, orgBurst, 0) // its age begins now
		p.each[org] = own
	}
	if !own.Take(age, orgPerSecond, orgBurst) {
		return errPace
	}
	if !p.all.Take(age, nodePerSecond, nodeBurst) {
		return ErrBusy
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
		return ErrBusy
	}
}

// give ends a question.
func (p *pace) give() { <-p.slots }
