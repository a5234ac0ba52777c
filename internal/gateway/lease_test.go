package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/gateway"
	"orgcast/internal/lease"
	"orgcast/internal/pubsub"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// leasing is a node with memberships in a real Redis, and sessions there unless the setup says otherwise, whose
// Keeper works.
type leasing struct {
	*node

	server      *redistest.Server
	client      *redis.Client
	revocations *session.Revocations
	members     *directory.Redis
	announcer   *lease.Announcer
	keeper      *lease.Keeper
}

// never is a period in which nothing is asked again, so that only announcements are at work.
const never = 24 * time.Hour

func leaseNode(tb testing.TB, period, deadline time.Duration, s setup) *leasing {
	tb.Helper()
	l := &leasing{server: redistest.StartServer(tb)}
	l.client = redis.NewClient(&redis.Options{Addr: l.server.Addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
	keys := mustKeyspace(tb)
	var err error
	if l.revocations, err = session.NewRevocations(l.client, keys); err != nil {
		tb.Fatal(err)
	}
	if l.members, err = directory.NewRedis(l.client, keys); err != nil {
		tb.Fatal(err)
	}
	l.announcer = lease.NewAnnouncer(l.client, keys)
	l.seed()
	if s.server = l.server; s.store.open == nil {
		s.store = storeKind{name: "redis", open: redisVault}
	}
	s.vault = s.store.open(tb, &s)
	sessions := session.Revocable{Store: s.vault.Store, Revocations: l.revocations}
	l.keeper, err = lease.NewKeeper(lease.Options{Sessions: sessions, Directory: l.members, Period: period, Deadline: deadline})
	if err != nil {
		tb.Fatal(err)
	}
	control := lease.NewControl(l.client, keys, l.keeper, lease.ControlOptions{})
	s.options.Sessions, s.options.Membership, s.options.Leases = sessions, l.members, l.keeper
	s.bus = pubsub.NewRedis(l.client, keys, calm())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = l.keeper.Run(ctx) })
	running.Go(func() { _ = control.Run(ctx) })
	tb.Cleanup(func() { // after that of the node
		cancel()
		running.Wait()
		_ = l.client.Close()
		if got := l.keeper.Held(); got != 0 {
			tb.Errorf("leases left: %d", got)
		}
	})
	l.node = startNode(tb, s)
	testkit.Eventually(tb, "control channel heard", func() bool {
		return l.client.PubSubNumSub(context.Background(), keys.Control()).Val()[keys.Control()] == 1
	})
	return l
}

// seed makes ada a member of acme and globex, alan of acme, grace of globex.
func (l *leasing) seed() {
	ctx := context.Background()
	for _, m := range [][2]string{{"acme", "ada"}, {"globex", "ada"}, {"acme", "alan"}, {"globex", "grace"}} {
		org := orgOf(m[0])
		if err := errors.Join(l.members.PutOrganization(ctx, org, directory.Active), l.members.PutMember(ctx, org, m[1], directory.Active, directory.Member{Role: "editor"})); err != nil {
			panic(err)
		}
	}
}

// change changes a session in the store, where that is possible.
func (l *leasing) change(do func(v *vault)) {
	if l.vault.signOut != nil {
		do(l.vault)
	}
}

// seat is an open connection with its session.
type seat struct {
	*testkit.Client

	cookie string // as it stands in the header
	id     string // of the session
}

// log in with a new session, connect and join "all".
func (l *leasing) sit(user, org string) seat {
	l.tb.Helper()
	return l.sitWith(l.vault.login(user, org))
}

func (l *leasing) sitWith(cookie string) seat {
	l.tb.Helper()
	return seat{l.over.subscribe(l.tb, l.dial, http.Header{"Origin": {origin}, "Cookie": {cookie}}, "all"), cookie, l.vault.id(l.tb, cookie)}
}

// expectOpen sees that a connection still gets the events of its organization.
func (l *leasing) expectOpen(org string, seats ...seat) {
	l.tb.Helper()
	payload := l.publish(org, "all", "still there")
	for _, s := range seats {
		s.Expect(l.tb, payload)
	}
}

// overtaken is a session store that lets something happen after it has said that a session is good.
type overtaken struct {
	session.Store

	resolved func()
}

func (s overtaken) Resolve(ctx context.Context, r *http.Request) (session.Identity, error) {
	identity, err := s.Store.Resolve(ctx, r)
	s.resolved()
	return identity, err
}

