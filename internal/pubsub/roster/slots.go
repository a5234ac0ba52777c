package roster

import (
	"slices"
	"strconv"
	"time"

	"orgcast/internal/keyspace"
)

// canaryTags is how many names are tried to find one in a slot of a given server. If the server has
// only one slot, one name in 16,384 fits.
const canaryTags = 20 * keyspace.Slots

// slots holds the slots of a Cluster.
type slots struct {
	owners []string // addresses of masters, by slot; "" if unknown
	// strays says that subscriptions wait for the next survey, because their server refused them
	// and did not name the right one.
	strays bool
}

// Surveyed sets the masters' addresses by slot, or nil if the survey failed, and settles
// subscriptions that have waited for the survey.
func (r *Roster) Surveyed(owners []string, now time.Time) {
	changed := owners != nil && !slices.Equal(owners, r.slots.owners)
	if changed {
		r.slots.owners = owners
	}
	if changed || r.slots.strays {
		r.slots.strays = false
		r.settleAll(now)
	}
}

// Masters returns the addresses of the servers that own slots, or one "" without a Cluster.
// complete says that every slot has an owner.
func (r *Roster) Masters() (list []string, complete bool) {
	if !r.opt.Sharded {
		return []string{""}, true
	}
	last := ""
	complete = true
	for _, owner := range r.slots.owners {
		switch {
		case owner == "":
			complete = false
		case owner != last && !slices.Contains(list, owner):
			list = append(list, owner)
		}
		last = owner
	}
	return list, complete
}

// CanaryOf returns a canary channel in a slot of a server of a Cluster, different from other. It
// reports false if the server owns no slot.
func (r *Roster) CanaryOf(server, other string) (channel string, ok bool) {
	if !slices.Contains(r.slots.owners, server) {
		return "", false
	}
	start := uint64(r.opt.Rand(1 << 32)) //nolint:gosec // not negative
	for n := range uint64(canaryTags) {
		channel := r.opt.Keys.CanaryIn(strconv.FormatUint(start+n, 36), r.opt.NodeID)
		if channel != other && r.slots.owners[keyspace.Slot(channel)] == server {
			return channel, true
		}
	}
	return "", false
}

// renameCanary chooses another channel for a link's canaries.
func (r *Roster) renameCanary(l *Link) bool {
	channel, ok := r.CanaryOf(l.server, l.canary)
	if ok {
		l.canary = channel
	}
	return ok
}
