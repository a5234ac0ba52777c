package pubsub

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/event"
)

// decoder turns data from outside into events. It has no state of its own that changes.
type decoder struct {
	maxSize *atomic.Int64
	log     *zap.Logger
	metrics *metrics
}

func newDecoder(opt Options, m *metrics) *decoder {
	return &decoder{maxSize: opt.maxEvent, log: opt.Log.Named("pubsub"), metrics: m}
}

// decode turns an object into an event, or counts why it cannot. Objects come from outside. If one
// makes the decoder panic, it must not end every connection of the node.
func (d *decoder) decode(g event.Group, h event.Head, object string, now time.Time) (e *event.Event, err error) {
	defer func() {
		if v := recover(); v != nil {
			d.log.Error("decoding panicked", zap.Stringer("group", g), zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
			d.metrics.dropped.WithLabelValues(reasonPanic).Inc()
			err = fmt.Errorf("decode: panic: %v", v)
		}
	}()
	e, err = event.DecodeObject(g, h, object, int(d.maxSize.Load()), now)
	if err != nil {
		d.metrics.dropped.WithLabelValues(event.Reason(err)).Inc()
	}
	return e, err
}

// logDropped logs why an event is dropped. The payload is never logged: it may be another
// organization's.
func (d *decoder) logDropped(g event.Group, err error) {
	d.log.Warn("event dropped", zap.Stringer("group", g), zap.String("reason", event.Reason(err)), zap.Error(err))
}
