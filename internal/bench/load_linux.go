package bench

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// load publishes, lets connections leave and return, and measures.
func (r *run) load(ctx context.Context, t target, rep *Report, console *console) error {
	for _, l := range r.loops {
		l.do(l.stall)
	}
	loadCtx, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	var working sync.WaitGroup
	defer working.Wait()
	defer stopLoad()
	work := func(fn func(context.Context) error) {
		working.Go(func() {
			if err := fn(loadCtx); err != nil {
				r.fail(err)
			}
		})
	}

	var publishers []*publisher
	publish := func(noisy bool, drive func(*publisher, context.Context) error) {
		p := &publisher{sink: t.open(), clock: r.clock, size: r.opts.Payload}
		for _, room := range r.rooms {
			if room.org.noisy == noisy && (r.unheard == nil || noisy == (room == r.unheard)) {
				p.rooms = append(p.rooms, room)
			}
		}
		if len(p.rooms) > 0 {
			publishers = append(publishers, p)
			work(func(ctx context.Context) error { return drive(p, ctx) })
		}
	}
	if r.opts.publishes() {
		publish(false, func(p *publisher, ctx context.Context) error {
			if r.opts.Rate > 0 {
				return p.paced(ctx, r.opts.Rate)
			}
			return p.flowing(ctx, r.tokens)
		})
		if r.opts.Noisy {
			publish(true, func(p *publisher, ctx context.Context) error {
				if r.opts.NoisyRate > 0 {
					return p.paced(ctx, r.opts.NoisyRate)
				}
				return p.unbounded(ctx)
			})
		}
	}
	if r.opts.Churn > 0 {
		work(r.churn)
	}

	if err := r.wait(ctx, "warming up", r.opts.Warmup, console); err != nil {
		return err
	}
	if err := r.measure(ctx, t, rep, console); err != nil {
		return err
	}
	stopLoad()
	working.Wait()
	for _, p := range publishers {
		rep.Published += p.published
		rep.PublishLateMax = max(rep.PublishLateMax, p.late)
	}
	return nil
}

// measure runs the measured part of the load.
func (r *run) measure(ctx context.Context, t target, rep *Report, console *console) error {
	r.from.Store(r.clock.now())
	start, clientStart := time.Now(), processCPU()
	serverStart, err := t.observer.cpu(ctx)
	if err != nil {
		return err
	}
	redisStart := t.redisCPU(ctx)
	deliveries := r.deliveries()
	noisy := r.sum(func(c *counters) *atomic.Int64 { return &c.noisyDeliveries })
	bytes := r.sum(func(c *counters) *atomic.Int64 { return &c.bytes })
	handshakes := r.sum(func(c *counters) *atomic.Int64 { return &c.handshakes })

	if r.opts.Storm {
		err = r.storm(ctx, rep, console)
	} else {
		err = r.wait(ctx, "measuring", r.opts.Duration, console)
	}
	if err != nil {
		return err
	}

	r.until.Store(r.clock.now())
	rep.Interrupted = ctx.Err() != nil
	serverEnd, err := t.observer.cpu(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	if redisEnd := t.redisCPU(context.WithoutCancel(ctx)); redisStart > 0 && redisEnd > 0 {
		rep.RedisCPUSeconds = redisEnd - redisStart
	}
	rep.Seconds = time.Since(start).Seconds()
	rep.Deliveries = r.deliveries() - deliveries
	rep.NoisyDeliveries = r.sum(func(c *counters) *atomic.Int64 { return &c.noisyDeliveries }) - noisy
	rep.Bytes = r.sum(func(c *counters) *atomic.Int64 { return &c.bytes }) - bytes
	rep.Handshakes = r.sum(func(c *counters) *atomic.Int64 { return &c.handshakes }) - handshakes
	rep.rates(serverEnd-serverStart, processCPU()-clientStart)
	return nil
}

// wait lets time pass and shows progress. The end of ctx ends it without error.
func (r *run) wait(ctx context.Context, doing string, d time.Duration, console *console) error {
	if d <= 0 {
		return nil
	}
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last := r.deliveries(); ; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-r.failed:
			return err
		case <-end.C:
			return nil
		case <-tick.C:
			n := r.deliveries()
			console.show("%s: %d deliveries/s · ready %d · lost %d · duplicated %d · reordered %d · foreign %d", doing, n-last, r.ready(),
				r.sum(func(c *counters) *atomic.Int64 { return &c.lost }),
				r.sum(func(c *counters) *atomic.Int64 { return &c.duplicated }),
				r.sum(func(c *counters) *atomic.Int64 { return &c.reordered }),
				r.sum(func(c *counters) *atomic.Int64 { return &c.foreign }))
			last = n
		}
	}
}

// churn closes and reopens connections at random until ctx ends.
func (r *run) churn(ctx context.Context) error {
	every := time.NewTicker(max(time.Duration(float64(time.Second)/r.opts.Churn), time.Microsecond))
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
			i := rand.IntN(len(r.clients)) //nolint:gosec // which connection leaves is no secret
			l := r.loops[i%len(r.loops)]
			l.do(func() { l.reopen(r.clients[i]) })
		}
	}
}

// storm makes all connections leave and return at once, again and again for the duration.
func (r *run) storm(ctx context.Context, rep *Report, console *console) error {
	for start := time.Now(); time.Since(start) < r.opts.Duration && ctx.Err() == nil; {
		began := time.Now()
		var left sync.WaitGroup
		for _, l := range r.loops {
			left.Add(1)
			l.do(func() {
				defer left.Done()
				for _, c := range l.clients {
					l.reopen(c)
				}
			})
		}
		left.Wait() // or the connections of before would look ready still
		if err := r.awaitReady(ctx, console); err != nil && ctx.Err() == nil {
			return err
		}
		rep.Storms++
		rep.StormLongest = max(rep.StormLongest, time.Since(began))
		console.show("storm %d: all %d back after %s", rep.Storms, len(r.clients), time.Since(began).Round(time.Millisecond))
	}
	return nil
}
