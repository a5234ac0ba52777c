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

// subscriptions shares a roster between goroutines: the subscribers and the links. It signals links
// that have something to do.
type subscriptions struct {
	metrics *metrics

	mu      sync.Mutex // never held during I/O or calls of the Sink
	roster  *roster.Roster
	waiting map[string]chan struct{} // by channel; closed when the channel is subscribed
	lines   map[string]*line         // open links by address of the server, "" without a Cluster
}

// line is a link as seen by subscriptions.
type line struct {
	server string
	link   *redislink.Link
	roster *roster.Link  // guarded by subscriptions.mu, like the rest of the roster
	write  chan struct{} // there may be commands to send; capacity 1, enough for any number
	read   chan struct{} // there may be histories to read; capacity 1
}

func newSubscriptions(o roster.Options, m *metrics) *subscriptions {
	return &subscriptions{metrics: m, roster: roster.New(o), waiting: make(map[string]chan struct{}), lines: make(map[string]*line)}
}

// setBudget replaces what organizations may use of this node.
func (s *subscriptions) setBudget(eventsPerSecond float64, bytesPerSecond int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roster.SetBudget(eventsPerSecond, bytesPerSecond)
}

// changed signals the links that have something to do, and sets the metrics. s.mu is held.
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

// signal sends on a channel of capacity 1, unless a signal is already there.
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
	if subscribed { // the usual case, which need not touch the context
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
		delete(s.waiting, channel) // a caller that waits has not unsubscribed, so none is left
	}
	s.changed()
}

// mark calls [roster.Roster.Mark].
func (s *subscriptions) mark(g event.Group) (m event.Mark, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.Mark(g)
}

// unseen calls [roster.Roster.Unseen].
func (s *subscriptions) unseen(g event.Group, after event.Position, events []*event.Event, complete bool) ([]*event.Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.Unseen(g, after, events, complete)
}

// healthy returns nil if, within the timeout, a canary came through every link that should exist,
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

// attach registers an open link, with its canary channel, as the one to a server.
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

// detach removes a lost link.
func (s *subscriptions) detach(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines[l.server] == l {
		delete(s.lines, l.server)
	}
	s.roster.Detach(l.roster, time.Now())
	s.changed()
}

// next returns the commands to send on a link, and the groups whose newest positions must be read
// before that. paused says that the link has paused groups to resume later.
func (s *subscriptions) next(l *line) (commands []roster.Command, unlocated []event.Group, paused bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	paused = s.roster.Resume(l.roster, now)
	commands = s.roster.Next(l.roster, now)
	s.changed()
	return commands, s.roster.Unlocated(commands), paused
}

// locate calls [roster.Roster.Locate].
func (s *subscriptions) locate(groups []event.Group, marks []event.Mark, known []bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roster.Locate(groups, marks, known)
}

// judge calls [roster.Roster.Judge].
func (s *subscriptions) judge(l *line, channel string, h event.Head, object string, now time.Time) (g event.Group, v roster.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, v = s.roster.Judge(l.roster, channel, h, object, now)
	if v == roster.Pause {
		s.changed()
	}
	return g, v
}

// logPause calls [roster.Roster.LogPause].
func (s *subscriptions) logPause(g event.Group, now time.Time) (suppressed int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.LogPause(g, now)
}

// confirm calls [roster.Roster.Confirm]. It wakes callers that wait for the channel. canary is the
// link's current canary channel.
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

// refuse calls [roster.Roster.Refuse].
func (s *subscriptions) refuse(l *line, owner string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := s.roster.Refuse(l.roster, owner, now)
	s.changed()
	return ok
}

// unconfirmedSince calls [roster.Link.UnconfirmedSince].
func (s *subscriptions) unconfirmedSince(l *line) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.roster.UnconfirmedSince()
}

// surveyed calls [roster.Roster.Surveyed].
func (s *subscriptions) surveyed(owners []string) (masters []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roster.Surveyed(owners, time.Now())
	s.changed()
	masters, _ = s.roster.Masters()
	return masters
}

// canaryOf calls [roster.Roster.CanaryOf] for a link that will be opened.
func (s *subscriptions) canaryOf(server string) (channel string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.CanaryOf(server, "")
}

// behind calls [roster.Roster.Behind].
func (s *subscriptions) behind(l *line, most int) []roster.Behind {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.Behind(l.roster, most)
}

// remembered calls [roster.Roster.Remembered].
func (s *subscriptions) remembered(b roster.Behind) []event.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.Remembered(b)
}

// handOver calls [roster.Roster.HandOver].
func (s *subscriptions) handOver(b roster.Behind, a roster.Answer) (gap bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.HandOver(b, a, time.Now())
}

// caughtUp calls [roster.Roster.CaughtUp].
func (s *subscriptions) caughtUp(b roster.Behind, h event.Head) (v roster.Verdict, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.CaughtUp(b, h)
}

// firstHeld calls [roster.Roster.FirstHeld].
func (s *subscriptions) firstHeld(b roster.Behind) (h roster.Held, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok = s.roster.FirstHeld(b)
	if !ok {
		s.changed() // the group's history may have to be read again
	}
	return h, ok
}

// release calls [roster.Roster.Release].
func (s *subscriptions) release(b roster.Behind) (v roster.Verdict, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roster.Release(b)
}
