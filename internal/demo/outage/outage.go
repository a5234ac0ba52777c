// Package outage takes Redis away from the demo for a few seconds. Meanwhile it goes on publishing,
// as a careful back end does: it keeps what Redis does not accept, and tries it again, in order and
// under the same idempotency key, until Redis does.
package outage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Recorder publishes through Redis; *pubsub.Publisher is one.
type Recorder interface {
	// Record publishes an event that is also kept in the history of its group. With an idempotency
	// key, it can be repeated.
	Record(ctx context.Context, g event.Group, payload []byte, o event.Recording) (event.Position, error)
}

// Switch is what stands between the demo and its Redis; *Plug is one.
type Switch interface {
	Pull()
	Restore()
}

// Options are what [Outages] need. Plug and Recorder are required.
type Options struct {
	Plug     Switch
	Recorder Recorder
	// Out gets one line when Redis is unreachable, and one when it is back, for the person at the terminal.
	Out io.Writer
	// Fold leaves the warnings of an outage out of the log. Without one, all are logged.
	Fold *Fold
	// Healthy returns nil if events flow. An outage is over when it does. nil counts as healthy.
	Healthy func() error
}

// Author is someone as whom the demo publishes while Redis is away.
type Author struct {
	Organization orgctx.ID
	User         string
}

const (
	// groupName is the group to which all authors publish, each in their own organization.
	groupName = "all"
	// MostSeconds is the longest outage.
	MostSeconds = 10
	// eventsEach is how many events each author publishes during an outage.
	eventsEach = 5
	// tick is how often the demo tries again.
	tick = 100 * time.Millisecond
	// tryTimeout bounds each try to publish.
	tryTimeout = time.Second
	// giveUp bounds the time after the outage in which everything must have been accepted.
	giveUp = 30 * time.Second
	// settle bounds the time after that in which events must flow again.
	settle = 10 * time.Second
)

var (
	// ErrSeconds is returned for an outage that is too short or too long.
	ErrSeconds = errors.New("outage: 1 to 10 seconds")
	// ErrRunning is returned while there is an outage.
	ErrRunning = errors.New("outage: Redis is already away")
)

// State is how far an outage is.
type State string

// States of an outage, in their order.
const (
	Idle  State = "idle"  // there has been none
	Away  State = "away"  // Redis is away
	Back  State = "back"  // Redis is back, and what was kept is being published
	Done  State = "done"  // everything is published
	Stuck State = "stuck" // not everything could be published
)

// Final reports whether there is no outage, or none any longer.
func (s State) Final() bool { return s == Idle || s == Done || s == Stuck }

// Event is one of the events that the demo published, or tried to.
type Event struct {
	ID           string    `json:"id"`
	Organization orgctx.ID `json:"organization_id"`
	From         string    `json:"from"`
	// AtMS is when it was tried first, AcceptedMS when Redis accepted it, in milliseconds since the
	// plug was pulled. AcceptedMS is 0 until then.
	AtMS       int64 `json:"at_ms"`
	AcceptedMS int64 `json:"accepted_ms"`
	// Tries counts tries, Kept says that the first one failed.
	Tries int  `json:"tries"`
	Kept  bool `json:"kept"`
}

// Report is how an outage is going, or how the latest one went.
type Report struct {
	// Run counts the outages of this process.
	Run     int   `json:"run"`
	State   State `json:"state"`
	Seconds int   `json:"seconds"`
	// SinceMS is the time since the plug was pulled, AwayMS how long Redis has been away, both in
	// milliseconds.
	SinceMS int64 `json:"since_ms"`
	AwayMS  int64 `json:"away_ms"`
	// Events are those published, or kept, so far, in their order.
	Events []Event `json:"events"`
}

// request is an outage that shall begin.
type request struct {
	authors []Author
	seconds int
}

// Outages lets one outage follow another. Its methods are safe for concurrent use.
type Outages struct {
	opt    Options      // fixed after construction
	starts chan request // holds one: Start sends only if there is no outage

	mu     sync.Mutex
	report Report
	pulled time.Time // when the latest outage began
}

// New returns Outages. They need [Outages.Run].
func New(o Options) *Outages {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Fold == nil {
		o.Fold = new(Fold)
	}
	if o.Healthy == nil {
		o.Healthy = func() error { return nil }
	}
	return &Outages{opt: o, starts: make(chan request, 1), report: Report{State: Idle}}
}

