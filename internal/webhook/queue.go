package webhook

import (
	"sync"

	"orgcast/internal/orgctx"
)

const (
	// queueBytesPerOrganization bounds what waits in memory for one organization. It is written
	// within milliseconds, unless Redis is away.
	queueBytesPerOrganization = 1 << 20
	// queueBytes bounds what waits for all.
	queueBytes = 64 << 20
)

// queue holds what has happened until it is written. Organizations take turns. It is safe for
// concurrent use.
type queue struct {
	mu    sync.Mutex
	lines map[orgctx.ID]*waiting
	turns []orgctx.ID // of all organizations in lines
	bytes int
}

// waiting is what waits for one organization.
type waiting struct {
	list  []happening
	bytes int
}

func newQueue() *queue { return &queue{lines: make(map[orgctx.ID]*waiting)} }

// put appends a happening, and reports whether there was room.
func (q *queue) put(h happening) bool {
	size, org := h.bytes(), h.organization()
	q.mu.Lock()
	defer q.mu.Unlock()
	w := q.lines[org]
	if w == nil {
		w = new(waiting)
		if q.bytes+size <= queueBytes {
			q.lines[org] = w
			q.turns = append(q.turns, org)
		}
	}
	if q.bytes+size > queueBytes || w.bytes+size > queueBytesPerOrganization {
		return false
	}
	w.list = append(w.list, h)
	w.bytes += size
	q.bytes += size
	return true
}

// take removes up to n happenings: one of each organization, then the next of each.
func (q *queue) take(n int) (list []happening) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(list) < n && len(q.turns) > 0 {
		org := q.turns[0]
		q.turns = q.turns[1:]
		w := q.lines[org]
		h := w.list[0]
		w.list[0] = happening{}
		w.list = w.list[1:]
		size := h.bytes()
		w.bytes -= size
		q.bytes -= size
		list = append(list, h)
		if len(w.list) == 0 {
			delete(q.lines, org)
		} else {
			q.turns = append(q.turns, org)
		}
	}
	if len(q.turns) == 0 {
		q.turns = nil
	}
	return list
}

// empty reports whether nothing waits.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.turns) == 0
}