// TestRevokedDuringHandshake: a revocation that is announced after the session was found good, and before
// the connection is watched over, ends the connection.
func TestRevokedDuringHandshake(t *testing.T) { eachWay(t, revokedDuringHandshakeOn) }

func revokedDuringHandshakeOn(t *testing.T, on way) {
	t.Helper()
	over := on.over
	l := leaseNode(t, never, 2*never, on.setup())
	cookie := l.vault.login("ada", "acme")
	id := l.vault.id(t, cookie)
	sessions := overtaken{
		Store:    session.Revocable{Store: l.vault, Revocations: l.revocations},
		resolved: func() { l.keeper.Apply(lease.Message{Type: lease.SessionEnded, SessionID: id}) },
	}
	n := startNode(t, setup{over: over, options: gateway.Options{Sessions: sessions, Membership: l.members, Leases: l.keeper}})
	header := http.Header{"Origin": {origin}, "Cookie": {cookie}}
	c, answer, err := testkit.Open(t.Context(), n.dial, over.handshake("/ws/connection_test/", header))
	if err != nil {
		t.Fatal(err)
	}
	if c != nil {
		_ = c.Close()
		t.Fatal("the handshake succeeded")
	}
	if answer.Status != http.StatusUnauthorized {
		t.Errorf("status: got %d, want 401", answer.Status)
	}
}

// TestMembershipIsCheckedAgain is the fault "no membership check, none after switch, logout,
// suspension" of gateways that look once: each change reaches the open connection, announced or
// not, and nobody else's.
func TestMembershipIsCheckedAgain(t *testing.T) { eachWay(t, membershipIsCheckedAgainOn) }

func membershipIsCheckedAgainOn(t *testing.T, on way) {
	t.Helper()
	over := on.over
	acme, globex := mustOrg(t, "acme"), mustOrg(t, "globex")
	tests := map[string]struct {
		// change changes the record and returns what is to be announced of it.
		change func(ctx context.Context, l *leasing, laptop seat) (lease.Message, error)
		code   int
		reason string
		stored bool // the change is one of the session, in the store
		others bool // ada's other device and alan end too
		phone  bool // ada's other device ends too
		again  int  // status of the next handshake with the same session
	}{
		"logout": {change: func(_ context.Context, l *leasing, laptop seat) (lease.Message, error) {
			l.change(func(v *vault) { v.signOut(laptop.cookie) })
			return lease.Message{Type: lease.SessionEnded, SessionID: laptop.id}, nil
		}, stored: true, code: 4401, reason: "session ended", again: 401},
		"session revoked": {change: func(ctx context.Context, l *leasing, laptop seat) (lease.Message, error) {
			return lease.Message{Type: lease.SessionEnded, SessionID: laptop.id}, l.revocations.EndSession(ctx, laptop.id, time.Hour)
		}, code: 4401, reason: "session ended", again: 401},
		"expiry moved to now": {change: func(_ context.Context, l *leasing, laptop seat) (lease.Message, error) {
			l.change(func(v *vault) { v.renew(laptop.cookie, time.Now()) })
			return lease.Message{Type: lease.SessionEnded, SessionID: laptop.id}, nil
		}, stored: true, code: 4401, reason: "session ended", again: 401},
		"switch": {change: func(_ context.Context, l *leasing, laptop seat) (lease.Message, error) {
			l.change(func(v *vault) { v.switchTo(laptop.cookie, globex) })
			return lease.Message{Type: lease.OrganizationSwitched, SessionID: laptop.id, Organization: globex}, nil
		}, stored: true, code: 4409, reason: "organization switched", again: 101},
		"removal": {change: func(ctx context.Context, l *leasing, _ seat) (lease.Message, error) {
			return lease.Message{Type: lease.MemberRemoved, Organization: acme, UserID: "ada"}, l.members.RemoveMember(ctx, acme, "ada")
		}, code: 4403, reason: "not allowed", phone: true, again: 403},
		"role change": {change: func(ctx context.Context, l *leasing, _ seat) (lease.Message, error) {
			return lease.Message{Type: lease.MemberRole, Organization: acme, UserID: "ada", Role: "admin"}, l.members.PutMember(ctx, acme, "ada", directory.Active, directory.Member{Role: "admin"})
		}, code: 4409, reason: "role changed", phone: true, again: 101},
		"user disabled": {change: func(ctx context.Context, l *leasing, _ seat) (lease.Message, error) {
			return lease.Message{Type: lease.UserDisabled, UserID: "ada"}, l.revocations.DisableUser(ctx, "ada")
		}, code: 4403, reason: "not allowed", phone: true, again: 403},
		"suspension": {change: func(ctx context.Context, l *leasing, _ seat) (lease.Message, error) {
			return lease.Message{Type: lease.OrganizationSuspended, Organization: acme}, l.members.PutOrganization(ctx, acme, directory.Suspended)
		}, code: 4403, reason: "not allowed", phone: true, others: true, again: 403},
	}
	for name, test := range tests {
		for _, announced := range []bool{true, false} {
			if !announced && test.stored && on.store.sealed {
				continue // nobody sees the change
			}
			t.Run(fmt.Sprintf("%s/announced=%v", name, announced), func(t *testing.T) {
				period := 100 * time.Millisecond
				if announced {
					period = never
				}
				l := leaseNode(t, period, 2*never, on.setup())
				ctx := t.Context()
				laptop, phone, alan, grace := l.sit("ada", "acme"), l.sit("ada", "acme"), l.sit("alan", "acme"), l.sit("grace", "globex")
				message, err := test.change(ctx, l, laptop)
				if err != nil {
					t.Fatal(err)
				}
				if announced {
					if err := l.announcer.Announce(ctx, message); err != nil {
						t.Fatal(err)
					}
				}
				wantReason := test.reason
				if test.stored && test.code == 4401 && !announced && on.store.closesStale {
					wantReason = `{"retry":"once"}`
				}
				expectEnd := func(s seat) {
					t.Helper()
					if frames, reason := s.ExpectClose(t, test.code); len(frames) > 0 || reason != wantReason {
						t.Errorf("got frames %v, reason %q, want none, %q", frames, reason, wantReason)
					}
				}
				expectEnd(laptop)
				switch {
				case test.others:
					expectEnd(phone)
					expectEnd(alan)
				case test.phone:
					expectEnd(phone)
					l.expectOpen("acme", alan)
				default: // one device's logout leaves the user's other devices alone
					l.expectOpen("acme", phone, alan)
				}
				l.expectOpen("globex", grace)
				again := over.handshake("/ws/events", http.Header{"Origin": {origin}, "Cookie": {laptop.cookie}})
				want := test.again
				if test.stored && on.store.sealed {
					want = http.StatusSwitchingProtocols // the browser still has what the application has signed
				}
				if over == streams && want == http.StatusSwitchingProtocols {
					want = http.StatusOK
				}
				if _, answer := testkit.Try(t, l.dial, again); answer.Status != want {
					t.Errorf("next handshake: got %d %s, want %d", answer.Status, answer.Body, want)
				}
			})
		}
	}
}

