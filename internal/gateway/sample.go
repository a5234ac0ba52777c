package gateway

import (
	"sync"
	"time"

	"orgcast/internal/bucket"
)

const (
	// sampleBurst is how many log lines of a kind pass at once, so that all lines of a typical
	// incident do.
	sampleBurst = 10
	// samplesPerSecond is how many pass in the long run.
	samplesPerSecond = 1
)

// sampler bounds the log lines that strangers can cause, because no organization's bound counts
// them. The zero sampler is ready to use. It is safe for concurrent use.
type sampler struct {
	mu    sync.Mutex
	start time.Time
	kinds map[string]*sampled // few: the code and the routes name them, never a request
}

// sampled is one kind of line.
type sampled struct {
	allowance  bucket.Bucket
	suppressed int // since the last line that passed
}

// allow reports whether a line of the kind may pass, and how many were suppressed since the last
// one that passed.
func (s *sampler) allow(kind string) (suppressed int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds == nil {
		s.kinds, s.start = make(map[string]*sampled), time.Now()
	}
	age := time.Since(s.start)
	k := s.kinds[kind]
	if k == nil {
		k = &sampled{allowance: bucket.New(sampleBurst)}
		s.kinds[kind] = k
	}
	if !k.allowance.Take(age, samplesPerSecond, sampleBurst) {
		k.suppressed++
		return 0, false
	}
	suppressed, k.suppressed = k.suppressed, 0
	return suppressed, true
}
