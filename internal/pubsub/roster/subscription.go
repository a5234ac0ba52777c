package roster

import (
	"time"

	"orgcast/internal/event"
)

// state is where a subscription stands on its link. One command at most is under way for
// a channel; what was asked for meanwhile is settled when its confirmation comes. So every order
// of Subscribe and Unsubscribe converges.
type state int

const (
	stateOff   state = iota
	stateOn          // confirmed
	stateSent        // SUBSCRIBE is under way
	stateUnset       // UNSUBSCRIBE is under way
)

// subscription is one group that is wanted, or was until a moment ago.
type subscription struct {
	group   event.Group
	channel string
	slot    uint16  // of a Cluster; 0 if there is none
	budget  *budget // of its organization

	before, following *subscription // in the order of their making

	joined uint64    // Subscribe calls
	count  int       // Subscribe calls less Unsubscribe calls: it is wanted if positive
	link   *Link     // that it is queued for, or not off on; else nil
	state  state     // on its link; off while it has none
	queued time.Time // when it went into the link's queue, zero while it is not there
	missed bool      // was on when a link broke or it was paused: it has to catch up

	paused   bool          // its organization exceeds its budget; only while there is a link
	pause    time.Duration // without jitter, known when the state is off, as is resumeAt
	resumeAt time.Time     // at the earliest

	cursor cursor     // in its history
	shown  shownGroup // its part of what its organization has shown
}

// isWanted reports whether it is to be on.
func (s *subscription) isWanted() bool { return s.count > 0 && !s.paused }

// isSettled reports whether the state is what is wanted.
func (s *subscription) isSettled() bool { return s.isWanted() == (s.state == stateOn) }

// off marks it as unsubscribed and detached; its previous state says whether it was subscribed.
func (s *subscription) off() {
	if s.state == stateOn && !s.paused {
		s.missed = s.count > 0
	}
	s.state, s.queued, s.link = stateOff, time.Time{}, nil
	s.stopCatching()
	if s.cursor.known = s.cursor.known && s.missed; !s.cursor.known { // where it would begin now is read again
		s.cursor.seen.forget(s.budget)
	}
}
