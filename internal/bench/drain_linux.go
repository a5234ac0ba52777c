package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// drain returns when every published event has arrived, or when none has arrived for a while.
func (r *run) drain(console *console) error {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for _, l := range r.loops {
		l.do(l.resume)
	}
	progressed := time.Now()
	for last := int64(-1); ; {
		var missing, unready atomic.Int64
		var asked sync.WaitGroup
		for _, l := range r.loops {
			asked.Add(1)
			l.do(func() {
				defer asked.Done()
				events, connections := l.owed()
				missing.Add(events)
				unready.Add(connections)
			})
		}
		asked.Wait()
		n := missing.Load() + unready.Load()
		if n == 0 {
			return nil
		}
		if n != last {
			last, progressed = n, time.Now()
		} else if time.Since(progressed) > drainTimeout {
			return nil
		}
		console.show("draining: %d events to come", missing.Load())
		select {
		case err := <-r.failed:
			return err
		case <-poll.C:
		}
	}
}

// finish counts lost events, and completes the report.
func (r *run) finish(rep *Report) {
	var latency, noisy, handshake histogram
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, l := range r.loops {
		asked.Add(1)
		l.do(func() {
			defer asked.Done()
			l.closing = true
			for _, c := range l.clients {
				if c.state == ready && !c.stalled {
					l.countOwed(c)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			latency.add(&l.latency)
			noisy.add(&l.noisy)
			handshake.add(&l.handshake)
		})
	}
	asked.Wait()
	rep.Latency, rep.NoisyLatency, rep.Handshake = latency.latency(), noisy.latency(), handshake.latency()
	rep.Lost = r.sum(func(c *counters) *atomic.Int64 { return &c.lost })
	rep.NoisyLost = r.sum(func(c *counters) *atomic.Int64 { return &c.noisyLost })
	rep.Duplicated = r.sum(func(c *counters) *atomic.Int64 { return &c.duplicated })
	rep.Reordered = r.sum(func(c *counters) *atomic.Int64 { return &c.reordered })
	rep.Foreign = r.sum(func(c *counters) *atomic.Int64 { return &c.foreign })
	rep.Gaps = r.sum(func(c *counters) *atomic.Int64 { return &c.gaps })
	rep.Unexpected = r.sum(func(c *counters) *atomic.Int64 { return &c.unexpected })
	rep.Refused = r.sum(func(c *counters) *atomic.Int64 { return &c.refused })
	rep.Dropped = r.sum(func(c *counters) *atomic.Int64 { return &c.dropped })
	rep.NoisyDropped = r.sum(func(c *counters) *atomic.Int64 { return &c.noisyDropped })
	rep.StalledClosed = r.sum(func(c *counters) *atomic.Int64 { return &c.stalledClosed })
	rep.Closes = r.closes
	rep.Notes = r.notes
}

// measureLeft closes all connections and checks whether the server releases them too.
func (r *run) measureLeft(ctx context.Context, t target, before usage, rep *Report) error {
	if err := r.stop(); err != nil {
		return err
	}
	if t.observer.admin == "" {
		return nil
	}
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for start := time.Now(); ; {
		u, err := t.observer.read(ctx)
		if err != nil {
			return err
		}
		if u.goroutines <= before.goroutines+spareGoroutines || time.Since(start) > releaseTimeout {
			break
		}
		<-poll.C
	}
	after, err := t.observer.settled(ctx)
	if err != nil {
		return err
	}
	rep.recordLeft(before, after)
	return nil
}
