package former

import (
	"time"

	"orgcast/internal/event"
)

// words are what Redis calls a subscription's two commands, and their confirmations.
type words struct{ on, off string }

//nolint:gochecknoglobals // constants
var (
	plainWords   = words{on: "subscribe", off: "unsubscribe"}
	shardedWords = words{on: "ssubscribe", off: "sunsubscribe"}
)

// command is one name of a command that Redis has not confirmed yet.
type command struct {
	kind    string
	channel string
	sub     *subscription // nil for a channel of canaries
	batch   int           // the command's number; it may have more names
	at      time.Time
}

// link is one subscription connection, from its opening to its loss.
type link struct {
	server       string
	words        words
	canary       string
	canaryOn     bool
	canaryLost   bool
	queue        fifo[*subscription]
	sent         fifo[command]
	batches      int
	paused       []*subscription
	behind       fifo[lagging]
	lastReceived time.Time
	suspect      bool
	accepted     []int
	fetch, wake  chan struct{}
}

func (l *link) rouse() {}

func (l *link) hasRoom() bool { return l.sent.len() <= maxUnconfirmed-maxBatch }

// lagging is a subscription that has to catch up.
type lagging struct {
	sub   *subscription
	round int
	mark  event.Mark
}
