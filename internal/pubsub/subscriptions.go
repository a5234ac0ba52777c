package pubsub

import (
	"context"
	"fmt"
	"sync"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/pubsub/roster"
	"orgcast/internal/redislink"
)

// subscriptions is a roster that goroutines share: those who subscribe, and those of the links,
// which are told when there is something to do for them.
type subscriptions struct {
	metrics *metrics

	mu      sync.Mutex // never held during I/O or calls of the Sink
	roster  *roster.Roster
	waiting map[string]chan struct{} // by channel, closed when that is subscribed; only of those that a caller waits for
	lines   map[string]*line         // by the address of their server, "" if there is one; those that are open
}

// line is a link as subscriptions know it.
type line struct {
	server string
	link   *redislink.Link
	roster *roster.Link  // guarded by subscriptions.mu, as all of the roster is
	write  chan struct{} // there may be commands to send; capacity 1: one signal covers all that came before it
	read   chan struct{} // there may be histories to read; likewise
}

func newSubscriptions(o roster.Options, m *metrics) *subscriptions {
	return &subscriptions{metrics: m, roster: roster.New(o), waiting: make(map[string]chan struct{}), lines: make(map[string]*line)}
}

// changed tells the links what there is to do, and the metrics. s.mu is held.
func (s *subscriptions) changed() {
	for _, l := range s.lines {
		if l.roster.MayWrite() {
			signal(l.write)
		}
		if l.roster.MayRead() {
			signal(l.read)
		}
	}
	wanted, paused := s.roster.Wanted()
	s.metrics.groups.Set(float64(wanted))
	s.metrics.paused.Set(float64(paused))
}

// signal sends on a channel with room for one, unless a signal waits there.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// subscribe asks for a group, and returns when it is subscribed on channel, or when ctx ends.
func (s *subscriptions) subscribe(ctx context.Context, g event.Group, channel string, timeout time.Duration) error {
	s.mu.Lock()
	subscribed := s.roster.Subscribe(g, time.Now())
	var confirmed chan struct{}
	if !subscribed {
		if confirmed = s.waiting[channel]; confirmed == nil {
			confirmed = make(chan struct{})
			s.waiting[channel] = confirmed
		}
	}
	s.changed()
	s.mu.Unlock()
	if subscribed { // the usual case, in which the context need not be touched
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrUnconfirmed)
	defer cancel()
	select {
	case <-confirmed:
		return nil
	case <-ctx.Done():
		s.unsubscribe(g, channel)
		return fmt.Errorf("subscribe to %s: %w", g, context.Cause(ctx))
	}
}

func (s *subscriptions) unsubscribe(g event.Group, channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.roster.Unsubscribe(g, time.Now()) {
		delete(s.waiting, channel) // who waits has not unsubscribed
	}
	s.changed()
}

// mark is [roster.Roster.Mark].
func (s *subscriptions) mark(g event.Group) (m event.Mark, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.Mark(g)
}

// unseen is [roster.Roster.Unseen].
func (s *subscriptions) unseen(g event.Group, after event.Position, events []*event.Event, complete bool) ([]*event.Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.Unseen(g, after, events, complete)
}

// healthy returns nil if a canary came through every link that there should be within the timeout,
// and nothing has waited longer than that for its confirmation.
func (s *subscriptions) healthy(timeout time.Duration) error {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	servers, complete := s.roster.Masters()
	if !complete {
		return errNoOwner
	}
	for _, server := range servers {
		l := s.lines[server]
		if l == nil {
			return ErrNoLink
		}
		if l.link.Healthy(now) != nil {
			return ErrNoCanary
		}
		if since := l.roster.WaitingSince(); !since.IsZero() && now.Sub(since) > timeout {
			return ErrUnconfirmed
		}
	}
	return nil
}

