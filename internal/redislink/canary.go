package redislink

import (
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// canary is a numbered message that Redis has accepted and that has not arrived on the link yet.
type canary struct {
	number   int
	accepted time.Time
}

// health records the signs of life of a link. It does no I/O and reads no clock. Its methods are
// safe for concurrent use.
type health struct {
	nonce    string    // marks this link's canaries
	openedAt time.Time // set before anything arrives

	arrival atomic.Int64 // when anything last arrived, since openedAt

	mu          sync.Mutex
	channel     string    // of the canaries
	on          bool      // canaries arrive there
	lastCanary  time.Time // when the last canary arrived
	returned    int       // number of the last canary that arrived, 0 before the first
	sending     canary    // the last one, with the moment of sending as accepted
	accepted    []canary  // not returned yet, oldest first
	asked       time.Time // when the open question for the role was sent, zero if none is open
	answeredAsk time.Time // when the last answered question was sent
}

// arrived records that something arrived. It is called for every message, so it takes no lock.
func (h *health) arrived(now time.Time) { h.arrival.Store(int64(now.Sub(h.openedAt))) }

// setCanary sets the channel on which canaries arrive. With on false, canaries in progress no
// longer count.
func (h *health) setCanary(channel string, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.channel, h.on = channel, on
	if !on {
		h.accepted = nil
	}
}

// nextCanary returns the next canary. channel is "" if canaries do not arrive at present.
func (h *health) nextCanary(now time.Time) (channel, payload string, number int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sending = canary{number: h.sending.number + 1, accepted: now}
	if !h.on {
		return "", "", 0
	}
	return h.channel, h.nonce + ":" + strconv.Itoa(h.sending.number), h.sending.number
}

// canaryAccepted records that Redis accepted a canary.
func (h *health) canaryAccepted(channel string, number int, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if number > h.returned && h.on && h.channel == channel {
		h.accepted = append(h.accepted, canary{number: number, accepted: now})
	}
}

// canaryReturned records the arrival of a canary. Canaries of earlier links and of nodes with the
// same name do not count. latest says that it is the last one sent, and took is how long it took.
func (h *health) canaryReturned(payload string, now time.Time) (took time.Duration, latest bool) {
	nonce, text, _ := strings.Cut(payload, ":")
	number, err := strconv.Atoi(text)
	h.mu.Lock()
	defer h.mu.Unlock()
	if nonce != h.nonce || err != nil || number <= h.returned || number > h.sending.number {
		return 0, false
	}
	h.lastCanary, h.returned = now, number
	for len(h.accepted) > 0 && h.accepted[0].number <= number {
		h.accepted = h.accepted[1:]
	}
	return now.Sub(h.sending.accepted), number == h.sending.number
}

// ask reports whether the question for the role is due, and if so, records it as sent.
func (h *health) ask(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.asked.IsZero() {
		return false
	}
	h.asked = now
	return true
}

// answered records a master's answer to the question for its role.
func (h *health) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answeredAsk, h.asked = h.asked, time.Time{}
}

// judge returns an error if the link must be dropped. unconfirmed is when the oldest unconfirmed
// command was sent.
//
// A link is silent if nothing arrives although it was asked for an answer: the server hangs or is
// gone. It is deaf if an accepted canary or a confirmation is overdue and yet a question sent later
// was answered, for example by a deposed master. Answers come in order, so a busy link, whose
// canary waits behind a burst of events, is neither. Dropping it would add lost events to the load.
func (h *health) judge(now time.Time, timeout time.Duration, strict bool, unconfirmed time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	overdue := func(since time.Time) bool {
		return now.Sub(since) > timeout && h.answeredAsk.After(since)
	}
	switch {
	case !h.asked.IsZero() && now.Sub(h.asked) > timeout && now.Sub(h.openedAt)-time.Duration(h.arrival.Load()) > timeout:
		return errSilent
	case len(h.accepted) > 0 && overdue(h.accepted[0].accepted):
		return ErrNoCanary
	case !unconfirmed.IsZero() && overdue(unconfirmed):
		return errUnconfirmed
	case strict && now.Sub(h.openedAt) > timeout && now.Sub(h.lastCanary) > timeout:
		return errNoneAtAll
	}
	return nil
}

// healthy returns nil if a canary arrived within the timeout.
func (h *health) healthy(now time.Time, timeout time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.lastCanary) > timeout {
		return ErrNoCanary
	}
	return nil
}

// jittered returns a random pause of about the given mean.
func jittered(mean time.Duration) time.Duration {
	return mean*4/5 + mathrand.N(mean*2/5+1) //nolint:gosec // jitter is not a secret
}
