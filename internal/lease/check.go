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
	// batchSize is how many connections are checked at once. It keeps round trips few, and each
	// answer well within the stores' deadlines.
	batchSize = 256
	// reserve is how many slots' time is kept free for answers and for a busy machine, so that
	// everything happens within the period and by the deadline.
	reserve = 1
	// minReturn and returnSpread set when a client whose lease could not be confirmed may
	// reconnect.
	minReturn    = 2 * time.Second
	returnSpread = 8 * time.Second
	// logInterval is the shortest pause between two log lines about the same problem.
	logInterval = 10 * time.Second
)

// Run checks every connection once in a period, and ends those that were not confirmed in time,
// until ctx ends. It then returns nil.
func (k *Keeper) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { k.tick(ctx); return nil })
	g.Go(func() error { k.check(ctx); return nil })
	return g.Wait()
}

// tick makes one slot after the other due, and enforces the deadline whatever the stores do.
func (k *Keeper) tick(ctx context.Context) {
	times := k.times.Load()
	ticker := time.NewTicker(times.interval())
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.retimed:
			times = k.times.Load()
			ticker.Reset(times.interval())
			continue
		case <-ticker.C:
		}
		k.mu.Lock()
		k.slots[k.turn].due = true
		k.turn = (k.turn + 1) % slotCount
		k.rouse()
		k.mu.Unlock()
		// End connections now that would pass the deadline before the next tick.
		k.endUnconfirmed(time.Now().Add((1+reserve)*times.interval() - times.deadline))
	}
}

// endUnconfirmed ends connections that were last confirmed before a moment.
func (k *Keeper) endUnconfirmed(before time.Time) {
	now := time.Now()
	var list []ending
	k.mu.Lock()
	for i := range k.slots {
		s := &k.slots[i]
		if len(s.leases) == 0 || s.oldest.After(before) {
			continue // so usually each lease is looked at once within a deadline
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
	k.end(list, byDeadline, now)
}

// questions holds the connections to check. Its lists are reused from one slot to the next.
// Allocating them again made up most of the garbage of a node with idle connections.
type questions struct {
	about []subject
	held  []session.Held // for each subject

	// The rest belongs to one batch, and is used by ask.
	memberships []directory.Membership
	confirmed   []*Lease
}

// subject is a connection to check.
type subject struct {
	lease  *Lease
	holder Holder
}

// askAbout adds a lease to the questions, unless it has ended. Its caller holds mu.
func (k *Keeper) askAbout(l *Lease, q *questions) {
	if l.holder == nil || l.ended {
		return
	}
	q.about = append(q.about, subject{lease: l, holder: l.holder})
	q.held = append(q.held, session.Held{Identity: l.holder.Identity(), Ticket: l.ticket})
}

// forget releases connections that may end meanwhile, and their tickets.
func (q *questions) forget() {
	clear(q.about)
	clear(q.held)
	q.about, q.held = q.about[:0], q.held[:0]
	clear(q.memberships[:cap(q.memberships)])
	clear(q.confirmed[:cap(q.confirmed)])
}

// Doubt has a connection checked at once, because its last confirmation is no longer valid: its
// session has expired, but may have been renewed. Until the stores answer, the connection stays, at
// most until the deadline.
func (k *Keeper) Doubt(l *Lease) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.doubt(l)
}

// doubt is Doubt for callers that hold mu.
func (k *Keeper) doubt(l *Lease) {
	if l.holder == nil || l.ended || l.doubted {
		return
	}
	l.doubted = true
	k.doubted = append(k.doubted, l)
	k.rouse()
}

// check checks the connections of slots that are due.
func (k *Keeper) check(ctx context.Context) {
	var lastLog time.Time
	var q questions
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		}
		for ctx.Err() == nil {
			k.listDue(&q)
			if len(q.about) == 0 {
				break
			}
			for from := 0; from < len(q.about) && ctx.Err() == nil; from += batchSize {
				err := k.ask(ctx, &q, from, min(from+batchSize, len(q.about)))
				if err != nil && ctx.Err() == nil && time.Since(lastLog) >= logInterval {
					lastLog = time.Now()
					k.log.Warn("connections could not be confirmed", zap.Error(err), zap.Duration("deadline_seconds", k.times.Load().deadline))
				}
			}
			q.forget()
		}
	}
}

