package webhook

import (
	"time"

	"orgcast/internal/event"
)

// Occupancy is the state machine of a node's groups.
type Occupancy struct{ *occupancy }

// NewOccupancy returns one.
func NewOccupancy(linger time.Duration) Occupancy { return Occupancy{newOccupancy(linger)} }

// Observe takes whether a group has connections now.
func (o Occupancy) Observe(g event.Group, present bool, now time.Time) { o.observe(g, present, now) }

// Next returns what has to be written now.
func (o Occupancy) Next(now time.Time) (event.Group, string, bool) {
	g, s, ok := o.next(now)
	return g, string(s), ok
}

// Done takes that a step is written.
func (o Occupancy) Done(g event.Group, s string) { o.done(g, step(s)) }

// Reconcile takes what Redis knows.
func (o Occupancy) Reconcile(actual map[event.Group]bool, lost bool, now time.Time) {
	o.reconcile(actual, lost, now)
}

// Size returns how many groups and departures are remembered.
func (o Occupancy) Size() (groups, leaving, organizations int) {
	return len(o.stays), len(o.leaving), len(o.lingering)
}

// Queue is what waits in memory.
type Queue struct{ *queue }

// NewQueue returns an empty one.
func NewQueue() Queue { return Queue{newQueue()} }

// Put appends news of a connection.
func (q Queue) Put(c Connection, cause string) bool {
	return q.put(happening{kind: Disconnected, conn: c, cause: cause})
}

// Take removes up to n, and returns whose they are and their causes.
func (q Queue) Take(n int) (list []string) {
	for _, h := range q.take(n) {
		list = append(list, h.organization().String()+" "+h.cause)
	}
	return list
}

// Bytes returns how many bytes wait.
func (q Queue) Bytes() int { return q.bytes }

// ParseEntry parses the text of an entry.
func ParseEntry(text string) (Entry, error) { return parseEntry(text) }

// Text returns the text of an entry.
func (e Entry) Text() string { return e.text() }

// Match reports whether a group is told of.
func (p Patterns) Match(g event.Group) bool { return p.match(g) }

// Bounds.
const (
	MaxLingering              = maxLingering
	QueueBytesPerOrganization = queueBytesPerOrganization
)

// WriteScript returns the hash of the script that writes batches.
func WriteScript() string { return newScripts().write.Hash() }

// Node returns the name of the node in Redis.
func (r *Recorder) Node() string { return r.node }
