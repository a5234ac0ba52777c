package bench

import (
	"context"
	"io"
	"time"
)

// What the tests in bench_test see of the package.
type (
	Delivery  = delivery
	Histogram = histogram
	Arrival   = arrival
	Inflater  = inflater
)

var (
	EventHead         = eventHead
	AppendEvent       = appendEvent
	ParseDelivery     = parseDelivery
	AppendServerFrame = appendServerFrame
	AppendClientFrame = appendClientFrame
	ParseUpgrade      = parseUpgrade
	NewInflater       = newInflater
	ErrFrame          = errFrame
	CPUOf             = cpuOf
	RSSOf             = rssOf
	SumOf             = sumOf[int64]
)

// NewDelivery makes a delivery.
func NewDelivery(room, seq, at int64) Delivery { return delivery{room: room, seq: seq, at: at} }

// NewArrival makes an arrival.
func NewArrival(lost int64, reordered, duplicated bool) Arrival {
	return arrival{lost: lost, reordered: reordered, duplicated: duplicated}
}

// Frame is what nextFrame returns.
type Frame struct {
	Final, Compressed bool
	Opcode            byte
	Payload           []byte
}

// NextFrame parses one frame.
func NextFrame(b []byte) (Frame, int, error) {
	f, n, err := nextFrame(b)
	return Frame{Final: f.final, Compressed: f.compressed, Opcode: f.opcode, Payload: f.payload}, n, err
}

// Record, Quantile and Max open up a histogram.
func (h *histogram) Record(d time.Duration) { h.record(d) }

func (h *histogram) Quantile(q float64) time.Duration { return h.quantile(q) }

// Inflate undoes the compression of one message.
func (f *inflater) Inflate(b []byte) ([]byte, error) { return f.inflate(b) }

// Room is one group with flow control, and Membership one connection's view of it.
type (
	Room       struct{ room }
	Membership struct{ membership }
)

// NewRoom returns a group with room for that many events in flight; a power of two.
func NewRoom(inFlight int) *Room {
	r := &Room{}
	r.completed = make(chan struct{}, inFlight)
	r.outstanding = newOutstanding(inFlight)
	return r
}

// Publish takes the next sequence number.
func (r *Room) Publish() int64 { return r.publish() }

// Completed returns how many events have reached everyone since the last call.
func (r *Room) Completed() int {
	for n := 0; ; n++ {
		select {
		case <-r.completed:
		default:
			return n
		}
	}
}

// Member returns a membership that is not confirmed yet.
func (r *Room) Member() *Membership { return &Membership{membership{room: &r.room}} }

// Confirm, Receive, Owed and Leave open up a membership.
func (m *Membership) Confirm() { m.confirm() }

func (m *Membership) Receive(seq int64) Arrival { return m.receive(seq) }

func (m *Membership) Owed() int64 { return m.owed() }

func (m *Membership) Leave() { m.leave() }

// Compare measures two things in turn.
func Compare(left, right func() Report, rounds int) (Comparison, error) {
	side := func(name string, fn func() Report) measurement {
		return measurement{name: name, run: func(context.Context, io.Writer) (Report, error) { return fn(), nil }}
	}
	return compare(context.Background(), side("left", left), side("right", right), rounds, io.Discard)
}

// Left returns what a run of so many connections says was left behind, by goroutines, open files and
// bytes of heap before and after it.
func Left(conns int, before, after [3]float64) []string {
	r := Report{Conns: conns}
	r.recordLeft(usage{goroutines: before[0], files: before[1], live: before[2]}, usage{goroutines: after[0], files: after[1], live: after[2]})
	return r.Left
}

// NextEvent parses one server-sent event as a frame.
func NextEvent(b []byte) (Frame, int, error) {
	f, n, err := nextEvent(b)
	return Frame{Final: f.final, Compressed: f.compressed, Opcode: f.opcode, Payload: f.payload}, n, err
}