// listDue lists the connections of due slots, of several slots if they fit into one batch.
func (k *Keeper) listDue(q *questions) {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := min(batchSize, len(k.doubted))
	for i, l := range k.doubted[:first] {
		l.doubted, k.doubted[i] = false, nil
		k.askAbout(l, q)
	}
	if k.doubted = k.doubted[first:]; len(k.doubted) == 0 {
		k.doubted = nil
	}
	for i := range slotCount {
		s := &k.slots[(k.turn+i)%slotCount] // begins with the one that has waited longest
		if !s.due {
			continue
		}
		if len(q.about) > 0 && len(q.about)+len(s.leases) > batchSize {
			break
		}
		s.due = false
		for _, l := range s.leases {
			k.askAbout(l, q)
		}
	}
}

// ask checks some of the connections, ends those that may not stay, and confirms the others. It
// returns an error if some could not be verified.
func (k *Keeper) ask(ctx context.Context, q *questions, from, to int) (unavailable error) {
	// Data in the stores may come from other programs, and must not end the node.
	defer func() {
		if v := recover(); v != nil {
			k.log.Error("re-validation panicked", zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
			unavailable = errors.New("lease: re-validation panicked")
		}
	}()
	asked := time.Now()
	held := q.held[from:to]
	standings := k.opt.Sessions.Recheck(ctx, held)
	memberships := q.memberships[:0]
	for i := range held {
		if id := &held[i].Identity; standings[i].Err == nil && !id.Organization.IsZero() {
			memberships = append(memberships, directory.Membership{Organization: id.Organization, UserID: id.UserID})
		}
	}
	q.memberships = memberships
	var admissions []directory.Admission
	if len(memberships) > 0 {
		admissions = k.opt.Directory.AdmitAll(ctx, memberships)
	}
	answered := time.Now()
	confirmed := q.confirmed[:0]
	var endings []ending
	var ended []session.Held // for each ending
	for i, s := range q.about[from:to] {
		id := &held[i].Identity
		err := causeOfSession(standings[i].Err)
		if standings[i].Err == nil && !id.Organization.IsZero() {
			if admissions[0].Member.InSession {
				admissions[0].Member.Role = standings[i].Role
			}
			err = causeOfAdmission(admissions[0], id.Role)
			admissions = admissions[1:]
		}
		switch {
		case err == nil:
			if !standings[i].Expires.Equal(id.Expires) {
				s.holder.Renew(standings[i].Expires)
			}
			confirmed = append(confirmed, s.lease)
		case errors.Is(err, errUnavailable):
			k.metrics.unavailable.Inc()
			unavailable = err
		default:
			endings, ended = append(endings, ending{s.lease, err}), append(ended, held[i])
		}
	}
	q.confirmed = confirmed
	k.end(k.sameTickets(endings, ended), byCheck, answered)
	k.metrics.confirmed.Add(float64(len(confirmed)))
	k.metrics.seconds.Set(time.Since(asked).Seconds())
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range confirmed {
		if l.holder != nil { // nil if it has ended meanwhile
			l.confirmed = asked
		}
	}
	return unavailable
}

// errUnavailable means that a connection could not be verified.
var errUnavailable = errors.New("lease: could not verify")

// causeOfSession turns the session store's answer into a cause.
func causeOfSession(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, session.ErrUnavailable):
		return errors.Join(errUnavailable, err)
	case errors.Is(err, session.ErrSwitched):
		return ErrSwitched
	case errors.Is(err, session.ErrStale):
		return ErrSessionStale
	case errors.Is(err, session.ErrDisabled):
		return ErrNotAllowed
	default:
		return ErrSessionEnded
	}
}

// causeOfAdmission turns the directory's answer about a user who had a role into a cause.
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
