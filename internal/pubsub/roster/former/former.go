// Package former is the receiver as it was before package roster: the same decisions, taken by
// methods of one object between its I/O, which is left out. Only tests import it, to compare what
// both hand on.
//
// Three things differ from what it was: time and randomness come from outside, and all
// subscriptions are looked at in the order of their making, where it was a map's.
package former

import (
	"maps"
	"slices"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub/roster"
)

// Receiver is the former receiver.
type Receiver struct {
	keys   keyspace.Keyspace
	nodeID string
	tariff tariff
	rand   func(n int64) int64
	shards *shards

	now            time.Time
	subs           map[string]*subscription
	meters         map[orgctx.ID]*meter
	links          map[string]*link
	made           int
	wanted, paused int
}

// New returns a Receiver.
func New(o roster.Options) *Receiver {
	r := &Receiver{
		keys: o.Keys, nodeID: o.NodeID, tariff: newTariff(o.EventsPerSecond, o.BytesPerSecond), rand: o.Rand,
		subs: make(map[string]*subscription), meters: make(map[orgctx.ID]*meter), links: make(map[string]*link),
	}
	if o.Sharded {
		r.shards = &shards{owners: make([]string, keyspace.Slots)}
	}
	return r
}

func (r *Receiver) inOrder() []*subscription {
	return slices.SortedFunc(maps.Values(r.subs), func(a, b *subscription) int { return a.number - b.number })
}

func (r *Receiver) slot(name string) uint16 {
	if r.shards == nil {
		return 0
	}
	return keyspace.Slot(name)
}

// Subscribe is as [roster.Roster.Subscribe].
func (r *Receiver) Subscribe(g event.Group, now time.Time) bool {
	r.now = now
	channel := r.keys.GroupChannel(g)
	s := r.subs[channel]
	if s == nil {
		r.made++
		s = &subscription{group: g, channel: channel, slot: r.slot(channel), meter: r.meterOf(g), confirmed: make(chan struct{}), number: r.made}
		r.subs[channel] = s
	}
	s.count++
	s.joined++
	if s.count == 1 {
		r.wanted++
	}
	r.settle(s)
	select {
	case <-s.confirmed:
		return true
	default:
		return false
	}
}

// Unsubscribe is as [roster.Roster.Unsubscribe].
func (r *Receiver) Unsubscribe(g event.Group, now time.Time) bool {
	r.now = now
	s := r.subs[r.keys.GroupChannel(g)]
	if s == nil || s.count == 0 {
		return false
	}
	s.count--
	if s.count == 0 {
		r.wanted--
		s.missed = s.paused
	}
	r.settle(s)
	return s.count == 0
}

// Link is a link of a Receiver.
type Link struct{ l *link }

