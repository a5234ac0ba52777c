package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/directory"
	"orgcast/internal/session"
)

const (
	// batchSize is how many connections are asked about in one go: enough to make the round trips few, and
	// little enough for each answer to come well within the stores' deadlines.
	batchSize = 256
	// reserve is how many slots' time is kept for the answers and for a busy machine, so that
	// everything happens within the period and by the deadline.
	reserve = 1
	// minReturn and returnSpread say when a client whose lease could not be confirmed may come back.
	minReturn    = 2 * time.Second
	returnSpread = 8 * time.Second
	// logInterval is the least pause between two log lines about the same trouble.
	logInterval = 10 * time.Second
)

// Run asks about every connection once in a period, and ends those that were not confirmed in
// time, until ctx ends. It then returns nil.
func (k *Keeper) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { k.tick(ctx); return nil })
	g.Go(func() error { k.check(ctx); return nil })
	return g.Wait()
}

// tick lets one slot after the other be due, and watches the deadline whatever the stores do.
func (k *Keeper) tick(ctx context.Context) {
	interval := k.opt.Period / (slotCount + reserve)
	ticker := time.NewTicker(max(interval, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		k.mu.Lock()
		k.slots[k.turn].due = true
		k.turn = (k.turn + 1) % slotCount
		k.rouse()
		k.mu.Unlock()
		// Whoever could pass the deadline before the next look has reached it.
		k.endUnconfirmed(time.Now().Add((1+reserve)*interval - k.opt.Deadline))
	}
}

// endUnconfirmed ends connections that were last confirmed before a moment.
func (k *Keeper) endUnconfirmed(before time.Time) {
	var list []ending
	k.mu.Lock()
	for i := range k.slots {
		s := &k.slots[i]
		if len(s.leases) == 0 || s.oldest.After(before) {
			continue // as a rule nobody is looked at twice within a deadline
		}
		s.oldest = s.leases[0].confirmed
		for _, l := range s.leases {
			if l.confirmed.Before(s.oldest) {
				s.oldest = l.confirmed
			}
			if !l.confirmed.After(before) && !l.ended {
				cause := UnconfirmedError{RetryAfter: minReturn + rand.N(returnSpread)} //nolint:gosec // jitter is no secret
				list = append(list, ending{l, cause})
			}
		}
	}
	k.mu.Unlock()
	k.end(list, byDeadline)
}

// question is a connection that is asked about.
type question struct {
	lease  *Lease
	holder Holder
	held   session.Held
}

// check asks about the connections of the slots that are due.
func (k *Keeper) check(ctx context.Context) {
	var lastLog time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		}
		for ctx.Err() == nil {
			list := k.take()
			if len(list) == 0 {
				break
			}
			for len(list) > 0 && ctx.Err() == nil {
				n := min(len(list), batchSize)
				err := k.ask(ctx, list[:n])
				if err != nil && ctx.Err() == nil && time.Since(lastLog) >= logInterval {
					lastLog = time.Now()
					k.log.Warn("connections could not be confirmed", zap.Error(err), zap.Duration("deadline", k.opt.Deadline))
				}
				list = list[n:]
			}
		}
	}
}

// take returns the connections of slots that are due, of several as long as they make one batch.
func (k *Keeper) take() []question {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []question
	for i := range slotCount {
		s := &k.slots[(k.turn+i)%slotCount] // the one that has waited longest first
		if !s.due {
			continue
		}
		if len(list) > 0 && len(list)+len(s.leases) > batchSize {
			break
		}
		s.due = false
		for _, l := range s.leases {
			if l.ended {
				continue
			}
			list = append(list, question{lease: l, holder: l.holder, held: session.Held{Identity: l.holder.Identity(), Ticket: l.ticket}})
		}
	}
	return list
}

// ask finds out about connections, ends those that may not stay, and confirms the others. It
// returns an error if of some nobody could say.
func (k *Keeper) ask(ctx context.Context, list []question) (unavailable error) {
	// What comes from the stores was written by others; it must not end the node.
	defer func() {
		if v := recover(); v != nil {
			k.log.Error("re-validation panicked", zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
			unavailable = errors.New("lease: re-validation panicked")
		}
	}()
	asked := time.Now()
	held := make([]session.Held, len(list))
	for i, q := range list {
		held[i] = q.held
	}
	standings := k.opt.Sessions.Recheck(ctx, held)
	memberships := make([]directory.Membership, 0, len(list))
	for i, q := range list {
		if standings[i].Err == nil && !q.held.Identity.Organization.IsZero() {
			memberships = append(memberships, directory.Membership{Organization: q.held.Identity.Organization, UserID: q.held.Identity.UserID})
		}
	}
	var admissions []directory.Admission
	if len(memberships) > 0 {
		admissions = k.opt.Directory.AdmitAll(ctx, memberships)
	}
	confirmed := make([]*Lease, 0, len(list))
	var endings []ending
	for i, q := range list {
		err := causeOfSession(standings[i].Err)
		if standings[i].Err == nil && !q.held.Identity.Organization.IsZero() {
			err = causeOfAdmission(admissions[0], q.held.Identity.Role)
			admissions = admissions[1:]
		}
		switch {
		case err == nil:
			if !standings[i].Expires.Equal(q.held.Identity.Expires) {
				q.holder.Renew(standings[i].Expires)
			}
			confirmed = append(confirmed, q.lease)
		case errors.Is(err, errUnavailable):
			k.metrics.unavailable.Inc()
			unavailable = err
		default:
			endings = append(endings, ending{q.lease, err})
		}
	}
	k.end(endings, byCheck)
	k.metrics.confirmed.Add(float64(len(confirmed)))
	k.metrics.seconds.Set(time.Since(asked).Seconds())
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range confirmed {
		if l.holder != nil { // else it has gone meanwhile
			l.confirmed = asked
		}
	}
	return unavailable
}

// errUnavailable says that nobody could say.
var errUnavailable = errors.New("lease: nobody could say")

// causeOfSession makes a cause of what the session store said.
func causeOfSession(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, session.ErrUnavailable):
		return errors.Join(errUnavailable, err)
	case errors.Is(err, session.ErrSwitched):
		return ErrSwitched
	case errors.Is(err, session.ErrDisabled):
		return ErrNotAllowed
	default:
		return ErrSessionEnded
	}
}

// causeOfAdmission makes a cause of what the directory said of a user who had a role.
func causeOfAdmission(a directory.Admission, role string) error {
	switch {
	case errors.Is(a.Err, directory.ErrUnavailable):
		return errors.Join(errUnavailable, a.Err)
	case a.Err != nil:
		return ErrNotAllowed
	case a.Member.Role != role:
		return ErrRoleChanged
	}
	return nil
}
