package gateway_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"orgcast/internal/directory"
	"orgcast/internal/gateway"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

// everybody is a directory in which all users are members of all organizations.
type everybody struct{}

func (everybody) Admit(context.Context, orgctx.ID, string) (directory.Member, error) {
	return directory.Member{}, nil
}

// listener is a connection with what it should get and what it got.
type listener struct {
	*testkit.Client

	org    string
	groups map[string]bool
	want   []string

	mu  sync.Mutex
	got []string
	err error
}

// read collects frames until the connection ends.
func (l *listener) read() {
	for {
		text, err := l.Next()
		l.mu.Lock()
		if err != nil {
			l.err = err
			l.mu.Unlock()
			_ = l.Close() // else a node that said goodbye waits for an answer, with its groups
			return
		}
		l.got = append(l.got, text)
		l.mu.Unlock()
	}
}

func (l *listener) frames() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.got)
}

// expectSilence waits until no node is subscribed to a channel that nobody listens to any more. An event
// published before that may reach who joins next.
func expectSilence(tb testing.TB, client redis.UniversalClient, channel string) {
	tb.Helper()
	testkit.Eventually(tb, "nobody subscribed to "+channel, func() bool {
		return client.PubSubNumSub(context.Background(), channel).Val()[channel] == 0
	})
}

// TestPropertyIsolation drives whole nodes over sockets and a real Redis: organizations with equal
// user and group names, joins, leaves, disconnects, and publications straight to Redis, right and
// wrong. No connection ever gets what is not its own; each gets its own exactly once and in order.
func TestPropertyIsolation(t *testing.T) { overEach(t, propertyIsolationOver) }

