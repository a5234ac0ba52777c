package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"orgcast/internal/directory"
	"orgcast/internal/gateway"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// leasing is a node with sessions and memberships in a real Redis, whose Keeper works.
type leasing struct {
	*node

	server      *redistest.Server
	client      *redis.Client
	store       *session.RedisStore
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
	if l.store, err = session.NewRedisStore(l.client, keys, session.Options{Timeout: 5 * time.Second}); err != nil {
		tb.Fatal(err)
	}
	if l.revocations, err = session.NewRevocations(l.client, keys); err != nil {
		tb.Fatal(err)
	}
	if l.members, err = directory.NewRedis(l.client, keys); err != nil {
		tb.Fatal(err)
	}
	l.announcer = lease.NewAnnouncer(l.client, keys)
	l.seed()
	sessions := session.Revocable{Store: l.store, Revocations: l.revocations}
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

// seat is an open connection with its session.
type seat struct {
	*testkit.Client

	cookie string // NAME=KEY
}

func (s seat) key() string { return s.cookie[strings.Index(s.cookie, "=")+1:] }

func (s seat) id() string { return session.DeriveID(s.key()) }

func (s seat) request() *http.Request {
	return &http.Request{Header: http.Header{"Cookie": {s.cookie}}}
}

// log in with a new session, connect and join "all".
func (l *leasing) sit(user, org string) seat {
	l.tb.Helper()
	return l.sitWith(mint(l.tb, l.store, user, org, time.Hour))
}

func (l *leasing) sitWith(cookie string) seat {
	l.tb.Helper()
	return seat{l.over.subscribe(l.tb, l.dial, http.Header{"Origin": {origin}, "Cookie": {cookie}}, "all"), cookie}
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
func TestRevokedDuringHandshake(t *testing.T) { overEach(t, revokedDuringHandshakeOver) }

func revokedDuringHandshakeOver(t *testing.T, over via) {
	t.Helper()
	l := leaseNode(t, never, 2*never, setup{over: over})
	cookie := mint(t, l.store, "ada", "acme", time.Hour)
	id := seat{cookie: cookie}.id()
	sessions := overtaken{
		Store:    session.Revocable{Store: l.store, Revocations: l.revocations},
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
func TestMembershipIsCheckedAgain(t *testing.T) { overEach(t, membershipIsCheckedAgainOver) }

func membershipIsCheckedAgainOver(t *testing.T, over via) {
	t.Helper()
	acme, globex := mustOrg(t, "acme"), mustOrg(t, "globex")
	tests := map[string]struct {
		// change changes the record and returns what is to be announced of it.
		change func(ctx context.Context, l *leasing, laptop seat) (lease.Message, error)
		code   int
		reason string
		others bool // ada's other device and alan end too
		phone  bool // ada's other device ends too
		again  int  // status of the next handshake with the same session
	}{
		"logout": {change: func(ctx context.Context, l *leasing, laptop seat) (lease.Message, error) {
			_, err := l.store.SignOut(ctx, laptop.request())
			return lease.Message{Type: lease.SessionEnded, SessionID: laptop.id()}, err
		}, code: 4401, reason: "session ended", again: 401},
		"session revoked": {change: func(ctx context.Context, l *leasing, laptop seat) (lease.Message, error) {
			return lease.Message{Type: lease.SessionEnded, SessionID: laptop.id()}, l.revocations.EndSession(ctx, laptop.id(), time.Hour)
		}, code: 4401, reason: "session ended", again: 401},
		"expiry moved to now": {change: func(ctx context.Context, l *leasing, laptop seat) (lease.Message, error) {
			text := fmt.Sprintf(`{"user_id":"ada","active_organization_id":"acme","expires_at":%d}`, time.Now().Unix())
			return lease.Message{Type: lease.SessionEnded, SessionID: laptop.id()}, l.client.Set(ctx, mustKeyspace(l.tb).Session(laptop.key()), text, time.Hour).Err()
		}, code: 4401, reason: "session ended", again: 401},
		"switch": {change: func(ctx context.Context, l *leasing, laptop seat) (lease.Message, error) {
			return lease.Message{Type: lease.OrganizationSwitched, SessionID: laptop.id(), Organization: globex}, l.store.SetOrganization(ctx, laptop.request(), globex)
		}, code: 4409, reason: "organization switched", again: 101},
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
			t.Run(fmt.Sprintf("%s/announced=%v", name, announced), func(t *testing.T) {
				period := 100 * time.Millisecond
				if announced {
					period = never
				}
				l := leaseNode(t, period, 2*never, setup{over: over})
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
				expectEnd := func(s seat) {
					t.Helper()
					if frames, reason := s.ExpectClose(t, test.code); len(frames) > 0 || reason != test.reason {
						t.Errorf("got frames %v, reason %q, want none, %q", frames, reason, test.reason)
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
			s := l.sitWith(mint(t, l.store, "ada", "acme", shortLife))
			text := fmt.Sprintf(`{"user_id":"ada","active_organization_id":"acme","expires_at":%d}`, time.Now().Add(time.Hour).Unix())
			if err := l.client.Set(t.Context(), mustKeyspace(t).Session(s.key()), text, time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
			other := l.sitWith(mint(t, l.store, "ada", "acme", shortLife))
			if _, reason := other.ExpectClose(t, 4401); reason != "session ended" { // now the first one's old end has passed too
				t.Errorf("reason: got %q, want %q", reason, "session ended")
			}
			l.expectOpen("acme", s)
		})
	}
}

// TestExpiredCopyOfSession: where the store knows no more than the cookie, the end of the cookie is not
// that of the session. The browser is told that it may come back with a newer one; a revocation says
// nothing of the kind.
func TestExpiredCopyOfSession(t *testing.T) { overEach(t, expiredCopyOfSessionOver) }

func expiredCopyOfSessionOver(t *testing.T, over via) {
	t.Helper()
	t.Parallel()                                         // it lasts as long as a session
	l := leaseNode(t, never, 2*never, setup{over: over}) // for its Redis
	cookies := cookieStore(t, nil, sessionKey)
	sessions := session.Revocable{Store: cookies, Revocations: l.revocations}
	keeper, err := lease.NewKeeper(lease.Options{Sessions: sessions, Directory: l.members, Period: never, Deadline: 2 * never})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = keeper.Run(ctx) })
	n := startNode(t, setup{over: over, options: gateway.Options{Sessions: sessions, Membership: l.members, Leases: keeper}})
	t.Cleanup(func() {
		n.stop()
		cancel()
		running.Wait()
	})
	enter := func(life time.Duration) (c *testkit.Client, sessionID string) {
		t.Helper()
		header := http.Header{"Origin": {origin}, "Cookie": {mint(t, cookies, "ada", "acme", life)}}
		id, err := cookies.Resolve(t.Context(), &http.Request{Header: header})
		if err != nil {
			t.Fatal(err)
		}
		return over.subscribe(t, n.dial, header), id.SessionID
	}
	old, _ := enter(shortLife)
	if _, reason := old.ExpectClose(t, 4401); reason != `{"retry":"once"}` {
		t.Errorf("reason at the end of the cookie: got %q, want that the browser may try once", reason)
	}
	renewed, id := enter(time.Hour) // as the site gave it meanwhile
	if n := keeper.Apply(lease.Message{Type: lease.SessionEnded, SessionID: id}); n != 1 {
		t.Fatalf("announced end: got %d connections, want 1", n)
	}
	if _, reason := renewed.ExpectClose(t, 4401); reason != "session ended" {
		t.Errorf("reason of an announced end: got %q, want %q", reason, "session ended")
	}
}

// TestRedisAwayEndsLeases: while Redis hangs or is gone nobody can say who may stay, so all end by
// the deadline, and come back without a restart.
func TestRedisAwayEndsLeases(t *testing.T) { overEach(t, redisAwayEndsLeasesOver) }

func redisAwayEndsLeasesOver(t *testing.T, over via) {
	t.Helper()
	t.Parallel()
	for name, outage := range map[string]struct{ begin, end func(s *redistest.Server) }{
		"hung":    {(*redistest.Server).Pause, (*redistest.Server).Resume},
		"crashed": {(*redistest.Server).Stop, (*redistest.Server).Restart},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it lasts as long as the deadline, and that has to outlive many handshakes
			l := leaseNode(t, 500*time.Millisecond, 10*time.Second, setup{over: over})
			var seats []seat
			for range 50 {
				seats = append(seats, l.sit("ada", "acme"))
			}
			outage.begin(l.server)
			for _, s := range seats {
				if _, reason := s.ExpectClose(t, 1013); !strings.Contains(reason, "retry_after_ms") {
					t.Errorf("reason: got %q, want retry_after_ms", reason)
				}
			}
			outage.end(l.server)
			// Redis lost the sessions if it crashed: everybody signs in again.
			testkit.Eventually(t, "Redis answers", func() bool { return l.client.Ping(context.Background()).Err() == nil })
			l.seed()
			testkit.Eventually(t, "handshakes succeed", func() bool {
				c, _, err := testkit.Open(t.Context(), l.dial, over.handshake("/ws/connection_test/", http.Header{"Origin": {origin}, "Cookie": {mint(t, l.store, "ada", "acme", time.Hour)}}))
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
func TestControlChannelLost(t *testing.T) { overEach(t, controlChannelLostOver) }

func controlChannelLostOver(t *testing.T, over via) {
	t.Helper()
	l := leaseNode(t, never, 2*never, setup{over: over})
	laptop, alan := l.sit("ada", "acme"), l.sit("alan", "acme")
	keys := mustKeyspace(t)
	// Redis ends all subscribers; nobody announces the logout.
	if _, err := l.store.SignOut(t.Context(), laptop.request()); err != nil {
		t.Fatal(err)
	}
	if err := l.client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	laptop.ExpectClose(t, 4401)
	testkit.Eventually(t, "groups subscribed again", func() bool {
		channel := keys.GroupChannel(mustGroup(t, "acme", "all"))
		return l.client.PubSubNumSub(context.Background(), channel).Val()[channel] == 1
	})
	if over == streams { // it knows the news of a gap
		expectType(t, alan.Client, "gap")
	}
	l.expectOpen("acme", alan)
}

// TestNothingAfterSwitchToSlowBrowser: the browser does not read; events wait in the queue, in the
// writer's hand and in the socket when its organization is switched. Then it reads: whole frames,
// none of an event published after the switch, most of the queued ones dropped, and the close frame.
func TestNothingAfterSwitchToSlowBrowser(t *testing.T) {
	overEach(t, nothingAfterSwitchToSlowBrowserOver)
}

func nothingAfterSwitchToSlowBrowserOver(t *testing.T, over via) {
	t.Helper()
	l := leaseNode(t, never, 2*never, setup{over: over, options: gateway.Options{QueueBytes: 64 << 20, WriteTimeout: testkit.Patience, CloseTimeout: testkit.Patience}})
	for round := range 3 {
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
				l.keeper.Apply(lease.Message{Type: lease.OrganizationSwitched, SessionID: slow.id(), Organization: mustOrg(t, "globex")})
				l.publish("acme", "all", "after")
			})
		} else {
			l.keeper.Apply(lease.Message{Type: lease.OrganizationSwitched, SessionID: slow.id(), Organization: mustOrg(t, "globex")})
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

// TestPropertyNothingAfterRevocation: random people of random organizations join, events are
// published, and sessions are ended, switched, removed and suspended. From the moment that the
// node knows, the connection gets no event any more; everybody else gets theirs; no
// isolation violation is prevented, because none was tried.
func TestPropertyNothingAfterRevocation(t *testing.T) {
	overEach(t, propertyNothingAfterRevocationOver)
}

func propertyNothingAfterRevocationOver(t *testing.T, over via) {
	t.Helper()
	l := leaseNode(t, never, 2*never, setup{over: over})
	ctx := context.Background()
	var rounds, events atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		round := "r" + strconv.FormatInt(rounds.Add(1), 10)
		orgs := []string{round + "a", round + "b"}
		users := []string{round + "u", round + "v"}
		for _, o := range orgs {
			_ = l.members.PutOrganization(ctx, orgOf(o), directory.Active)
			for _, u := range users {
				_ = l.members.PutMember(ctx, orgOf(o), u, directory.Active, directory.Member{})
			}
		}
		type person struct {
			listener
			seat
			user  string
			ended bool
		}
		var people []*person
		var readers sync.WaitGroup
		defer func() {
			for _, p := range people {
				_ = p.seat.Close()
			}
			readers.Wait()
		}()
		publish := func(org string) {
			channel := mustKeyspace(l.tb).GroupChannel(mustGroup(l.tb, org, "all"))
			payload := fmt.Sprintf(`{"type":"note","n":%d,"organization_id":"%s"}`, events.Add(1), org)
			heard := false
			for _, p := range people {
				if p.org == org && !p.ended {
					p.want = append(p.want, payload)
					heard = true
				}
			}
			if !heard {
				expectSilence(l.tb, l.client, channel)
			}
			if err := l.client.Publish(ctx, channel, payload).Err(); err != nil {
				t.Fatal(err)
			}
		}
		// What is under way may still reach those who come, and those who go or not. So both wait for it.
		settle := func() {
			for _, p := range people {
				testkit.Eventually(l.tb, "events arrive", func() bool { return len(p.frames()) >= len(p.want) })
			}
		}
		revoke := func(m lease.Message, is func(p *person) bool) {
			settle()
			l.keeper.Apply(m)
			for _, p := range people {
				p.ended = p.ended || is(p)
			}
		}
		for range rapid.IntRange(10, 40).Draw(t, "steps") {
			org, user := rapid.SampledFrom(orgs).Draw(t, "org"), rapid.SampledFrom(users).Draw(t, "user")
			switch rapid.IntRange(0, 9).Draw(t, "action") {
			case 0, 1, 2:
				settle()
				p := &person{seat: l.sit(user, org), user: user}
				p.listener.Client, p.listener.org = p.seat.Client, org
				people = append(people, p)
				readers.Go(p.read)
			case 3, 4, 5, 6:
				publish(org)
			case 7:
				if len(people) == 0 {
					continue
				}
				chosen := rapid.SampledFrom(people).Draw(t, "whose session")
				other := orgs[0]
				if chosen.org == other {
					other = orgs[1]
				}
				m := lease.Message{Type: lease.SessionEnded, SessionID: chosen.id()}
				if rapid.Bool().Draw(t, "switch") {
					m = lease.Message{Type: lease.OrganizationSwitched, SessionID: chosen.id(), Organization: orgOf(other)}
				}
				revoke(m, func(p *person) bool { return p == chosen })
			case 8:
				revoke(lease.Message{Type: lease.MemberRemoved, Organization: orgOf(org), UserID: user}, func(p *person) bool { return p.org == org && p.user == user })
			case 9:
				revoke(lease.Message{Type: lease.OrganizationSuspended, Organization: orgOf(org)}, func(p *person) bool { return p.org == org })
			}
		}
		for _, o := range orgs {
			publish(o)
		}
		for _, p := range people {
			testkit.Eventually(l.tb, "events arrive", func() bool { return len(p.frames()) >= len(p.want) })
			if p.ended {
				testkit.Eventually(l.tb, "the end arrives", func() bool {
					p.mu.Lock()
					defer p.mu.Unlock()
					return p.err != nil
				})
				if _, ok := errors.AsType[*testkit.ClosedError](p.err); !ok {
					t.Fatalf("end: got %v, want a close frame", p.err)
				}
			}
			if got := p.frames(); strings.Join(got, "\n") != strings.Join(p.want, "\n") {
				t.Fatalf("%s of %s, ended %v: got\n%s\nwant\n%s", p.user, p.org, p.ended, strings.Join(got, "\n"), strings.Join(p.want, "\n"))
			}
		}
		if got := l.gateway.Violations(); got != 0 {
			t.Fatalf("violations: got %d, want 0", got)
		}
	})
}

// orgOf is mustOrg for names that are known to be right.
func orgOf(text string) orgctx.ID {
	id, err := orgctx.ParseID(text)
	if err != nil {
		panic(err)
	}
	return id
}
