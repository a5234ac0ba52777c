// Package crowd brings many people of many organizations to the demo at once. They have real
// sessions and real sockets, share their user names and their group, and each of them checks the
// organization and the id of every event that arrives.
package crowd

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/rlimit"
	"orgcast/internal/session"
)

// Sessions makes the sessions of the crowd and ends them; *session.RedisStore is one.
type Sessions interface {
	// Mint stores a session and returns its cookie.
	Mint(ctx context.Context, g session.Grant) (*http.Cookie, error)
	// SignOut ends the session whose cookie r carries.
	SignOut(ctx context.Context, r *http.Request) (*http.Cookie, error)
}

// Members is the directory that the gateway asks; *directory.Redis is one.
type Members interface {
	PutOrganization(ctx context.Context, org orgctx.ID, status directory.Status) error
	PutMember(ctx context.Context, org orgctx.ID, userID string, status directory.Status, m directory.Member) error
	RemoveMember(ctx context.Context, org orgctx.ID, userID string) error
}

// Publisher publishes through Redis, as back ends do; *pubsub.Publisher is one.
type Publisher interface {
	// PublishAll returns a receipt for each publication.
	PublishAll(ctx context.Context, list []event.Publication) []event.Receipt
}

// Options are what a [Crowd] needs. All are required unless the comment says otherwise.
type Options struct {
	// Site is the origin of the demo. Guests connect to it, at /ws/events.
	Site *url.URL
	// Sessions, Members and Publisher do what the web application of the crowd would do.
	Sessions  Sessions
	Members   Members
	Publisher Publisher
	// Unwatched is how long a run goes on after the last call of [Crowd.Report]. Optional; the
	// default is [DefaultUnwatched].
	Unwatched time.Duration
	// Settle is how long a run waits for the last deliveries. Optional; the default is
	// [DefaultSettle].
	Settle time.Duration
	// Log is optional.
	Log *zap.Logger
}

// DefaultSettle is the default of [Options].Settle, long enough for a slow machine.
const DefaultSettle = 20 * time.Second

// DefaultUnwatched is the default of [Options].Unwatched. A page asks four times a second, or once
// if its tab is hidden.
const DefaultUnwatched = 10 * time.Second

// Size says how large a run is.
type Size struct {
	People        int `json:"people"`
	Organizations int `json:"organizations"`
	// Seconds is how long events are published.
	Seconds int `json:"seconds"`
}

// Largest is the largest run, and the one that the page suggests.
func Largest() Size { return Size{People: 500, Organizations: 50, Seconds: 30} }

var (
	// ErrSize is returned for a size that is not allowed.
	ErrSize = errors.New("crowd: invalid size")
	// ErrRunning is returned while a run is going on.
	ErrRunning = errors.New("crowd: already running")
	// ErrFiles is returned if this process may not open enough files.
	ErrFiles = errors.New("crowd: too few open files")
)

// spareFiles is how many open files the rest of the demo needs, with a margin.
const spareFiles = 300

// check returns why there can be no run of this size. Each connection takes two files, one at each
// end.
func (s Size) check(openFiles int) error {
	most := Largest()
	switch {
	case s.Organizations < 2 || s.Organizations > most.Organizations:
		return fmt.Errorf("%w: 2 to %d organizations", ErrSize, most.Organizations)
	case s.People < s.Organizations || s.People > most.People:
		return fmt.Errorf("%w: at least one person for each organization, and at most %d", ErrSize, most.People)
	case s.Seconds < 1 || s.Seconds > most.Seconds:
		return fmt.Errorf("%w: 1 to %d seconds", ErrSize, most.Seconds)
	case openFiles > 0 && openFiles < 2*s.People+spareFiles:
		return fmt.Errorf("%w: %d people need a limit of %d, and it is %d (ulimit -n)", ErrFiles, s.People, 2*s.People+spareFiles, openFiles)
	default:
		return nil
	}
}

// State is what a run is doing.
type State string