// shortLife is that of a session whose end a test awaits: long enough for a handshake on a busy machine.
const shortLife = 10 * time.Second

// TestRenewedSessionStays: the application moved the end of the session, so the connection stays
// beyond the end that it was admitted with, however seldom everybody is asked about.
func TestRenewedSessionStays(t *testing.T) { overEach(t, renewedSessionStaysOver) }

func renewedSessionStaysOver(t *testing.T, over via) {
	t.Helper()
	t.Parallel()
	for name, period := range map[string]time.Duration{"asked about often": 100 * time.Millisecond, "asked about at its end": never} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it lasts as long as a session
			l := leaseNode(t, period, 2*never, setup{over: over})
			s := l.sitWith(l.vault.loginUntil("ada", "acme", time.Now().Add(shortLife)))
			l.vault.renew(s.cookie, time.Now().Add(time.Hour))
			other := l.sitWith(l.vault.loginUntil("ada", "acme", time.Now().Add(shortLife)))
			if _, reason := other.ExpectClose(t, 4401); reason != "session ended" { // now the first one's old end has passed too
				t.Errorf("reason: got %q, want %q", reason, "session ended")
			}
			l.expectOpen("acme", s)
		})
	}
}

// TestRedisAwayEndsLeases: while Redis hangs or is gone nobody can say who may stay, so all end by
// the deadline, and come back without a restart.
func TestRedisAwayEndsLeases(t *testing.T) { overEach(t, redisAwayEndsLeasesOver) }

