package tail

import (
	"sync"
	"time"
)

const (
	// maxLines and maxBytes bound what waits for the reader of one tail.
	maxLines = 1024
	maxBytes = 4 << 20
	// lineBytes is about what a line takes without its payload.
	lineBytes = 512
)

// queue holds lines until the reader takes them. It is safe for concurrent use.
type queue struct {
	// filled has a token while there may be something to take. Nobody closes it.
	filled chan struct{}

	mu     sync.Mutex
	lines  []Line
	bytes  int
	missed int
}

func newQueue() *queue { return &queue{filled: make(chan struct{}, 1)} }

// put adds a line, or counts it as missed. It does not wait.
func (q *queue) put(line Line) {
	q.mu.Lock()
	size := lineBytes + len(line.Payload)
	if q.missed > 0 || len(q.lines) >= maxLines || q.bytes+size > maxBytes {
		q.missed++ // until the reader has taken what is there, so that the gap is one
	} else {
		q.lines, q.bytes = append(q.lines, line), q.bytes+size
	}
	q.mu.Unlock()
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// take returns all lines, and one more if some were missed after them.
func (q *queue) take(now time.Time) []Line {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines := q.lines
	if q.missed > 0 {
		lines = append(lines, Line{Kind: KindMissed, Time: now.UTC(), Events: q.missed})
	}
	q.lines, q.bytes, q.missed = nil, 0, 0
	return lines
}
