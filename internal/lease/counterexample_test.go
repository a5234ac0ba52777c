package lease_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/lease"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// These tests replay counterexamples of docs/models/lease.pml that no other test covers.

// commandLog records the names of the commands that a client sends.
type commandLog struct{ names []string }

func (*commandLog) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *commandLog) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		l.names = append(l.names, cmd.Name())
		return next(ctx, cmd)
	}
}

func (l *commandLog) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			l.names = append(l.names, cmd.Name())
		}
		return next(ctx, cmds)
	}
}

// TestRevokeRecordsFirst: a client that reconnects as soon as it hears the announcement must find
// the record changed.
func TestRevokeRecordsFirst(t *testing.T) {
	keys := testkit.Keys(t)
	client := redistest.NewClient(t, redistest.StartServer(t).Addr)
	revocations, err := session.NewRevocations(client, keys)
	if err != nil {
		t.Fatal(err)
	}
	members, err := directory.NewRedis(client, keys)
	if err != nil {
		t.Fatal(err)
	}
	var sent commandLog
	client.AddHook(&sent)
	r := &lease.Revoker{
		Announcer: lease.NewAnnouncer(client, keys), Revocations: revocations, Members: members, SessionLife: time.Hour,
	}
	acme := testkit.Org(t, "acme")
	for _, m := range []lease.Message{
		{Type: lease.SessionEnded, SessionID: "s"},
		{Type: lease.UserDisabled, UserID: "ada"},
		{Type: lease.MemberRemoved, Organization: acme, UserID: "ada"},
		{Type: lease.OrganizationSuspended, Organization: acme},
	} {
		sent.names = nil
		if recorded, err := r.Revoke(t.Context(), m); !recorded || err != nil {
			t.Errorf("%v: got %v, %v, want recorded", m, recorded, err)
		}
		if announced := slices.Index(sent.names, "publish"); announced < 1 || announced != len(sent.names)-1 {
			t.Errorf("%v: got commands %v, want the announcement last", m, sent.names)
		}
	}
}

// slowStore checks a session at once, and answers late.
type slowStore struct {
	*world

	answering func()
}

func (s slowStore) Recheck(ctx context.Context, held []session.Held) []session.Standing {
	standings := s.world.Recheck(ctx, held)
	s.answering()
	return standings
}

// TestConfirmationCountsFromTheQuestion: a confirmation is as old as its question, even if it
// arrives late. Otherwise slow answers would add up to more than the deadline.
func TestConfirmationCountsFromTheQuestion(t *testing.T) {
	const period, deadline, delay = 5 * time.Second, 30 * time.Second, 20 * time.Second
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var last time.Time // when the store last confirmed
		store := slowStore{world: w, answering: func() {
			first := false
			w.change(func() {
				if first = last.IsZero(); first {
					last, w.away = time.Now(), true // from now on
				}
			})
			if first {
				time.Sleep(delay)
			}
		}}
		k, err := lease.NewKeeper(lease.Options{Sessions: store, Directory: w, Period: period, Deadline: deadline})
		if err != nil {
			t.Fatal(err)
		}
		run(t, k)
		h := open(t, k, "ada", "acme", "laptop")
		time.Sleep(3 * deadline)
		cause := h.cause()
		w.change(func() {
			if took := h.ended.Sub(last); cause == nil || took > deadline {
				t.Errorf("got %v after %v, want an end within %v of the last confirmation", cause, took, deadline)
			}
		})
		k.Remove(&h.lease)
	})
}

// TestMissedAfterSubscribe: all connections are checked only when the control channel is heard
// again. If they were checked earlier, an announcement in between would be lost.
func TestMissedAfterSubscribe(t *testing.T) {
	server := redistest.StartServer(t)
	client := redistest.NewClient(t, server.Addr)
	n := startListening(t, server.Addr, lease.ControlOptions{Interval: 20 * time.Millisecond, Timeout: testkit.Patience})
	up := func() bool { return n.metric(t, "orgcast_control_up") == 1 }
	testkit.Eventually(t, "the control channel is heard", up) // the first check has been requested by then
	h := open(t, n.keeper, "ada", "acme", "laptop")

	// Each question waits at a gate, so that the test knows which are in progress.
	arrived, pass := make(chan struct{}), make(chan struct{})
	n.world.change(func() {
		n.world.asking = func() {
			select {
			case arrived <- struct{}{}:
			case <-t.Context().Done():
				return
			}
			select {
			case <-pass:
			case <-t.Context().Done():
			}
		}
	})
	await := func() {
		t.Helper()
		select {
		case <-arrived:
		case <-time.After(testkit.Patience):
			t.Fatal("nobody was asked about")
		}
	}
	// The first of these may be in progress already. The second is the last, because nothing else
	// asks.
	n.keeper.Missed()
	await()
	n.keeper.Missed()
	pass <- struct{}{}
	await()
	pass <- struct{}{}

	for range 5 {
		if err := client.Do(t.Context(), "client", "kill", "type", "pubsub").Err(); err != nil {
			t.Fatal(err)
		}
		await()
		if !n.listensAt(t, server.Addr) {
			t.Error("asked while nobody listened")
		}
		testkit.Eventually(t, "the control channel is heard again", up)
		pass <- struct{}{}
	}
	n.keeper.Remove(&h.lease)
}
