package hub

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// flushShare is the number of members that makes another core worthwhile.
	flushShare = 256
	// pooledArrivals is the longest batch for which a worker keeps room.
	pooledArrivals = 1024
)

// scheduler serves lanes in turn with as many workers as there are cores. Workers start when there
// is work and end when there is none.
type scheduler struct {
	serve func(*worker, *lane, bool)
	limit int

	workers sync.WaitGroup

	mu      sync.Mutex
	ring    []*lane // each lane at most once; first come, first served
	running int
}

func (s *scheduler) init() { s.limit = max(2, runtime.GOMAXPROCS(0)) }

// push adds a lane to the ring.
func (s *scheduler) push(l *lane) {
	s.mu.Lock()
	s.ring = append(s.ring, l)
	start := s.running < s.limit
	if start {
		s.running++
		s.workers.Add(1)
	}
	s.mu.Unlock()
	if start {
		go s.work()
	}
}

// next takes the first lane from the ring. ok is false if the ring is empty; the worker then ends.
func (s *scheduler) next() (l *lane, alone, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) == 0 {
		s.ring = nil
		s.running--
		return nil, false, false
	}
	l = s.ring[0]
	s.ring[0] = nil
	s.ring = s.ring[1:]
	return l, len(s.ring) == 0, true
}

// waiting reports whether a lane waits.
func (s *scheduler) waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ring) > 0
}

// work serves lanes until none waits.
func (s *scheduler) work() {
	defer s.workers.Done()
	w, _ := pooledWorkers.Get().(*worker)
	defer pooledWorkers.Put(w)
	for {
		l, alone, ok := s.next()
		if !ok {
			return
		}
		s.serve(w, l, alone)
	}
}

// after calls fn after a pause, for which no worker is needed. [scheduler.wait] waits for it, too.
func (s *scheduler) after(pause time.Duration, fn func()) {
	s.workers.Add(1)
	time.AfterFunc(pause, func() {
		defer s.workers.Done()
		fn()
	})
}

func (s *scheduler) wait() { s.workers.Wait() }

// worker holds the buffers for serving lanes.
type worker struct {
	batch []arrival
	dirty []Member
}

var pooledWorkers = sync.Pool{New: func() any { return new(worker) }} //nolint:gochecknoglobals // a pool is shared by nature

// flush sends what was offered, on several cores if there are many members. It returns when the
// sockets have taken as much as they have room for.
func (w *worker) flush() {
	helpers := min(runtime.GOMAXPROCS(0)-1, len(w.dirty)/flushShare-1)
	if helpers <= 0 {
		for _, m := range w.dirty {
			m.Flush()
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	share := func() {
		for {
			end := int(next.Add(flushShare))
			begin := end - flushShare
			if begin >= len(w.dirty) {
				return
			}
			for _, m := range w.dirty[begin:min(end, len(w.dirty))] {
				m.Flush()
			}
		}
	}
	for range helpers {
		wg.Go(share)
	}
	share()
	wg.Wait()
}

// clear forgets what was served, and frees room that only a burst needed.
func (w *worker) clear() {
	if cap(w.batch) > pooledArrivals {
		w.batch = nil
	}
	clear(w.batch[:cap(w.batch)])
	w.batch = w.batch[:0]
	clear(w.dirty)
	w.dirty = w.dirty[:0]
}