// attach makes an open link, with its channel of canaries, the one to a server.
func (s *subscriptions) attach(server, canary string, l *redislink.Link) *line {
	s.mu.Lock()
	defer s.mu.Unlock()
	opened := &line{
		server: server, link: l, roster: s.roster.Attach(server, canary, time.Now()),
		write: make(chan struct{}, 1), read: make(chan struct{}, 1),
	}
	s.lines[server] = opened
	s.changed()
	return opened
}

// detach takes note that a link is gone.
func (s *subscriptions) detach(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines[l.server] == l {
		delete(s.lines, l.server)
	}
	s.roster.Detach(l.roster, time.Now())
	s.changed()
}

// next returns the commands to send on a link, and the groups whose newest positions are to be read
// before. paused says that the end of pauses is to be looked for.
func (s *subscriptions) next(l *line) (commands []roster.Command, unlocated []event.Group, paused bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	paused = s.roster.Resume(l.roster, now)
	commands = s.roster.Next(l.roster, now)
	s.changed()
	return commands, s.roster.Unlocated(commands), paused
}

// locate is [roster.Roster.Locate].
func (s *subscriptions) locate(groups []event.Group, marks []event.Mark, known []bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roster.Locate(groups, marks, known)
}

// judge is [roster.Roster.Judge].
func (s *subscriptions) judge(l *line, channel string, h event.Head, object string, now time.Time) (g event.Group, v roster.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, v = s.roster.Judge(l.roster, channel, h, object, now)
	if v == roster.Pause {
		s.changed()
	}
	return g, v
}

// logPause is [roster.Roster.LogPause].
func (s *subscriptions) logPause(g event.Group, now time.Time) (suppressed int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.LogPause(g, now)
}

// confirm is [roster.Roster.Confirm]. It wakes callers that wait for the channel. canary is the
// link's canary channel now.
func (s *subscriptions) confirm(l *line, kind, channel string, now time.Time) (c roster.Confirmation, canary string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok = s.roster.Confirm(l.roster, kind, channel, now)
	if confirmed := s.waiting[c.Subscribed]; confirmed != nil {
		close(confirmed)
		delete(s.waiting, c.Subscribed)
	}
	s.changed()
	return c, l.roster.Canary(), ok
}

// refuse is [roster.Roster.Refuse].
func (s *subscriptions) refuse(l *line, owner string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := s.roster.Refuse(l.roster, owner, now)
	s.changed()
	return ok
}

// unconfirmedSince is [roster.Link.UnconfirmedSince].
func (s *subscriptions) unconfirmedSince(l *line) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.roster.UnconfirmedSince()
}

// surveyed is [roster.Roster.Surveyed].
func (s *subscriptions) surveyed(owners []string) (masters []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roster.Surveyed(owners, time.Now())
	s.changed()
	masters, _ = s.roster.Masters()
	return masters
}

// canaryOf is [roster.Roster.CanaryOf], for a link that is to be opened.
func (s *subscriptions) canaryOf(server string) (channel string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.CanaryOf(server, "")
}

// behind is [roster.Roster.Behind].
func (s *subscriptions) behind(l *line, most int) []roster.Behind {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.Behind(l.roster, most)
}

// remembered is [roster.Roster.Remembered].
func (s *subscriptions) remembered(b roster.Behind) []event.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.Remembered(b)
}

// handOver is [roster.Roster.HandOver].
func (s *subscriptions) handOver(b roster.Behind, a roster.Answer) (gap bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.HandOver(b, a, time.Now())
}

// caughtUp is [roster.Roster.CaughtUp].
func (s *subscriptions) caughtUp(b roster.Behind, h event.Head) (v roster.Verdict, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.CaughtUp(b, h)
}

// firstHeld is [roster.Roster.FirstHeld].
func (s *subscriptions) firstHeld(b roster.Behind) (h roster.Held, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok = s.roster.FirstHeld(b)
	if !ok {
		s.changed() // its history may have to be read again
	}
	return h, ok
}

// release is [roster.Roster.Release].
func (s *subscriptions) release(b roster.Behind) (v roster.Verdict, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.Release(b)
}
