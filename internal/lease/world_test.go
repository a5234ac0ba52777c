package lease_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"orgcast/internal/directory"
	"orgcast/internal/lease"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

// world is a session store and a directory that tests can change.
type world struct {
	mu       sync.Mutex
	sessions map[string]session.Standing // by ticket; if missing, it is unchanged
	members  map[directory.Membership]directory.Admission
	away     bool          // sessions are not answered
	noList   bool          // memberships are not answered either
	slow     time.Duration // time until the failure shows
	asked    map[string]int
	asking   func() // called with each question, unless nil
	batches  int
}

func newWorld() *world {
	return &world{sessions: make(map[string]session.Standing), members: make(map[directory.Membership]directory.Admission), asked: make(map[string]int)}
}

func (w *world) change(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
}

func (*world) Resolve(context.Context, *http.Request) (session.Identity, error) {
	return session.Identity{}, session.ErrNone
}

func (*world) Ticket(r *http.Request) string { return r.Header.Get("Cookie") }

func (w *world) Recheck(_ context.Context, held []session.Held) []session.Standing {
	w.mu.Lock()
	w.batches++
	if w.asking != nil {
		w.asking()
	}
	away := w.away
	out := make([]session.Standing, len(held))
	for i, h := range held {
		w.asked[h.Ticket]++
		standing, ok := w.sessions[h.Ticket]
		switch {
		case away:
			standing = session.Standing{Err: fmt.Errorf("%w: away", session.ErrUnavailable)}
		case !ok:
			standing = session.Standing{Expires: h.Identity.Expires}
		}
		out[i] = standing
	}
	slow := w.slow
	w.mu.Unlock()
	if away {
		time.Sleep(slow) // in a synctest bubble
	}
	return out
}

func (w *world) AdmitAll(_ context.Context, list []directory.Membership) []directory.Admission {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]directory.Admission, len(list))
	for i, m := range list {
		if out[i] = w.members[m]; w.noList {
			out[i] = directory.Admission{Err: fmt.Errorf("%w: away", directory.ErrUnavailable)}
		}
	}
	return out
}

// holder is a connection.
type holder struct {
	lease lease.Lease
	id    session.Identity

	mu     sync.Mutex
	causes []error
	ended  time.Time
	expiry time.Time
}

func (h *holder) Identity() session.Identity { return h.id }

func (h *holder) Renew(expires time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expiry = expires
}

func (h *holder) End(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.causes, h.ended = append(h.causes, cause), time.Now()
}

// cause returns why the connection was ended, nil if it was not. It panics if it was ended twice.
func (h *holder) cause() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch len(h.causes) {
	case 0:
		return nil
	case 1:
		return h.causes[0]
	default:
		panic(fmt.Sprintf("ended more than once: %v", h.causes))
	}
}

// open adds a new connection to the Keeper.
func open(tb testing.TB, k *lease.Keeper, user, org, id string) *holder {
	tb.Helper()
	h := &holder{id: session.Identity{UserID: user, SessionID: id, Expires: time.Now().Add(time.Hour)}}
	if org != "" {
		h.id.Organization = testkit.Org(tb, org)
	}
	mark, at := k.Mark()
	if err := k.Add(&h.lease, h, "ticket-"+id, mark, at); err != nil {
		tb.Fatalf("Hold: %v", err)
	}
	return h
}

// start runs a Keeper in a bubble until the test ends.
func start(tb testing.TB, w *world, period, deadline time.Duration) *lease.Keeper {
	tb.Helper()
	k, err := lease.NewKeeper(lease.Options{Sessions: w, Directory: w, Period: period, Deadline: deadline})
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, k)
	return k
}

// run does the same with a Keeper that may have leases already.
func run(tb testing.TB, k *lease.Keeper) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = k.Run(ctx) }) // always nil
	tb.Cleanup(func() {
		cancel()
		running.Wait()
	})
}
