package pubsub

import (
	"maps"
	"net"
	"slices"
	"time"

	"orgcast/internal/event"
)

// WantedGroups returns how many subscriptions the bus remembers, wanted or under way.
func (r *Redis) WantedGroups() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.subs)
}

// Meters returns for how many organizations the bus keeps a budget.
func (r *Redis) Meters() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.meters)
}

// Pause pauses a group that is subscribed, as if its organization were over its budget.
func (r *Redis) Pause(g event.Group) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.subs[r.keys.GroupChannel(g)]; s != nil && s.wanted() && s.state == stateOn {
		r.pause(s.link, s)
	}
}

// EndPauses lets the pauses end whose UNSUBSCRIBE is confirmed, and returns how many there are.
func (r *Redis) EndPauses() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	paused := 0
	for _, l := range r.links {
		for _, s := range l.paused {
			s.resumeAt = time.Time{}
		}
		l.rouse()
		paused += len(l.paused)
	}
	return paused
}

// Canaries returns the channels of the canaries of all links.
func (r *Redis) Canaries() (channels []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.links {
		channels = append(channels, l.canary)
	}
	return channels
}

// NewSocket makes the connection that of a link, on systems that have one.
func NewSocket(c net.Conn) (net.Conn, error) { return newSocket(c) }

// Pace tells a busy link from others.
type Pace struct{ pace }

// Read takes note of a read and reports whether the link is busy.
func (p *Pace) Read(now time.Time) bool {
	p.read(now)
	return p.busy
}

// BusyReads is how many reads in a row make a link busy.
const BusyReads = busyReads

// RoomAfter returns how much an organization has when it is taken up after a pause, having spent all it
// had, in so many equal steps, over a time.
func RoomAfter(over time.Duration, steps int, pause time.Duration) time.Duration {
	var m meter
	start := time.Now()
	now := start
	for i := 0; m.spend(now, (meterBurst+over)/time.Duration(steps)); i++ {
		now = start.Add(over * time.Duration(i+1) / time.Duration(steps))
	}
	back := now.Add(pause)
	m.takeUp(back, pause)
	return meterBurst - m.paid.Sub(back)
}

// The bounds of what is remembered of keyed events.
const (
	ShownPerGroup        = shownPerGroup
	ShownPerOrganization = shownPerOrganization
)

// Shown is what an organization has shown, in groups by their number.
type Shown struct {
	shown  shown
	groups map[int]*shownGroup
}

func (s *Shown) group(n int) *shownGroup {
	if s.groups == nil {
		s.groups = make(map[int]*shownGroup)
	}
	if s.groups[n] == nil {
		s.groups[n] = new(shownGroup)
	}
	return s.groups[n]
}

// Add remembers an event.
func (s *Shown) Add(group int, h event.Head) { s.shown.add(s.group(group), h, 0) }

// Repeats reports whether an event was shown under another position.
func (s *Shown) Repeats(group int, h event.Head) bool {
	return s.shown.repeats(s.group(group), h) != nil
}

// Forget forgets a group.
func (s *Shown) Forget(group int) { s.shown.forget(s.group(group)) }

// Len returns how many events are remembered.
func (s *Shown) Len() int { return len(s.shown.places) }

// AskRoles asks the servers of all links for their roles, unless a question is under way, and reports
// whether all have answered one that was sent after a moment.
func (r *Redis) AskRoles(after time.Time) (answered bool) {
	r.mu.Lock()
	links := slices.Collect(maps.Values(r.links))
	answered = len(links) > 0
	for _, l := range links {
		answered = answered && l.answeredAsk.After(after)
	}
	r.mu.Unlock()
	for _, l := range links {
		_ = r.look(l) // what is wrong shows at the receiver, too
	}
	return answered
}

// SeenBytes returns how much the groups of an organization remember of positions.
func (r *Redis) SeenBytes(g event.Group) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.meters[g.Organization()]; m != nil {
		return m.seen
	}
	return 0
}

// SeenLimit bounds SeenBytes.
const SeenLimit = seenBytes

// Ahead makes positions lie ahead of the clock.
func (m *Memory) Ahead(d time.Duration) {
	m.histories.mu.Lock()
	defer m.histories.mu.Unlock()
	m.histories.newest = uint64(time.Now().Add(d).UnixMilli())
}

// Lose loses a history, and lets positions follow the clock again.
func (m *Memory) Lose(g event.Group) {
	m.histories.mu.Lock()
	defer m.histories.mu.Unlock()
	delete(m.histories.groups, g)
	m.histories.newest = 0
}
