package lease_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/directory"
	"orgcast/internal/lease"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestAnnouncements(t *testing.T) {
	acme, globex := testkit.Org(t, "acme"), testkit.Org(t, "globex")
	// Which announcement ends which of ada's two devices, alan, and ada in another organization?
	tests := map[string]struct {
		message lease.Message
		want    map[string]error
	}{
		"logout on one device":    {lease.Message{Type: lease.SessionEnded, SessionID: "laptop"}, map[string]error{"laptop": lease.ErrSessionEnded, "laptop, second tab": lease.ErrSessionEnded}},
		"session of nobody":       {lease.Message{Type: lease.SessionEnded, SessionID: "nobody"}, nil},
		"user disabled":           {lease.Message{Type: lease.UserDisabled, UserID: "ada"}, map[string]error{"laptop": lease.ErrNotAllowed, "laptop, second tab": lease.ErrNotAllowed, "phone": lease.ErrNotAllowed, "elsewhere": lease.ErrNotAllowed}},
		"member removed":          {lease.Message{Type: lease.MemberRemoved, Organization: acme, UserID: "ada"}, map[string]error{"laptop": lease.ErrNotAllowed, "laptop, second tab": lease.ErrNotAllowed, "phone": lease.ErrNotAllowed}},
		"organization suspended":  {lease.Message{Type: lease.OrganizationSuspended, Organization: acme}, map[string]error{"laptop": lease.ErrNotAllowed, "laptop, second tab": lease.ErrNotAllowed, "phone": lease.ErrNotAllowed, "alan": lease.ErrNotAllowed}},
		"switched":                {lease.Message{Type: lease.OrganizationSwitched, SessionID: "phone", Organization: globex}, map[string]error{"phone": lease.ErrSwitched}},
		"switched to where it is": {lease.Message{Type: lease.OrganizationSwitched, SessionID: "phone", Organization: acme}, nil},
		"switched to none":        {lease.Message{Type: lease.OrganizationSwitched, SessionID: "phone"}, map[string]error{"phone": lease.ErrSwitched}},
		"first organization":      {lease.Message{Type: lease.OrganizationSwitched, SessionID: "olga", Organization: acme}, map[string]error{"olga": lease.ErrSwitched}},
		"another role":            {lease.Message{Type: lease.MemberRole, Organization: acme, UserID: "alan", Role: "admin"}, map[string]error{"alan": lease.ErrRoleChanged}},
		"role in one of two":      {lease.Message{Type: lease.MemberRole, Organization: globex, UserID: "ada", Role: "admin"}, map[string]error{"elsewhere": lease.ErrRoleChanged}},
		"the same role":           {lease.Message{Type: lease.MemberRole, Organization: acme, UserID: "alan"}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			k, err := lease.NewKeeper(lease.Options{Sessions: newWorld(), Directory: newWorld()})
			if err != nil {
				t.Fatal(err)
			}
			all := map[string]*holder{
				"laptop": open(t, k, "ada", "acme", "laptop"), "laptop, second tab": open(t, k, "ada", "acme", "laptop"), "phone": open(t, k, "ada", "acme", "phone"),
				"alan": open(t, k, "alan", "acme", "alan"), "elsewhere": open(t, k, "ada", "globex", "elsewhere"), "olga": open(t, k, "olga", "", "olga"),
			}
			for range 2 { // a repeated announcement ends no connection twice
				k.Apply(test.message)
			}
			for who, h := range all {
				if got := h.cause(); !errors.Is(got, test.want[who]) {
					t.Errorf("%s: got %v, want %v", who, got, test.want[who])
				}
				k.Remove(&h.lease)
				k.Remove(&h.lease)
			}
			if got := k.Held(); got != 0 {
				t.Errorf("held after all were released: %d", got)
			}
			if n := k.Apply(test.message); n != 0 {
				t.Errorf("ended after all were released: %d", n)
			}
		})
	}
}