// Attach is as [roster.Roster.Attach].
func (r *Receiver) Attach(server, canary string, now time.Time) *Link {
	r.now = now
	l := &link{server: server, words: plainWords, canary: canary, canaryOn: true, fetch: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	if r.shards != nil {
		l.words = shardedWords
	}
	r.attach(l)
	return &Link{l}
}

// Detach is as [roster.Roster.Detach].
func (r *Receiver) Detach(l *Link, now time.Time) {
	r.now = now
	r.detach(l.l)
}

// Resume is as [roster.Roster.Resume].
func (r *Receiver) Resume(l *Link, now time.Time) bool {
	r.now = now
	return r.resume(l.l, now)
}

// Next is as [roster.Roster.Next].
func (r *Receiver) Next(l *Link, now time.Time) (commands []roster.Command) {
	r.now = now
	for _, b := range r.nextBatches(l.l) {
		commands = append(commands, roster.Command{Kind: b.kind, Channels: b.channels})
	}
	return commands
}

// Unlocated is as [roster.Roster.Unlocated].
func (r *Receiver) Unlocated(commands []roster.Command) (groups []event.Group) {
	for _, b := range commands {
		for _, channel := range b.Channels {
			if s := r.subs[channel]; s != nil && s.state == stateSent && !s.place.known {
				groups = append(groups, s.group)
			}
		}
	}
	return groups
}

// Locate is as [roster.Roster.Locate].
func (r *Receiver) Locate(groups []event.Group, marks []event.Mark, known []bool) {
	for i, g := range groups {
		s := r.subs[r.keys.GroupChannel(g)]
		s.place.known, s.place.mark = known[i], marks[i]
		s.place.lost = s.missed
	}
}

// Confirm is as [roster.Roster.Confirm].
func (r *Receiver) Confirm(l *Link, kind, channel string, now time.Time) (c roster.Confirmation, ok bool) {
	r.now = now
	closed := func() bool {
		if s := r.subs[channel]; s != nil {
			select {
			case <-s.confirmed:
				return true
			default:
			}
		}
		return false
	}
	first, ok := l.l.sent.first()
	l.l.suspect = false
	canary := l.l.canaryLost
	gap, err := r.confirm(l.l, kind, channel, now)
	c = roster.Confirmation{Gap: gap, SlotLost: l.l.suspect}
	c.Canary = !c.SlotLost && ok && first.sub == nil && err == nil || c.SlotLost && l.l.canaryLost && !canary
	if !c.SlotLost && err == nil && ok && first.sub != nil && first.kind == l.l.words.on && closed() {
		c.Subscribed = channel
	}
	return c, err == nil
}

// Refuse is as [roster.Roster.Refuse].
func (r *Receiver) Refuse(l *Link, owner string, now time.Time) bool {
	r.now = now
	return r.refused(l.l, owner, owner != "", now)
}

// Surveyed is as [roster.Roster.Surveyed].
func (r *Receiver) Surveyed(owners []string, now time.Time) {
	r.now = now
	r.survey(owners)
}

// Masters is as [roster.Roster.Masters].
func (r *Receiver) Masters() ([]string, bool) {
	if r.shards == nil {
		return []string{""}, true
	}
	return r.shards.masters()
}

// CanaryOf is as [roster.Roster.CanaryOf].
func (r *Receiver) CanaryOf(server, other string) (string, bool) {
	l := &link{server: server, canary: other}
	ok := r.shards.canary(l, r.keys, r.nodeID, r.rand)
	if !ok {
		return "", false
	}
	return l.canary, true
}

// Canary is as [roster.Link.Canary].
func (l *Link) Canary() string { return l.l.canary }

// UnconfirmedSince is as [roster.Link.UnconfirmedSince].
func (l *Link) UnconfirmedSince() time.Time {
	c, _ := l.l.sent.first()
	return c.at
}

// MayWrite is as [roster.Link.MayWrite].
func (l *Link) MayWrite() bool { return (l.l.queue.len() > 0 || l.l.canaryLost) && l.l.hasRoom() }

// MayRead is as [roster.Link.MayRead].
func (l *Link) MayRead() bool { return l.l.behind.len() > 0 }

// verdicts are what the verdicts of the former receiver are called now.
var verdicts = map[verdict]roster.Verdict{ //nolint:gochecknoglobals // constant
	verdictTake: roster.Deliver, verdictUnwanted: roster.Unwanted, verdictShed: roster.Shed, verdictPause: roster.Pause,
	verdictHeld: roster.Hold, verdictKnown: roster.Known, verdictRepeated: roster.Repeated, verdictDenied: roster.Denied,
	verdictLost: roster.Lost,
}

// Judge is as [roster.Roster.Judge].
func (r *Receiver) Judge(l *Link, channel string, head event.Head, object string, now time.Time) (event.Group, roster.Verdict) {
	r.now = now
	g, v := r.admit(l.l, channel, head, object, now)
	return g, verdicts[v]
}

// Behind is a group that has to catch up.
type Behind struct {
	lagging

	link *link
}

// Group is as [roster.Behind.Group].
func (b Behind) Group() event.Group { return b.sub.group }

// Mark is as [roster.Behind.Mark].
func (b Behind) Mark() event.Mark { return b.mark }

// Behind is as [roster.Roster.Behind].
func (r *Receiver) Behind(l *Link, most int) (batch []Behind) {
	for len(batch) < most {
		b, ok := l.l.behind.pop()
		if !ok {
			break
		}
		if b.sub.place.round == b.round {
			b.mark = b.sub.place.mark
			batch = append(batch, Behind{b, l.l})
		}
	}
	return batch
}

// Remembered is as [roster.Roster.Remembered].
func (r *Receiver) Remembered(b Behind) []event.Position {
	if b.sub.place.round != b.round {
		return nil
	}
	return b.sub.place.seen.list()
}

// HandOver is as [roster.Roster.HandOver].
func (r *Receiver) HandOver(b Behind, f roster.Answer, now time.Time) bool {
	s, p := b.sub, &b.sub.place
	gap := f.Failed || !f.Complete || p.transient || b.mark.Position.IsZero() && len(f.Events) == 0
	ok := b.current() && s.count > 0
	if ok {
		s.missed = false
		p.broken = gap && !f.Complete
		s.meter.owe(now, r.tariff, f.Events)
	}
	return ok && gap
}

func (b lagging) current() bool { return b.sub.place.round == b.round }

// CaughtUp is as [roster.Roster.CaughtUp].
func (r *Receiver) CaughtUp(b Behind, h event.Head) (roster.Verdict, bool) {
	s, p := b.sub, &b.sub.place
	if !b.current() || s.count == 0 {
		return roster.Unwanted, false
	}
	s.advance(h.Position)
	p.passed = h.Position
	return verdicts[s.show(h)], true
}

// FirstHeld is as [roster.Roster.FirstHeld].
func (r *Receiver) FirstHeld(b Behind) (h roster.Held, ok bool) {
	s, p := b.sub, &b.sub.place
	for {
		switch {
		case !b.current():
			return h, false
		case p.spilled && s.count > 0:
			s.missed = true
			s.startCatching(b.link)
			return h, false
		case len(p.held) == 0:
			p.catching = false
			return h, false
		}
		first := p.held[0]
		if p.knows(first.head) {
			p.takeHeld()
			continue
		}
		return roster.Held{Head: first.head, Object: first.object, Received: first.received}, true
	}
}

// Release is as [roster.Roster.Release].
func (r *Receiver) Release(b Behind) (roster.Verdict, bool) {
	s, p := b.sub, &b.sub.place
	if !b.current() {
		return roster.Unwanted, false
	}
	v, wanted := verdictHeld, s.count > 0
	if !p.spilled {
		h := p.held[0]
		p.takeHeld()
		v = s.note(h.head)
	}
	if !wanted {
		return roster.Unwanted, true
	}
	return verdicts[v], true
}

// owe charges the budget for events read from a history.
func (m *meter) owe(now time.Time, t tariff, events []*event.Event) {
	for _, e := range events {
		if m.paid.Before(now) {
			m.paid = now
		}
		m.paid = m.paid.Add(t.cost(len(e.Payload())))
	}
}

// Unseen is as [roster.Roster.Unseen].
func (r *Receiver) Unseen(g event.Group, after event.Position, events []*event.Event, complete bool) ([]*event.Event, bool) {
	s := r.subs[r.keys.GroupChannel(g)]
	if s == nil {
		return events, complete
	}
	kept := events[:0]
	for _, e := range events {
		before := s.meter.shown.repeats(&s.shown, event.Head{Position: e.Position(), Key: e.Key()})
		switch {
		case before == nil || before.position.Compare(after) > 0:
			kept = append(kept, e)
		case before.position != after:
			kept, complete = kept[:0], false
		}
	}
	clear(events[len(kept):])
	return kept, complete
}

// Mark is as [roster.Roster.Mark].
func (r *Receiver) Mark(g event.Group) (event.Mark, bool) {
	s := r.subs[r.keys.GroupChannel(g)]
	if s == nil || !s.place.known || s.place.mark == (event.Mark{}) {
		return event.Mark{}, false
	}
	return s.place.mark, true
}

// Wanted is as [roster.Roster.Wanted].
func (r *Receiver) Wanted() (wanted, paused int) { return r.wanted, r.paused }

// Size is as [roster.Roster.Size].
func (r *Receiver) Size() roster.Size {
	return roster.Size{Subscriptions: len(r.subs), Organizations: len(r.meters)}
}
