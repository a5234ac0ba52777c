package roster

import (
	"time"

	"orgcast/internal/event"
)

// state is the state of a subscription on its link. At most one command for a channel is in
// progress. Changes wanted meanwhile are settled when its confirmation comes, so every order of
// Subscribe and Unsubscribe converges.
type state int

const (
	stateOff   state = iota
	stateOn          // confirmed
	stateSent        // SUBSCRIBE is in progress
	stateUnset       // UNSUBSCRIBE is in progress
)

// subscription is one group that is wanted, or whose end is not confirmed yet.
type subscription struct {
	group   event.Group
	channel string
	slot    uint16  // the slot of the channel in a Cluster, else 0
	budget  *budget // the budget of its organization

	before, following *subscription // neighbors in the list, in the order of creation

	joined uint64    // number of Subscribe calls
	count  int       // Subscribe calls minus Unsubscribe calls; positive if the group is wanted
	link   *Link     // the link on which it is queued or not off, else nil
	state  state     // the state on its link; off without one
	queued time.Time // when it was queued on the link, zero if it is not queued
	missed bool      // it was on when a link broke or a pause began, so it must catch up

	paused   bool          // its organization exceeds its budget; only while it has a link
	pause    time.Duration // length without jitter; set, like resumeAt, when the state is off
	resumeAt time.Time     // the earliest end of the pause

	cursor cursor     // its place in the history
	shown  shownGroup // its events among those that its organization has shown
}

// isWanted reports whether the group should be subscribed.
func (s *subscription) isWanted() bool { return s.count > 0 && !s.paused }

// isSettled reports whether the state is the wanted one.
func (s *subscription) isSettled() bool { return s.isWanted() == (s.state == stateOn) }

// off marks the subscription as unsubscribed and detached from its link. If it was on and wanted,
// it has missed events from now on.
func (s *subscription) off() {
	if s.state == stateOn && !s.paused {
		s.missed = s.count > 0
	}
	s.state, s.queued, s.link = stateOff, time.Time{}, nil
	s.stopCatching()
	if s.cursor.known = s.cursor.known && s.missed; !s.cursor.known { // it is read again at the next SUBSCRIBE
		s.cursor.seen.forget(s.budget)
	}
}