// TestAnnouncedDuringHandshake: an announcement between the check of the session and Add still
// counts.
func TestAnnouncedDuringHandshake(t *testing.T) {
	k, err := lease.NewKeeper(lease.Options{Sessions: newWorld(), Directory: newWorld()})
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{id: session.Identity{UserID: "ada", SessionID: "s1", Organization: testkit.Org(t, "acme")}}
	before, at := k.Mark()
	k.Apply(lease.Message{Type: lease.SessionEnded, SessionID: "s1"})
	after, _ := k.Mark()
	if err := k.Add(&h.lease, h, "", before, at); !errors.Is(err, lease.ErrSessionEnded) {
		t.Errorf("admitted before the announcement: got %v, want ErrSessionEnded", err)
	}
	if err := k.Add(&h.lease, h, "", after, at); err != nil { // the store answered after the announcement
		t.Errorf("admitted after the announcement: got %v, want nil", err)
	}
	k.Remove(&h.lease)
	for i := range 5000 { // more than are remembered
		k.Apply(lease.Message{Type: lease.UserDisabled, UserID: fmt.Sprint(i)})
		if i == 4990 {
			before, at = k.Mark()
		}
	}
	h.id.UserID = "4995"
	if err := k.Add(&h.lease, h, "", before, at); !errors.Is(err, lease.ErrNotAllowed) {
		t.Errorf("among many announcements: got %v, want ErrNotAllowed", err)
	}
}

// TestMissedDuringHandshake: a connection that was admitted before a loss of the control channel
// and added after it is checked at once. So is one that was overtaken by too many messages.
func TestMissedDuringHandshake(t *testing.T) {
	for name, happens := range map[string]func(k *lease.Keeper){
		"loss": func(k *lease.Keeper) { k.Missed() },
		"flood": func(k *lease.Keeper) {
			for i := range 5000 {
				k.Apply(lease.Message{Type: lease.UserDisabled, UserID: fmt.Sprint(i)})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				k := start(t, w, time.Hour, 2*time.Hour)
				h := &holder{id: session.Identity{UserID: "ada", SessionID: "s1", Organization: testkit.Org(t, "acme")}}
				mark, at := k.Mark()
				w.change(func() { w.sessions["s1"] = session.Standing{Err: session.ErrNone} })
				happens(k)
				synctest.Wait()
				if err := k.Add(&h.lease, h, "s1", mark, at); err != nil {
					t.Fatalf("Hold: %v", err)
				}
				synctest.Wait()
				if got := h.cause(); !errors.Is(got, lease.ErrSessionEnded) {
					t.Errorf("got %v, want ErrSessionEnded", got)
				}
			})
		})
	}
}

// TestUnannounced: every change in the stores is noticed within a period.
func TestUnannounced(t *testing.T) {
	const period = 5 * time.Second
	acme := testkit.Org(t, "acme")
	ada := directory.Membership{Organization: acme, UserID: "ada"}
	tests := map[string]struct {
		change func(w *world)
		want   error
	}{
		"nothing":                {func(*world) {}, nil},
		"session deleted":        {func(w *world) { w.sessions["ticket-s1"] = session.Standing{Err: session.ErrNone} }, lease.ErrSessionEnded},
		"session revoked":        {func(w *world) { w.sessions["ticket-s1"] = session.Standing{Err: session.ErrEnded} }, lease.ErrSessionEnded},
		"session expired":        {func(w *world) { w.sessions["ticket-s1"] = session.Standing{Err: session.ErrExpired} }, lease.ErrSessionEnded},
		"copy of it expired":     {func(w *world) { w.sessions["ticket-s1"] = session.Standing{Err: session.ErrStale} }, lease.ErrSessionStale},
		"session garbled":        {func(w *world) { w.sessions["ticket-s1"] = session.Standing{Err: session.ErrInvalid} }, lease.ErrSessionEnded},
		"organization switched":  {func(w *world) { w.sessions["ticket-s1"] = session.Standing{Err: session.ErrSwitched} }, lease.ErrSwitched},
		"user disabled":          {func(w *world) { w.sessions["ticket-s1"] = session.Standing{Err: session.ErrDisabled} }, lease.ErrNotAllowed},
		"member removed":         {func(w *world) { w.members[ada] = directory.Admission{Err: directory.ErrNotMember} }, lease.ErrNotAllowed},
		"organization suspended": {func(w *world) { w.members[ada] = directory.Admission{Err: directory.ErrOrganizationSuspended} }, lease.ErrNotAllowed},
		"organization unknown":   {func(w *world) { w.members[ada] = directory.Admission{Err: directory.ErrOrganizationUnknown} }, lease.ErrNotAllowed},
		"another role":           {func(w *world) { w.members[ada] = directory.Admission{Member: directory.Member{Role: "admin"}} }, lease.ErrRoleChanged},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				k := start(t, w, period, 30*time.Second)
				h, other, none := open(t, k, "ada", "acme", "s1"), open(t, k, "alan", "acme", "s2"), open(t, k, "olga", "", "s3")
				time.Sleep(3 * period)
				w.change(func() { test.change(w) })
				changed := time.Now()
				time.Sleep(10 * period)
				if got := h.cause(); !errors.Is(got, test.want) {
					t.Errorf("got %v, want %v", got, test.want)
				}
				if took := h.ended.Sub(changed); test.want != nil && took > period {
					t.Errorf("took %v, want at most %v", took, period)
				}
				if other.cause() != nil || none.cause() != nil {
					t.Errorf("others: got %v and %v, want nil", other.cause(), none.cause())
				}
			})
		})
	}
}

