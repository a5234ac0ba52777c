package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxBatch bounds how many events are published in one round trip.
	maxBatch = 64
	// flowTimeout is how long flow control waits for events to arrive before it gives them up as
	// lost. Otherwise one lost event would stop the load, and nothing would be measured.
	flowTimeout = 2 * time.Second
)

// outgoing is one event about to be published.
type outgoing struct {
	room    *room
	payload []byte
}

// sink takes events to the server. One goroutine uses it.
type sink interface {
	publish(ctx context.Context, events []outgoing) error
}

// redisSink publishes through Redis, a batch in one round trip to each server.
type redisSink struct {
	client  redis.UniversalClient
	sharded bool // a Cluster, where only SPUBLISH keeps the order
}

func (s *redisSink) publish(ctx context.Context, events []outgoing) error {
	pipe := s.client.Pipeline()
	for _, e := range events {
		if s.sharded {
			pipe.SPublish(ctx, e.room.channel, e.payload)
		} else {
			pipe.Publish(ctx, e.room.channel, e.payload)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil { //nolint:forbidigo // one error stands for all
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// pipeSink hands events to the limit's server: group and length as 32-bit numbers, then the event in its
// envelope, so that the limit writes as many bytes as the gateway.
type pipeSink struct {
	w   io.Writer
	buf []byte
}

func (s *pipeSink) publish(_ context.Context, events []outgoing) error {
	s.buf = s.buf[:0]
	for _, e := range events {
		size := len(eventField) + len(e.payload) + len(e.room.tail)
		s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(e.room.index)) //nolint:gosec // there are fewer groups
		s.buf = binary.LittleEndian.AppendUint32(s.buf, uint32(size))         //nolint:gosec // at most maxFrame
		s.buf = append(s.buf, eventField...)
		s.buf = append(s.buf, e.payload...)
		s.buf = append(s.buf, e.room.tail...)
	}
	if _, err := s.w.Write(s.buf); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// publisher makes events for some groups in turn. It belongs to one goroutine.
type publisher struct {
	sink  sink
	clock clock
	rooms []*room
	size  int // bytes of an event

	next  int // index into rooms
	batch []outgoing
	// published and late are read after the publisher has returned: how many events, and how long
	// after it was due the latest one was published.
	published int64
	late      time.Duration
}

// send publishes the next n events.
func (p *publisher) send(ctx context.Context, n int) error {
	for n > 0 {
		count := min(n, maxBatch)
		for len(p.batch) < count {
			p.batch = append(p.batch, outgoing{})
		}
		for i := range count {
			r := p.rooms[p.next]
			p.next = (p.next + 1) % len(p.rooms)
			e := &p.batch[i]
			e.room = r
			d := delivery{room: r.number, seq: r.publish(), at: p.clock.now()}
			e.payload = appendEvent(e.payload[:0], r.org.head, d, p.size)
		}
		// An event that has its number must go out, also when the load ends meanwhile.
		if err := p.sink.publish(context.WithoutCancel(ctx), p.batch[:count]); err != nil {
			return err
		}
		p.published += int64(count)
		n -= count
	}
	return nil
}

// paced publishes rate events per second until ctx ends.
func (p *publisher) paced(ctx context.Context, rate float64) (err error) {
	clock, err := newSleeper()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clock.close()) }()
	start := p.clock.now()
	for sent := 0; ctx.Err() == nil; {
		elapsed := time.Duration(p.clock.now() - start)
		due := int(elapsed.Seconds() * rate)
		if due > sent {
			p.late = max(p.late, elapsed-time.Duration(float64(sent+1)/rate*float64(time.Second)))
			if err := p.send(ctx, due-sent); err != nil {
				return err
			}
			sent = due
			continue
		}
		wait := time.Duration(float64(sent+1)/rate*float64(time.Second)) - elapsed
		if err := clock.sleep(min(wait, maxPause)); err != nil {
			return err
		}
	}
	return nil
}

// maxPause bounds a sleep that does not notice the end of its context.
const maxPause = 50 * time.Millisecond

// unbounded publishes as fast as the sink takes events until ctx ends.
func (p *publisher) unbounded(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := p.send(ctx, maxBatch); err != nil {
			return err
		}
	}
	return nil
}

// flowing publishes an event for each token, and as many at once as there are tokens.
func (p *publisher) flowing(ctx context.Context, tokens chan struct{}) error {
	stuck := time.NewTimer(flowTimeout)
	defer stuck.Stop()
	for {
		n := 1
		select {
		case <-ctx.Done():
			return nil
		case <-stuck.C:
			n = cap(tokens)
		case <-tokens:
		}
		for n < cap(tokens) {
			select {
			case <-tokens:
				n++
				continue
			default:
			}
			break
		}
		stuck.Reset(flowTimeout)
		if err := p.send(ctx, n); err != nil {
			return err
		}
	}
}
