package redislink

import "time"

// Health records the signs of life of a link.
type Health struct{ health }

// NewHealth returns the health of a link that was opened at a moment.
func NewHealth(now time.Time) *Health {
	return &Health{health{nonce: "n", openedAt: now, channel: "canary", on: true}}
}

// Events of a link.

func (h *Health) Arrived(now time.Time)             { h.arrived(now) }
func (h *Health) SetCanary(channel string, on bool) { h.setCanary(channel, on) }
func (h *Health) Ask(now time.Time) bool            { return h.ask(now) }
func (h *Health) Answered(now time.Time)            { h.arrived(now); h.answered() }
func (h *Health) Healthy(now time.Time, timeout time.Duration) error {
	return h.healthy(now, timeout)
}

// Send returns the next canary.
func (h *Health) Send(now time.Time) (channel, payload string, number int) { return h.nextCanary(now) }

// Accept records that Redis accepted a canary.
func (h *Health) Accept(channel string, number int, now time.Time) {
	h.canaryAccepted(channel, number, now)
}

// Return records that a canary came back.
func (h *Health) Return(payload string, now time.Time) (took time.Duration, latest bool) {
	return h.canaryReturned(payload, now)
}

// Judge returns an error if the link must be dropped.
func (h *Health) Judge(now time.Time, timeout time.Duration, strict bool, unconfirmed time.Time) error {
	return h.judge(now, timeout, strict, unconfirmed)
}

// Reasons why a link is dropped.
var (
	ErrSilent      = errSilent
	ErrUnconfirmed = errUnconfirmed
	ErrNoneAtAll   = errNoneAtAll
)
