package pubsub

import (
	"maps"
	"net"
	"slices"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/pubsub/roster"
)

// WantedGroups returns how many subscriptions the bus remembers, wanted or in progress.
func (r *Redis) WantedGroups() int { return r.size().Subscriptions }

// Meters returns for how many organizations the bus keeps a budget.
func (r *Redis) Meters() int { return r.size().Organizations }

func (r *Redis) size() roster.Size {
	r.subs.mu.Lock()
	defer r.subs.mu.Unlock()
	return r.subs.roster.Size()
}

// Pause pauses a subscribed group as if its organization were over its budget.
func (r *Redis) Pause(g event.Group) {
	r.subs.mu.Lock()
	defer r.subs.mu.Unlock()
	r.subs.roster.Pause(g, time.Now())
	r.subs.changed()
}

// EndPauses makes the pauses due whose UNSUBSCRIBE is confirmed, and returns how many paused groups
// there are.
func (r *Redis) EndPauses() int {
	r.subs.mu.Lock()
	defer r.subs.mu.Unlock()
	paused := 0
	for _, l := range r.subs.lines {
		paused += r.subs.roster.EndPauses(l.roster)
		signal(l.write)
	}
	return paused
}

// Canaries returns the canary channels of all links.
func (r *Redis) Canaries() (channels []string) {
	r.subs.mu.Lock()
	defer r.subs.mu.Unlock()
	for _, l := range r.subs.lines {
		channels = append(channels, l.roster.Canary())
	}
	return channels
}

// NewSocket turns the connection into a link's socket, on systems that have one.
func NewSocket(c net.Conn) (net.Conn, error) { return newSocket(c) }

// Pace detects a busy link.
type Pace struct{ pace }

// Read records a read and reports whether the link is busy.
func (p *Pace) Read(now time.Time) bool {
	p.read(now)
	return p.busy
}

// BusyReads is how many reads in a row make a link busy.
const BusyReads = busyReads

// AskRoles asks the servers of all links for their roles, unless a question is in progress. It
// reports whether all have answered one that was sent after a moment.
func (r *Redis) AskRoles(after time.Time) (answered bool) {
	r.subs.mu.Lock()
	lines := slices.Collect(maps.Values(r.subs.lines))
	r.subs.mu.Unlock()
	answered = len(lines) > 0
	for _, l := range lines {
		answered = l.link.AskRole(after) && answered
	}
	return answered
}

// SeenBytes returns how many bytes of positions the groups of an organization remember.
func (r *Redis) SeenBytes(g event.Group) int {
	r.subs.mu.Lock()
	defer r.subs.mu.Unlock()
	return r.subs.roster.SeenBytes(g)
}

// SeenLimit is the upper bound of SeenBytes.
const SeenLimit = roster.SeenLimit

// Ahead puts positions ahead of the clock.
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
