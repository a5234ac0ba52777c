package presence

import (
	"time"

	"orgcast/internal/event"
)

// SetGrace sets how long users of this node may come back, for users that leave after it.
func (r *Room) SetGrace(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.machine.grace = d
}

// Held returns what an organization holds, and how many groups the node has.
func (r *Room) Held(g event.Group) (bytes, groups int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.machine.orgs[g.Organization()]; o != nil {
		bytes = o.bytes
	}
	return bytes, len(r.machine.groups)
}

// Value returns what the frame says.
func (f *Frame) Value() any { return f.value }
