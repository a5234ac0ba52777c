package pubsub

import (
	"context"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// watchSteps is how often within LinkTimeout the link is looked at.
const watchSteps = 5

// sendCanaries publishes a numbered message to this node's canary channel through the ordinary
// client, again and again, until ctx ends.
func (r *Redis) sendCanaries(ctx context.Context, l *link) {
	trouble := logLimiter{interval: logInterval}
	for number := 1; ; number++ {
		r.mu.Lock()
		channel, on := l.canary, l.canaryOn
		l.sending = numbered{number: number, accepted: time.Now()}
		r.mu.Unlock()

		var err error
		if on {
			deadline, cancel := context.WithTimeout(ctx, r.opt.LinkTimeout)
			err = r.send(deadline, r.Publisher.client, channel, l.nonce+":"+strconv.Itoa(number)).Err()
			cancel()
		}
		switch {
		case !on: // its channel is about to be another one
		case err == nil:
			r.canaryAccepted(l, channel, number)
		case ctx.Err() == nil:
			// The link may be sound though publishing is not: Healthy tells, but giving up the
			// link would only add gaps.
			if suppressed, ok := trouble.allow(time.Now()); ok {
				r.log.Warn("publishing canary failed", zap.Error(err), zap.Int("suppressed", suppressed))
			}
		}

		pause := r.opt.CanaryInterval*4/5 + mathrand.N(r.opt.CanaryInterval*2/5+1) //nolint:gosec // jitter is no secret
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (r *Redis) canaryAccepted(l *link, channel string, number int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if number > l.returned && l.canaryOn && l.canary == channel {
		l.accepted = append(l.accepted, numbered{number: number, accepted: time.Now()})
	}
}

// canaryReturned takes note of a canary. Those of earlier links and of nodes of the same name do
// not count.
func (r *Redis) canaryReturned(l *link, payload string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.lastReceived = now
	nonce, text, _ := strings.Cut(payload, ":")
	number, err := strconv.Atoi(text)
	if nonce != l.nonce || err != nil || number <= l.returned || number > l.sending.number {
		return
	}
	l.lastCanary = now
	l.returned = number
	for len(l.accepted) > 0 && l.accepted[0].number <= number {
		l.accepted = l.accepted[1:]
	}
	if number == l.sending.number {
		r.metrics.canary.Set(now.Sub(l.sending.accepted).Seconds())
	}
}

// answered takes note of a master's answer to the question for its role.
func (r *Redis) answered(l *link, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.lastReceived = now
	l.answeredAsk, l.asked = l.asked, time.Time{}
}

// watch looks at the link at short intervals until ctx ends, and returns why the link must be given
// up if it must.
func (r *Redis) watch(ctx context.Context, l *link) error {
	ticker := time.NewTicker(r.opt.LinkTimeout / watchSteps)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		if err := r.look(l); err != nil {
			return err
		}
	}
}

// look judges the link, and asks for the role of its server when that is due.
func (r *Redis) look(l *link) error {
	due, err := r.inspect(l, time.Now())
	if err != nil || !due {
		return err
	}
	if err := l.conn.Ask(r.opt.LinkTimeout); err != nil {
		return fmt.Errorf("ask for the role: %w", err)
	}
	return nil
}

// inspect judges the link. It reports whether the question for the role is due, which it notes as
// sent. That is also the sign of life: a server that cannot save refuses PING.
//
// A link is lost when it is silent although it was asked for an answer: the server hangs or is
// gone. It is deaf when a canary that the server accepted, or a confirmation, is overdue and yet a
// question sent later was answered: a master that was deposed, for example. The answers come in order,
// so a link that merely has much to carry, its canary waiting in line behind a burst of events, is
// neither; giving up that one would add lost events to the load.
func (r *Redis) inspect(l *link, now time.Time) (due bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	overdue := func(since time.Time) bool {
		return now.Sub(since) > r.opt.LinkTimeout && l.answeredAsk.After(since)
	}
	if !l.asked.IsZero() && now.Sub(l.asked) > r.opt.LinkTimeout && now.Sub(l.lastReceived) > r.opt.LinkTimeout {
		return false, errSilent
	}
	if len(l.accepted) > 0 && overdue(l.accepted[0].accepted) {
		return false, ErrNoCanary
	}
	if c, ok := l.sent.first(); ok && overdue(c.at) {
		return false, ErrUnconfirmed
	}
	if !l.asked.IsZero() {
		return false, nil
	}
	l.asked = now
	return true, nil
}