// TestRenewedSession: the application has moved the end of the session.
func TestRenewedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		k := start(t, w, 5*time.Second, 30*time.Second)
		h := open(t, k, "ada", "acme", "s1")
		later := h.id.Expires.Add(time.Hour)
		w.change(func() { w.sessions["ticket-s1"] = session.Standing{Expires: later} })
		time.Sleep(6 * time.Second)
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.expiry.Equal(later) {
			t.Errorf("end of the session: got %v, want %v", h.expiry, later)
		}
	})
}

// TestDoubt: a connection whose session should have ended is checked at once. While the stores
// cannot answer, it stays until the deadline.
func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		const deadline = 30 * time.Second
		k, err := lease.NewKeeper(lease.Options{Sessions: w, Directory: w, Period: 20 * time.Second, Deadline: deadline})
		if err != nil {
			t.Fatal(err)
		}
		var all []*holder
		for i := range 600 { // more than a batch
			all = append(all, open(t, k, fmt.Sprintf("user%d", i), "acme", fmt.Sprintf("s%d", i)))
		}
		w.change(func() {
			for i := range 300 {
				w.sessions[fmt.Sprintf("ticket-s%d", i)] = session.Standing{Err: session.ErrExpired}
			}
		})
		for _, h := range all {
			k.Doubt(&h.lease)
			k.Doubt(&h.lease)
		}
		k.Remove(&all[0].lease) // in the list, and removed
		run(t, k)
		synctest.Wait()
		for i, h := range all {
			if want := i > 0 && i < 300; (h.cause() != nil) != want {
				t.Errorf("%d at once: got %v, want ended: %t", i, h.cause(), want)
			}
		}
		for i := range all {
			if i > 0 && w.asked[fmt.Sprintf("ticket-s%d", i)] != 1 {
				t.Errorf("%d was asked about %d times, want once", i, w.asked[fmt.Sprintf("ticket-s%d", i)])
			}
		}
		w.change(func() { w.away = true })
		last, at := all[599], time.Now()
		for last.cause() == nil {
			k.Doubt(&last.lease)
			time.Sleep(time.Second)
		}
		if _, ok := errors.AsType[lease.UnconfirmedError](last.cause()); !ok {
			t.Errorf("while nobody can say: got %v, want UnconfirmedError", last.cause())
		}
		if took := last.ended.Sub(at); took > deadline {
			t.Errorf("ended after %v, want at most %v", took, deadline)
		}
	})
}

