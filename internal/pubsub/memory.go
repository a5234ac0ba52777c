package pubsub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"orgcast/internal/event"
)

// memoryQueue is how many events may be queued for the Sink before Publish waits. It absorbs
// bursts.
const memoryQueue = 1024

// errStopped is the error of a Memory whose Run does not run.
var errStopped = errors.New("pubsub: not running")

// Memory is a bus within one process, for a single node without Redis and for tests. It has the
// contract of [Redis], except that Publish waits for room when the Sink is slow, so a Sink must not
// publish. Its methods are safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	queue   chan *event.Event // of the current or last Run; capacity memoryQueue; never closed
	counts  map[event.Group]int
	missed  map[event.Group]bool           // wanted when Run ended, so they get a gap
	marks   map[event.Group]event.Position // of the last recorded event of each wanted group
	running chan struct{}                  // closed while Run runs
	stopped chan struct{}                  // closed while Run does not run

	histories histories
	epoch     string
}

// NewMemory returns a bus that is idle: events flow while [Memory.Run] runs.
func NewMemory() *Memory {
	stopped := make(chan struct{})
	close(stopped)
	return &Memory{
		counts:  make(map[event.Group]int),
		missed:  make(map[event.Group]bool),
		marks:   make(map[event.Group]event.Position),
		running: make(chan struct{}),
		stopped: stopped,
		epoch:   rand.Text(),

		histories: histories{groups: make(map[event.Group]*history), once: make(map[onceKey]onceValue)},
	}
}

// Subscribe is like [Redis.Subscribe]. It waits until Run runs.
func (m *Memory) Subscribe(ctx context.Context, g event.Group) error {
	if g.IsZero() {
		return event.ErrInvalidGroup
	}
	m.mu.Lock()
	m.counts[g]++
	running := m.running
	m.mu.Unlock()
	select {
	case <-running: // the usual case, which need not touch the context
		return nil
	default:
	}
	select {
	case <-running:
		return nil
	case <-ctx.Done():
		m.Unsubscribe(g)
		return fmt.Errorf("subscribe to %s: %w", g, context.Cause(ctx))
	}
}

// Unsubscribe is like [Redis.Unsubscribe].
func (m *Memory) Unsubscribe(g event.Group) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts[g] > 1 {
		m.counts[g]--
		return
	}
	delete(m.counts, g)
	delete(m.missed, g)
	delete(m.marks, g)
}

// Publish is like [Publisher.Publish]. While Run does not run, the event is lost.
func (m *Memory) Publish(ctx context.Context, g event.Group, payload []byte) error {
	e, err := event.Decode(g, string(payload), event.DefaultMaxSize, time.Now())
	if err != nil {
		return err
	}
	if !e.Position().IsZero() {
		return event.ErrNotObject // positions come from recording
	}
	return m.send(ctx, e)
}

// send queues an event for Run if its group is wanted.
func (m *Memory) send(ctx context.Context, e *event.Event) error {
	m.mu.Lock()
	wanted, queue, stopped := m.counts[e.Group()] > 0, m.queue, m.stopped
	m.mu.Unlock()
	if !wanted {
		return nil
	}
	select {
	case queue <- e:
		return nil
	case <-stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("publish to %s: %w", e.Group(), context.Cause(ctx))
	}
}

// PublishAll is like [Publisher.PublishAll].
func (m *Memory) PublishAll(ctx context.Context, out []event.Publication) []event.Receipt {
	results := make([]event.Receipt, len(out))
	for i, o := range out {
		if o.Record == nil {
			results[i].Err = m.Publish(ctx, o.Group, o.Payload)
			continue
		}
		results[i].Position, results[i].Err = m.Record(ctx, o.Group, o.Payload, *o.Record)
	}
	return results
}

// Healthy returns nil while Run runs.
func (m *Memory) Healthy() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.stopped:
		return errStopped
	default:
		return nil
	}
}

// Run is like [Redis.Run]. Groups get a gap for the time in which no Run ran.
func (m *Memory) Run(ctx context.Context, sink Sink) error {
	queue, err := m.start(sink)
	if err != nil {
		return err
	}
	defer m.stop()
	for {
		select {
		case e := <-queue:
			wanted, lost := m.note(e)
			if lost {
				sink.Gap(e.Group())
			}
			if wanted {
				sink.Deliver(e)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// note reports whether an event is wanted, and whether its position is below the last one. In that
// case the history has expired, and the clock has gone back.
func (m *Memory) note(e *event.Event) (wanted, lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts[e.Group()] == 0 {
		return false, false
	}
	if at := e.Position(); !at.IsZero() {
		lost = at.Compare(m.marks[e.Group()]) < 0
		m.marks[e.Group()] = at
	}
	return true, lost
}

func (m *Memory) start(sink Sink) (queue chan *event.Event, err error) {
	m.mu.Lock()
	select {
	case <-m.stopped:
	default:
		m.mu.Unlock()
		return nil, ErrRunning
	}
	// Start with a new queue. Events left in the old one are covered by the gap.
	queue = make(chan *event.Event, memoryQueue)
	m.queue = queue
	m.stopped = make(chan struct{})
	close(m.running)
	missed := m.missed
	m.missed = make(map[event.Group]bool)
	m.mu.Unlock()
	for g := range missed {
		sink.Gap(g)
	}
	return queue, nil
}

func (m *Memory) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.stopped)
	m.running = make(chan struct{})
	for g := range m.counts {
		m.missed[g] = true
	}
}