func redisAwayEndsLeasesOver(t *testing.T, over via) {
	t.Helper()
	t.Parallel()
	for name, outage := range map[string]struct{ begin, end func(l *leasing) }{
		"hung":    {func(l *leasing) { l.server.Pause() }, func(l *leasing) { l.server.Resume() }},
		"crashed": {func(l *leasing) { l.vault.stop() }, func(l *leasing) { l.vault.resume() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it lasts as long as the deadline, and that has to outlive many handshakes
			l := leaseNode(t, 500*time.Millisecond, 10*time.Second, setup{over: over})
			var seats []seat
			for range 50 {
				seats = append(seats, l.sit("ada", "acme"))
			}
			outage.begin(l)
			for _, s := range seats {
				if _, reason := s.ExpectClose(t, 1013); !strings.Contains(reason, "retry_after_ms") {
					t.Errorf("reason: got %q, want retry_after_ms", reason)
				}
			}
			outage.end(l)
			// Redis lost the sessions if it crashed: everybody signs in again.
			testkit.Eventually(t, "Redis answers", func() bool { return l.client.Ping(context.Background()).Err() == nil })
			l.seed()
			testkit.Eventually(t, "handshakes succeed", func() bool {
				c, _, err := testkit.Open(t.Context(), l.dial, over.handshake("/ws/connection_test/", http.Header{"Origin": {origin}, "Cookie": {l.vault.login("ada", "acme")}}))
				if err != nil || c == nil {
					return false
				}
				return c.Close() == nil
			})
			back := l.sit("ada", "acme")
			l.expectOpen("acme", back)
		})
	}
}

// TestControlChannelLost: what was announced while the node could not hear is made up for as soon
// as it hears again, long before the period is over.
func TestControlChannelLost(t *testing.T) { eachWay(t, controlChannelLostOn) }

func controlChannelLostOn(t *testing.T, on way) {
	t.Helper()
	l := leaseNode(t, never, 2*never, on.setup())
	laptop, alan := l.sit("ada", "acme"), l.sit("alan", "acme")
	keys := mustKeyspace(t)
	// Redis ends all subscribers; nobody announces the logout.
	if on.store.sealed { // whose sessions only a revocation ends
		if err := l.revocations.EndSession(t.Context(), laptop.id, time.Hour); err != nil {
			t.Fatal(err)
		}
	} else {
		l.vault.signOut(laptop.cookie)
	}
	if err := l.client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	laptop.ExpectClose(t, 4401)
	testkit.Eventually(t, "groups subscribed again", func() bool {
		channel := keys.GroupChannel(mustGroup(t, "acme", "all"))
		return l.client.PubSubNumSub(context.Background(), channel).Val()[channel] == 1
	})
	if on.over == streams { // it knows the news of a gap
		expectType(t, alan.Client, "gap")
	}
	l.expectOpen("acme", alan)
}

// TestNothingAfterSwitchToSlowBrowser: the browser does not read; events wait in the queue, in the
// writer's hand and in the socket when its organization is switched. Then it reads: whole frames,
// none of an event published after the switch, most of the queued ones dropped, and the close frame.
func TestNothingAfterSwitchToSlowBrowser(t *testing.T) {
	eachStore(t, nothingAfterSwitchToSlowBrowserOn)
}

func nothingAfterSwitchToSlowBrowserOn(t *testing.T, on way) {
	t.Helper()
	s := on.setup()
	s.options = gateway.Options{QueueBytes: 64 << 20, WriteTimeout: testkit.Patience, CloseTimeout: testkit.Patience}
	l := leaseNode(t, never, 2*never, s)
	rounds := 1 // the store makes no difference to what waits
	if on.store.name == "redis" {
		rounds = 3
	}
	for round := range rounds {
		slow, quick := l.sit("ada", "acme"), l.sit("alan", "acme")
		const before = 1500
		large := strings.Repeat("x", 8<<10)
		var reading sync.WaitGroup
		reading.Go(func() {
			for range before + 1 {
				if _, err := quick.Next(); err != nil {
					t.Errorf("quick: %v", err)
					return
				}
			}
		})
		for range before {
			l.publish("acme", "all", large)
		}
		if round%2 == 0 {
			reading.Go(func() { // while events arrive
				l.keeper.Apply(lease.Message{Type: lease.OrganizationSwitched, SessionID: slow.id, Organization: mustOrg(t, "globex")})
				l.publish("acme", "all", "after")
			})
		} else {
			l.keeper.Apply(lease.Message{Type: lease.OrganizationSwitched, SessionID: slow.id, Organization: mustOrg(t, "globex")})
			l.publish("acme", "all", "after")
		}
		reading.Wait() // the other one has got everything
		frames, reason := slow.ExpectClose(t, 4409)
		if reason != "organization switched" {
			t.Errorf("reason: got %q", reason)
		}
		for _, f := range frames {
			if strings.Contains(f, "after") {
				t.Fatalf("an event that was published after the switch: %.80s", f)
			}
		}
		if len(frames) == before {
			t.Errorf("all %d events arrived: nothing was queued, so nothing is shown", before)
		}
	}
}
