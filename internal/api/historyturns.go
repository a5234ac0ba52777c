package api

import (
	"context"
	"runtime"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/nodes"
)

const (
	// historyRate is how many bytes of events per second GET /v1/history reads in the long run, for
	// every two cores, as connections read them, and historyBurst what may be read at once before that.
	// Without a bound, a program that pages through a long history takes cores, and Redis, from the
	// events of all organizations.
	historyRate  = 8 << 20
	historyBurst = 4 << 20
	// historyPatience is how long a request waits for its turn.
	historyPatience = 10 * time.Second
)

// historyTurns lets requests read histories one after the other. It is safe for concurrent use.
type historyTurns struct {
	// slot has an element while a request reads, or until what it has read is paid for. Nobody closes
	// it. Requests that wait are served in their order.
	slot chan struct{}
	rate float64   // in bytes per second
	paid time.Time // when everything that was read is paid for; owned by the request that reads
}

func newHistoryTurns() *historyTurns {
	return &historyTurns{slot: make(chan struct{}, 1), rate: float64(historyRate * max(1, runtime.GOMAXPROCS(0)/2))}
}

// read reads a page in a turn, which is over before the page is written: its reader may be slow.
func (t *historyTurns) read(ctx context.Context, page func(ctx context.Context) ([]*event.Event, bool, error)) (events []*event.Event, more bool, err error) {
	if err := t.begin(ctx); err != nil {
		return nil, false, err
	}
	bytes := 0
	defer func() { t.end(bytes) }()
	events, more, err = page(ctx)
	for _, e := range events {
		bytes += len(e.Payload())
	}
	return events, more, err
}

// begin waits for a turn, which end ends. The error is [nodes.ErrBusy] if it does not come.
func (t *historyTurns) begin(ctx context.Context) error {
	timer := time.NewTimer(historyPatience)
	defer timer.Stop()
	select {
	case t.slot <- struct{}{}:
		return nil
	case <-timer.C:
		return nodes.ErrBusy
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// end ends a turn in which so many bytes were read.
func (t *historyTurns) end(bytes int) {
	now := time.Now()
	if t.paid.Before(now) {
		t.paid = now
	}
	t.paid = t.paid.Add(t.cost(bytes))
	if pause := t.paid.Sub(now) - t.cost(historyBurst); pause > 0 {
		time.AfterFunc(pause, func() { <-t.slot })
		return
	}
	<-t.slot
}

// cost returns how long reading so many bytes takes at the rate.
func (t *historyTurns) cost(bytes int) time.Duration {
	return time.Duration(float64(bytes) / t.rate * float64(time.Second))
}
