package webhook

import (
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// maxLingering is how many groups of one organization may stay occupied although their last
// connection has left the node. Further ones are vacated at once, so that members who run through
// many groups cannot fill the memory.
const maxLingering = 50_000

// occupancy decides which groups the node reports as occupied. A group stays occupied for a while
// after its last connection has left, because a page that is loaded again, or a deployment, brings
// the connection back, here or to another node. It does no I/O and is owned by one goroutine.
type occupancy struct {
	linger    time.Duration
	stays     map[event.Group]*stay
	lingering map[orgctx.ID]int // entries of leaving
	todo      []event.Group     // to be looked at
	leaving   []departure       // by time
}

// stay is what is known of one group.
type stay struct {
	present bool      // it has connections on this node
	left    time.Time // since when it has none
	// reported says that Redis counts this node as one with connections in the group, as far as the
	// node knows.
	reported bool
	// known says that receivers know that the group is occupied: Redis has lost that.
	known bool
	// underWay says that a step is being written, whose outcome is awaited.
	underWay bool
}

// departure is a moment at which a group may have to be vacated.
type departure struct {
	group event.Group
	at    time.Time
}

// step is what to write; lua/write.lua describes each.
type step string

const (
	stepEvent  step = "event"
	stepOccupy step = "occupy"
	stepKnow   step = "know"
	stepVacate step = "vacate"
	stepBury   step = "bury"
)

func newOccupancy(linger time.Duration) *occupancy {
	return &occupancy{linger: linger, stays: make(map[event.Group]*stay), lingering: make(map[orgctx.ID]int)}
}

// observe takes whether a group has connections now.
func (o *occupancy) observe(g event.Group, present bool, now time.Time) {
	s := o.stays[g]
	if s == nil {
		if !present {
			return
		}
		s = new(stay)
		o.stays[g] = s
	} else if s.present == present {
		return
	}
	s.present = present
	if present {
		o.todo = append(o.todo, g)
		return
	}
	o.left(g, s, now)
}

// left lets a group linger.
func (o *occupancy) left(g event.Group, s *stay, now time.Time) {
	s.left = now
	if o.lingering[g.Organization()] >= maxLingering {
		s.left = now.Add(-o.linger)
		o.todo = append(o.todo, g)
		return
	}
	o.lingering[g.Organization()]++
	o.leaving = append(o.leaving, departure{g, now.Add(o.linger)})
}

// next returns a group about which something has to be written now, and what. The caller calls done
// when it is written.
func (o *occupancy) next(now time.Time) (event.Group, step, bool) {
	for len(o.leaving) > 0 && !now.Before(o.leaving[0].at) {
		g := o.leaving[0].group
		o.leaving = o.leaving[1:]
		if o.lingering[g.Organization()]--; o.lingering[g.Organization()] == 0 {
			delete(o.lingering, g.Organization())
		}
		o.todo = append(o.todo, g)
	}
	for len(o.todo) > 0 {
		g := o.todo[0]
		o.todo = o.todo[1:]
		if what, ok := o.decide(g, now); ok {
			return g, what, true
		}
	}
	o.todo = nil
	return event.Group{}, "", false
}

// decide returns what has to be written about a group.
func (o *occupancy) decide(g event.Group, now time.Time) (step, bool) {
	s := o.stays[g]
	switch {
	case s == nil || s.underWay:
		return "", false
	case (s.present || s.known) && !s.reported:
		s.underWay = true
		if s.known {
			return stepKnow, true
		}
		return stepOccupy, true
	case !s.present && s.reported && now.Sub(s.left) >= o.linger:
		s.underWay = true
		return stepVacate, true
	case !s.present && !s.reported && now.Sub(s.left) >= o.linger:
		delete(o.stays, g)
	}
	return "", false
}

// done takes that a step is written.
func (o *occupancy) done(g event.Group, what step) {
	s := o.stays[g]
	s.underWay, s.reported, s.known = false, what != stepVacate, false
	o.todo = append(o.todo, g) // it may have changed meanwhile
}

// due returns when the next group may have to be vacated.
func (o *occupancy) due() (time.Time, bool) {
	if len(o.leaving) == 0 {
		return time.Time{}, false
	}
	return o.leaving[0].at, true
}

// reported returns how many groups Redis should know of.
func (o *occupancy) reported() (n int) {
	for _, s := range o.stays {
		if s.reported {
			n++
		}
	}
	return n
}

// reconcile takes which groups Redis really knows of. lost says that Redis has lost its data: then
// receivers know of the groups that it does not know of. Else the other nodes took this one for dead,
// and have told receivers so. No step is under way.
func (o *occupancy) reconcile(actual map[event.Group]bool, lost bool, now time.Time) {
	for g, s := range o.stays {
		if s.reported == actual[g] {
			continue
		}
		s.known = s.reported && lost
		s.reported = actual[g]
		o.todo = append(o.todo, g)
		if s.known && !s.present { // others must have the time to report theirs
			o.left(g, s, now)
		}
	}
	for g := range actual {
		if o.stays[g] == nil {
			s := &stay{reported: true}
			o.stays[g] = s
			o.left(g, s, now)
		}
	}
}