// States of a run, in their order. The last three are final.
const (
	Idle       State = "idle"       // there has been no run
	Gathering  State = "gathering"  // people sign in and connect
	Publishing State = "publishing" // everyone is there, and events are published
	Settling   State = "settling"   // the last events are on their way
	Done       State = "done"       // everything has arrived, or can no longer arrive
	Failed     State = "failed"     // Report.Problem says why
	Unwatched  State = "unwatched"  // nobody asked how it was going
)

// Final reports whether there is no run, or none any longer.
func (s State) Final() bool { return s == Idle || s == Done || s == Failed || s == Unwatched }

// Report is how a run is going, or how the latest one ended.
type Report struct {
	Size

	// Run counts the runs of this process.
	Run   int   `json:"run"`
	State State `json:"state"`
	// Problem says in a few words why a run failed.
	Problem string `json:"problem,omitempty"`
	// Connected is how many people are connected and listen.
	Connected int `json:"connected"`
	// ElapsedMS is how long events have been published, in milliseconds.
	ElapsedMS int64 `json:"elapsed_ms"`

	Figures
}

// Crowd is the crowd of a demo, with at most one run at a time. Its methods are safe for concurrent
// use.
type Crowd struct {
	opt    Options   // fixed after construction
	starts chan Size // holds one: Start sends only if there is no run

	mu     sync.Mutex
	report Report
	tally  *Tally      // of the latest run; it has a lock of its own
	began  time.Time   // when the latest run began to publish
	alarm  *time.Timer // ends a run that nobody watches; nil without a run
}

// New returns a Crowd without a run. Runs need [Crowd.Run].
func New(o Options) *Crowd {
	if o.Unwatched == 0 {
		o.Unwatched = DefaultUnwatched
	}
	if o.Settle == 0 {
		o.Settle = DefaultSettle
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Crowd{opt: o, starts: make(chan Size, 1), report: Report{State: Idle}, tally: NewTally()}
}

// Start begins a run and returns at once. It returns [ErrSize], [ErrRunning] or [ErrFiles] if it
// does not.
func (c *Crowd) Start(s Size) error {
	if err := s.check(rlimit.OpenFiles()); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.report.State.Final() {
		return ErrRunning
	}
	c.report = Report{Size: s, Run: c.report.Run + 1, State: Gathering}
	c.tally, c.began = NewTally(), time.Time{}
	c.starts <- s
	return nil
}

// Report returns how the run is going, or how the latest one ended, and keeps a run going.
func (c *Crowd) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alarm != nil {
		c.alarm.Reset(c.opt.Unwatched)
	}
	r := c.report
	r.Figures = c.tally.Figures()
	if r.State == Publishing {
		r.ElapsedMS = time.Since(c.began).Milliseconds()
	}
	return r
}

// Run runs what is started until ctx ends, one run after the other.
func (c *Crowd) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-c.starts:
			c.run(ctx, s)
		}
	}
}

// errUnwatched ends a run that nobody watches.
var errUnwatched = errors.New("crowd: nobody is watching")

// run does one run and notes how it ended.
func (c *Crowd) run(ctx context.Context, s Size) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.mu.Lock()
	c.alarm = time.AfterFunc(c.opt.Unwatched, func() { cancel(errUnwatched) })
	r := &run{Options: &c.opt, size: s, tally: c.tally, changed: c.changed}
	c.mu.Unlock()

	err := r.do(ctx)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm.Stop()
	c.alarm = nil
	switch {
	case err == nil:
		c.tally.Close()
		c.report.State = Done
	case errors.Is(context.Cause(ctx), errUnwatched):
		c.report.State = Unwatched
	default:
		c.opt.Log.Warn("crowd failed", zap.Error(err))
		c.report.State, c.report.Problem = Failed, problem(err)
	}
}

// changed notes how the run is going.
func (c *Crowd) changed(state State, connected int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == Publishing {
		c.began = time.Now()
	}
	if state == Settling {
		c.report.ElapsedMS = time.Since(c.began).Milliseconds()
	}
	c.report.State, c.report.Connected = state, connected
}