// TestDeadline: a connection without confirmation ends by the deadline, and not much earlier,
// however long each question takes. One that is confirmed in between stays.
func TestDeadline(t *testing.T) {
	const period, deadline = 5 * time.Second, 30 * time.Second
	for name, test := range map[string]struct {
		fail func(w *world)
	}{
		"sessions at once":  {func(w *world) { w.away = true }},
		"sessions, hanging": {func(w *world) { w.away, w.slow = true, 2*time.Second }},
		"memberships":       {func(w *world) { w.noList = true }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				k := start(t, w, period, deadline)
				var all []*holder
				for i := range 1000 {
					all = append(all, open(t, k, fmt.Sprint("u", i), "acme", fmt.Sprint("s", i)))
				}
				time.Sleep(4 * period)
				w.change(func() { test.fail(w) })
				time.Sleep(20 * time.Second) // still in time
				w.change(func() { w.away, w.noList = false, false })
				time.Sleep(2 * period)
				w.change(func() { test.fail(w) })
				failed := time.Now()
				time.Sleep(2 * deadline)
				retries := make(map[time.Duration]bool)
				for _, h := range all {
					cause, ok := errors.AsType[lease.UnconfirmedError](h.cause())
					if !ok {
						t.Fatalf("cause: got %v, want UnconfirmedError", h.cause())
					}
					retries[cause.RetryAfter] = true
					if took := h.ended.Sub(failed); took > deadline || took < deadline-period-time.Second {
						t.Errorf("ended after %v, want at most %v and nearly as much", took, deadline)
					}
					k.Remove(&h.lease)
				}
				if len(retries) < 10 {
					t.Errorf("got %d different times to come back, want many", len(retries))
				}
				w.change(func() { w.away, w.noList = false, false })
				back := open(t, k, "ada", "acme", "back")
				time.Sleep(2 * deadline)
				if got := back.cause(); got != nil {
					t.Errorf("who came back: got %v, want nil", got)
				}
			})
		})
	}
}

// TestQuestionsAreSpread: every connection is checked once in a period, in batches.
func TestQuestionsAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, periods = 10000, 10
		w := newWorld()
		k := start(t, w, 5*time.Second, 30*time.Second)
		for i := range n {
			open(t, k, fmt.Sprint("u", i), "acme", fmt.Sprint("s", i))
		}
		time.Sleep(periods * 5 * time.Second)
		synctest.Wait()
		w.change(func() {
			for i := range n {
				if got := w.asked[fmt.Sprint("ticket-s", i)]; got < periods-1 || got > periods+1 {
					t.Errorf("asked about s%d: got %d times in %d periods", i, got, periods)
				}
			}
			if least := n * periods / 256; w.batches > 3*least {
				t.Errorf("batches: got %d, want not many more than %d", w.batches, least)
			}
			w.batches = 0
		})
		k.Missed()
		synctest.Wait() // no time passes
		w.change(func() {
			if w.batches < n/256 || w.batches > 2*n/256 {
				t.Errorf("after a loss: got %d batches at once, want some %d", w.batches, n/256)
			}
		})
	})
}

// TestPanicInStore: a panic in a store does not end the node.
func TestPanicInStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, err := lease.NewKeeper(lease.Options{Sessions: panics{newWorld()}, Directory: newWorld()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = k.Run(ctx) })
		h := open(t, k, "ada", "acme", "s1")
		time.Sleep(40 * time.Second)
		if _, ok := errors.AsType[lease.UnconfirmedError](h.cause()); !ok {
			t.Errorf("got %v, want UnconfirmedError", h.cause())
		}
		cancel()
		running.Wait()
	})
}

type panics struct{ *world }

func (panics) Recheck(context.Context, []session.Held) []session.Standing { panic("recheck") }

func TestNewKeeperRefuses(t *testing.T) {
	w := newWorld()
	for name, o := range map[string]lease.Options{
		"no sessions":    {Directory: w},
		"no directory":   {Sessions: w},
		"short deadline": {Sessions: w, Directory: w, Period: time.Minute, Deadline: time.Minute},
	} {
		if _, err := lease.NewKeeper(o); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}