func propertyIsolationOver(t *testing.T, over via) {
	t.Helper()
	nodes, clients := make([]*node, len(storeKinds())), make([]*redis.Client, len(storeKinds())) // each round takes one
	for i, kind := range storeKinds() {
		s := way{over, kind}.setup()
		s.options = gateway.Options{Membership: everybody{}, FrameBurst: 1000}
		nodes[i], clients[i] = redisNode(t, s)
	}
	keys := mustKeyspace(t)
	groups := []string{"all", "room.1", "room.2", "user.u1"}
	users := []string{"u1", "u2"}
	var rounds, events atomic.Int64
	bad := malformed()
	badNames := slices.Sorted(maps.Keys(bad))

	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.IntRange(0, len(nodes)-1).Draw(t, "store")
		t.Log("store", storeKinds()[kind].name)
		n, client := nodes[kind], clients[kind]
		// Organizations of this round alone, whose names are beginnings of each other.
		round := "r" + strconv.FormatInt(rounds.Add(1), 10)
		orgs := []string{round, round + "-1", round + "-11"}
		var listeners []*listener
		var readers sync.WaitGroup
		defer func() {
			for _, l := range listeners {
				_ = l.Close()
			}
			readers.Wait()
		}()
		publish := func(org, group, payload string) {
			if err := client.Publish(context.Background(), keys.GroupChannel(mustGroup(n.tb, org, group)), payload).Err(); err != nil {
				t.Fatal(err)
			}
		}
		good := func(org, group string) {
			// Names and numbers in all the forms that organization_id may have.
			payload := fmt.Sprintf(`{"type":"note","n":%d,"organization_id":"%s","group":"%s"}`, events.Add(1), org, group)
			heard := false
			for _, l := range listeners {
				if l.org == org && l.groups[group] {
					l.want = append(l.want, payload)
					heard = true
				}
			}
			if !heard {
				expectSilence(n.tb, client, keys.GroupChannel(mustGroup(n.tb, org, group)))
			}
			publish(org, group, payload)
		}
		// settle waits until everybody has got what is due so far: what a change of membership does
		// to events under way is not what is tested here.
		settle := func() {
			for _, l := range listeners {
				testkit.Eventually(n.tb, "events arrive", func() bool { return len(l.frames()) >= len(l.want) })
			}
		}
		ask := func(l *listener, verb, group string) {
			settle()
			if err := l.SendText(`{"type":"` + verb + `","group":"` + group + `"}`); err != nil {
				t.Fatal(err)
			}
			l.want = append(l.want, `{"type":"`+verb+`d","group":"`+group+`"}`)
			settle()
		}
		t.Repeat(map[string]func(*rapid.T){
			"connect": func(t *rapid.T) {
				if len(listeners) == 8 {
					t.Skip("enough")
				}
				org, user := rapid.SampledFrom(orgs).Draw(t, "org"), rapid.SampledFrom(users).Draw(t, "user")
				l := &listener{org: org, groups: map[string]bool{}}
				if over == streams { // which joins at the beginning, and stays
					settle()
					joined := rapid.SliceOfNDistinct(rapid.SampledFrom(groups[:3]), 1, 3, rapid.ID).Draw(t, "groups")
					l.Client = over.subscribe(n.tb, n.dial, http.Header{"Origin": {origin}, "Cookie": {n.cookie(user, org)}}, joined...)
					for _, group := range joined {
						l.groups[group] = true
					}
				} else {
					c, answer, err := testkit.Open(context.Background(), n.dial, n.handshake("/ws/events", user, org, nil))
					if c == nil {
						t.Fatal(answer, err)
					}
					l.Client = c
				}
				listeners = append(listeners, l)
				readers.Go(l.read)
			},
			"disconnect": func(t *rapid.T) {
				if len(listeners) == 0 {
					t.Skip("nobody")
				}
				settle()
				i := rapid.IntRange(0, len(listeners)-1).Draw(t, "who")
				if diff := cmp.Diff(listeners[i].want, listeners[i].frames()); diff != "" {
					t.Fatalf("want (-), got (+):\n%s", diff)
				}
				_ = listeners[i].Close()
				listeners = slices.Delete(listeners, i, i+1)
			},
			"join or leave": func(t *rapid.T) {
				if len(listeners) == 0 || over == streams {
					t.Skip("nobody")
				}
				l := rapid.SampledFrom(listeners).Draw(t, "who")
				group := rapid.SampledFrom(groups[:3]).Draw(t, "group")
				verb := "subscribe"
				if l.groups[group] && rapid.Bool().Draw(t, "leave") {
					verb = "unsubscribe"
				}
				ask(l, verb, group)
				l.groups[group] = verb == "subscribe"
			},
			"publish": func(t *rapid.T) {
				org, group := rapid.SampledFrom(orgs).Draw(t, "org"), rapid.SampledFrom(groups).Draw(t, "group")
				for range rapid.IntRange(1, 20).Draw(t, "count") {
					good(org, group)
				}
			},
			"publish wrongly": func(t *rapid.T) {
				org, group := rapid.SampledFrom(orgs).Draw(t, "org"), rapid.SampledFrom(groups).Draw(t, "group")
				other := rapid.SampledFrom(append(orgs, "acme", "")).Filter(func(o string) bool { return o != org }).Draw(t, "other")
				payload := bad[rapid.SampledFrom(badNames).Draw(t, "kind")]
				// acme stands for the channel's own organization, globex for another.
				payload = strings.NewReplacer(`"acme"`, `"`+org+`"`, `"globex"`, `"`+other+`"`).Replace(payload)
				publish(org, group, payload)
			},
			"": func(t *rapid.T) {
				for _, l := range listeners {
					for _, frame := range l.frames() {
						if strings.Contains(frame, `"organization_id"`) && !strings.Contains(frame, `"organization_id":"`+l.org+`"`) {
							t.Fatalf("a connection of %s got %s", l.org, frame)
						}
					}
				}
			},
		})
		for _, org := range orgs {
			for _, group := range groups {
				good(org, group) // whatever wrongly went before would come before this
			}
		}
		settle()
		for _, l := range listeners {
			if diff := cmp.Diff(l.want, l.frames()); diff != "" {
				t.Errorf("connection of %s: want (-), got (+):\n%s", l.org, diff)
			}
		}
	})
	for _, n := range nodes {
		n.expectConnections(0)
		if got := n.gateway.Violations(); got != 0 {
			t.Errorf("violations: got %d, want 0", got)
		}
		n.gateway.StopAdmission()
		testkit.Eventually(t, "groups are left", func() bool { return n.hub.Groups() == 0 })
	}
}
