package event

import "time"

// Publication is a payload on its way to a group.
type Publication struct {
	Group   Group
	Payload []byte
	// Record keeps the event in the group's history too. Nil: it is transient.
	Record *Recording
}

// Check returns the error that [Check] returns for the payload, or [ErrInvalidIdempotencyKey]: a
// publication with an error must not leave.
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
	// MaxAge is how long the history keeps events, and for how long an idempotency key counts. Older
	// ones go with the next recording, or all together when there was none for so long.
	// Default: [DefaultHistoryAge].
	MaxAge time.Duration
	// IdempotencyKey names this publication within its group, in the form of [ValidIdempotencyKey]:
	// of several with the same key, one is recorded. Empty: none.
	IdempotencyKey string
}

// WithDefaults returns the recording with its defaults.
func (r Recording) WithDefaults() Recording {
	if r.MaxLength <= 0 {
		r.MaxLength = DefaultHistoryLength
	}
	if r.MaxAge < time.Millisecond {
		r.MaxAge = DefaultHistoryAge
	}
	return r
}

// Receipt says what became of a [Publication].
type Receipt struct {
	// Position is the event's place in the history if it is recorded.
	Position Position
	// Nodes is how many subscribers of the group's channel Redis passed the event on to: the nodes
	// that somebody has joined the group on, and whoever else has subscribed to the channel.
	Nodes int64
	// Repeated says that nothing was published, because its idempotency key had been used.
	Repeated bool
	Err      error
}
