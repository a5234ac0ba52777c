package event

import "time"

// Publication is a payload on its way to a group.
type Publication struct {
	Group   Group
	Payload []byte
	// Record keeps the event in the group's history as well. If it is nil, the event is transient.
	Record *Recording
}

// Check returns the error of [Check] for the payload, or [ErrInvalidIdempotencyKey]. A publication
// with an error must not be sent.
func (p Publication) Check(limit int) error {
	if err := Check(p.Group, p.Payload, limit); err != nil {
		return err
	}
	if r := p.Record; r != nil && r.IdempotencyKey != "" && !ValidIdempotencyKey(r.IdempotencyKey) {
		return ErrInvalidIdempotencyKey
	}
	return nil
}

// Recording says how an event is recorded. The zero Recording works.
type Recording struct {
	// MaxLength is how many events the history keeps. Redis drops them in blocks, and keeps up to a
	// hundred more. Default: [DefaultHistoryLength].
	MaxLength int
	// MaxAge is how long the history keeps events, and how long an idempotency key counts. The next
	// recording removes older events; without one, the whole history expires after MaxAge. Default:
	// [DefaultHistoryAge].
	MaxAge time.Duration
	// IdempotencyKey names this publication within its group, in the form of [ValidIdempotencyKey].
	// Of several publications with the same key, one is recorded. Empty means no key.
	IdempotencyKey string
}

// WithDefaults returns the recording with defaults for unset fields.
func (r Recording) WithDefaults() Recording {
	if r.MaxLength <= 0 {
		r.MaxLength = DefaultHistoryLength
	}
	if r.MaxAge < time.Millisecond {
		r.MaxAge = DefaultHistoryAge
	}
	return r
}

// Receipt is the result of a [Publication].
type Receipt struct {
	// Position is the event's place in the history if it is recorded.
	Position Position
	// Nodes is how many subscribers of the group's channel got the event from Redis: the nodes on
	// which someone has joined the group, and other programs that have subscribed to the channel.
	Nodes int64
	// Repeated says that nothing was published, because the idempotency key had been used.
	Repeated bool
	Err      error
}