// Start takes Redis away for some seconds, in which the demo publishes as the authors. It returns at
// once, with [ErrSeconds] or [ErrRunning] if it does not.
func (o *Outages) Start(authors []Author, seconds int) error {
	if seconds < 1 || seconds > MostSeconds {
		return ErrSeconds
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.report.State.Final() {
		return ErrRunning
	}
	o.report = Report{Run: o.report.Run + 1, State: Away, Seconds: seconds}
	o.pulled = time.Now()
	o.starts <- request{authors: slices.Clone(authors), seconds: seconds}
	return nil
}

// Report returns how the outage is going, or how the latest one went.
func (o *Outages) Report() Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.report
	r.Events = append([]Event{}, r.Events...) // never null
	if r.State.Final() {
		return r
	}
	r.SinceMS = o.since()
	if r.State == Away {
		r.AwayMS = r.SinceMS
	}
	return r
}

// since returns the milliseconds since the plug was pulled, at least 1. The mutex is held.
func (o *Outages) since() int64 { return max(time.Since(o.pulled).Milliseconds(), 1) }

// Run lets outages begin until ctx ends. Then Redis is back.
func (o *Outages) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-o.starts:
			if err := o.tell(ctx, r); err != nil {
				return err
			}
		}
	}
}

// kept is an event that Redis has not accepted yet.
type kept struct {
	index   int // in Report.Events
	group   event.Group
	id      string
	payload []byte
}

// note is the event that is published, as the page knows it.
type note struct {
	Type         string    `json:"type"`
	Organization orgctx.ID `json:"organization_id"`
	ID           string    `json:"id"`
	From         string    `json:"from"`
	Text         string    `json:"text"`
	SentAt       int64     `json:"sent_at"` // milliseconds since 1970
}

// outage is one outage. The queue of kept events belongs to it.
func (o *Outages) outage(ctx context.Context, r request) error {
	o.opt.Plug.Pull()
	defer o.opt.Plug.Restore()
	o.mu.Lock()
	o.pulled = time.Now()
	o.mu.Unlock()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	length := time.Duration(r.seconds) * time.Second
	back := time.NewTimer(length)
	defer back.Stop()
	late := time.NewTimer(length + giveUp)
	defer late.Stop()
	var queue []kept
	restored := false
	for made := 0; ; {
		// The events are spread over the outage, away from its ends.
		if made < eventsEach && o.elapsed() > length*time.Duration(2*made+1)/(2*eventsEach) {
			made++
			more, err := o.write(r.authors, made)
			if err != nil {
				return err
			}
			queue = append(queue, more...)
		}
		queue = o.flush(ctx, queue)
		if restored && made == eventsEach && len(queue) == 0 {
			o.end(Done)
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-back.C:
			o.restore()
			restored = true
		case <-late.C:
			o.end(Stuck)
			return nil
		case <-ticker.C:
		}
	}
}

func (o *Outages) elapsed() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Since(o.pulled)
}

// write makes the next event of each author.
func (o *Outages) write(authors []Author, n int) ([]kept, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]kept, 0, len(authors))
	for _, a := range authors {
		group, err := event.NewGroup(a.Organization, groupName)
		if err != nil {
			return nil, err
		}
		k := kept{index: len(o.report.Events), group: group, id: rand.Text()}
		k.payload, err = json.Marshal(note{
			Type: "note", Organization: a.Organization, ID: k.id, From: a.User,
			Text: fmt.Sprintf("Written without Redis (%d of %d)", n, eventsEach), SentAt: time.Now().UnixMilli(),
		})
		if err != nil {
			return nil, err
		}
		list = append(list, k)
		o.report.Events = append(o.report.Events, Event{ID: k.id, Organization: a.Organization, From: a.User, AtMS: o.since()})
	}
	return list, nil
}

// flush publishes what is kept, in order, and returns what Redis did not accept.
func (o *Outages) flush(ctx context.Context, queue []kept) []kept {
	for len(queue) > 0 {
		k := queue[0]
		trying, cancel := context.WithTimeout(ctx, tryTimeout)
		_, err := o.opt.Recorder.Record(trying, k.group, k.payload, event.Recording{IdempotencyKey: k.id})
		cancel()
		o.tried(queue, err)
		if err != nil {
			return queue
		}
		queue = queue[1:]
	}
	return queue
}

// tried notes how a try of the first event went. If it failed, those behind it are kept as well.
func (o *Outages) tried(queue []kept, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	first := &o.report.Events[queue[0].index]
	first.Tries++
	if err == nil {
		first.AcceptedMS = o.since()
		return
	}
	for _, k := range queue {
		o.report.Events[k.index].Kept = true
	}
}

// restore plugs Redis in again.
func (o *Outages) restore() {
	o.opt.Plug.Restore()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.report.State, o.report.AwayMS = Back, o.since()
}

// end notes how the outage ended.
func (o *Outages) end(s State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.report.State, o.report.SinceMS = s, o.since()
}
