package webhook_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/outgoing"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
	"orgcast/internal/webhook"
)

// TestDeliveries: what a receiver gets, signed with its organization's key.
func TestDeliveries(t *testing.T) {
	r := newReceiver(t)
	n := startNode(t, setup{client: redisClient(t), url: r.URL})
	c := conn(t, "acme", "ada", "c1")
	n.recorder.Connected(c)
	n.recorder.Gap(c, testkit.Group(t, "acme", "room.1"))
	n.recorder.Disconnected(c, "silent")
	testkit.Eventually(t, "three webhooks are there", func() bool { return len(r.accepted()) == 3 })
	keys, err := outgoing.ParseKeys(webhook.DeriveKeys(testkit.Org(t, "acme"), []string{master}))
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := outgoing.ParseKeys(webhook.DeriveKeys(testkit.Org(t, "globex"), []string{master}))
	for i, want := range []string{
		`{"type":"connection.connected","timestamp":"","data":{"organization_id":"acme","user_id":"ada","connection_id":"c1"}}`,
		`{"type":"connection.gap","timestamp":"","data":{"organization_id":"acme","user_id":"ada","connection_id":"c1","group":"room.1"}}`,
		`{"type":"connection.disconnected","timestamp":"","data":{"organization_id":"acme","user_id":"ada","connection_id":"c1","cause":"silent"}}`,
	} {
		d := r.accepted()[i]
		_, rest, _ := strings.Cut(d.Body, `"timestamp":"`)
		stamp, _, _ := strings.Cut(rest, `"`)
		if at, err := time.Parse(time.RFC3339, stamp); err != nil || time.Since(at).Abs() > time.Minute {
			t.Errorf("timestamp %q: %v", stamp, err)
		}
		if got := strings.Replace(d.Body, stamp, "", 1); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if err := keys.Verify(d.Header, []byte(d.Body), time.Now()); err != nil {
			t.Errorf("%s: %v", d.Type, err)
		}
		if err := foreign.Verify(d.Header, []byte(d.Body), time.Now()); err == nil {
			t.Errorf("%s: verifies with the key of another organization", d.Type)
		}
		if !strings.HasPrefix(d.ID, "msg_") || d.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got headers %v", d.Header)
		}
	}
	testkit.Eventually(t, "nothing waits", func() bool { return n.metric("orgcast_webhooks", "waiting") == 0 })
}

// TestReceiverFails: a receiver that is away, that answers 500 and that never answers gets everything
// when it is back, each webhook under its own id and with the same content each time, and each user's
// in order.
func TestReceiverFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(t *testing.T, r *receiver) (back func()){
		"answers 500": func(_ *testing.T, r *receiver) func() {
			r.answers(func(*delivery, int) int { return http.StatusInternalServerError })
			return func() { r.answers(nil) }
		},
		"redirects": func(_ *testing.T, r *receiver) func() {
			r.answers(func(*delivery, int) int { return http.StatusFound })
			return func() { r.answers(nil) }
		},
		"answers each second call": func(_ *testing.T, r *receiver) func() {
			r.answers(func(_ *delivery, n int) int { return http.StatusOK + n%2*300 })
			return func() {}
		},
		"is slow": func(_ *testing.T, r *receiver) func() {
			release := make(chan struct{})
			r.answers(func(*delivery, int) int { <-release; return http.StatusOK })
			return func() { r.answers(nil); close(release) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t)
			back := fail(t, r)
			n := startNode(t, setup{client: redisClient(t), url: r.URL})
			const users, each = 5, 10
			for i := range each {
				for u := range users {
					n.recorder.Disconnected(conn(t, "acme", fmt.Sprint("user", u), fmt.Sprint(i)), "silent")
				}
			}
			testkit.Eventually(t, "all wait in Redis", func() bool { return n.metric("orgcast_webhooks_total", "") == users*each })
			back()
			testkit.Eventually(t, "all are delivered", func() bool { return len(r.accepted()) == users*each })
			expectOrder(t, r, each)
			expectSameContent(t, r)
			testkit.Eventually(t, "nothing waits", func() bool { return n.metric("orgcast_webhooks", "waiting") == 0 })
			if got := n.metric("orgcast_webhooks", "dead"); got != 0 {
				t.Errorf("got %v dead letters, want none", got)
			}
		})
	}
}

// expectOrder sees that the webhooks of each user came in order, from connection 0 to the last.
func expectOrder(tb testing.TB, r *receiver, each int) {
	tb.Helper()
	next := make(map[string]int)
	for _, d := range r.accepted() {
		user := d.Organization + "/" + d.User
		if d.Conn != fmt.Sprint(next[user]) {
			tb.Errorf("%s: got connection %s, want %d", user, d.Conn, next[user])
		}
		next[user]++
	}
	for user, n := range next {
		if n != each {
			tb.Errorf("%s: got %d webhooks, want %d", user, n, each)
		}
	}
}

// expectSameContent sees that no two webhooks share an id, and that each had the same content in each
// attempt.
func expectSameContent(tb testing.TB, r *receiver) {
	tb.Helper()
	bodies, ids := make(map[string]string), make(map[string]string)
	for _, d := range r.all() {
		if body, ok := bodies[d.ID]; ok && body != d.Body {
			tb.Errorf("%s: got %s and %s", d.ID, body, d.Body)
		}
		if d.ID == "" {
			tb.Error("a webhook without an id")
		}
		bodies[d.ID] = d.Body
		if id, ok := ids[d.User+" "+d.Conn+" "+d.Group+string(d.Type)]; ok && id != d.ID && d.User != "" {
			tb.Errorf("%s: ids %s and %s", d.Body, id, d.ID)
		}
		ids[d.User+" "+d.Conn+" "+d.Group+string(d.Type)] = d.ID
	}
}

// TestReceiverAway: nothing listens at the URL, and then somebody does.
func TestReceiverAway(t *testing.T) {
	addr := testkit.FreeAddress(t)
	n := startNode(t, setup{client: redisClient(t), url: "http://" + addr})
	n.recorder.Connected(conn(t, "acme", "ada", "0"))
	testkit.Eventually(t, "calls fail", func() bool { return n.metric("orgcast_webhook_deliveries_total", "failed") >= 2 })
	r := receiveAt(t, addr)
	testkit.Eventually(t, "it is delivered", func() bool { return len(r.accepted()) == 1 })
}

// TestOneInFlight: two webhooks of one line are never under way at once, those of different lines are.
func TestOneInFlight(t *testing.T) {
	r := newReceiver(t)
	var under [2]atomic.Int32
	var together atomic.Bool
	both := make(chan struct{})
	r.answers(func(d *delivery, _ int) int {
		u := 0
		if d.User == "alan" {
			u = 1
		}
		if under[u].Add(1) > 1 {
			t.Errorf("two webhooks of %s are under way", d.User)
		}
		defer under[u].Add(-1)
		if under[1-u].Load() > 0 && together.CompareAndSwap(false, true) {
			close(both)
		}
		if d.Conn == "0" {
			<-both // else the lines would wait for each other
		}
		return http.StatusOK
	})
	n := startNode(t, setup{client: redisClient(t), url: r.URL})
	for i := range 10 {
		n.recorder.Connected(conn(t, "acme", "ada", fmt.Sprint(i)))
		n.recorder.Connected(conn(t, "acme", "alan", fmt.Sprint(i)))
	}
	testkit.Eventually(t, "all are delivered", func() bool { return len(r.accepted()) == 20 })
	expectOrder(t, r, 10)
}

// TestPoisonedLine: a webhook that its receiver refuses for good holds up its own line alone, and is a
// dead letter after its time. The next of the line follow. A retry delivers it under the same id.
func TestPoisonedLine(t *testing.T) {
	client, r := redisClient(t), newReceiver(t)
	r.answers(func(d *delivery, _ int) int {
		if d.User == "poison" && d.Conn == "0" {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	n := startNode(t, setup{client: client, url: r.URL, deliver: webhook.DelivererOptions{RetryFor: 2 * time.Second}})
	for i := range 3 {
		n.recorder.Connected(conn(t, "acme", "poison", fmt.Sprint(i)))
		n.recorder.Connected(conn(t, "acme", "ada", fmt.Sprint(i)))
	}
	letters := webhook.NewLetters(client, testkit.Keys(t))
	testkit.Eventually(t, "it is dead and the others are delivered", func() bool {
		c, err := letters.Count(t.Context())
		return err == nil && c.Dead == 1 && c.Waiting == 0 && len(r.accepted()) == 5
	})
	orgs, err := letters.Organizations(t.Context())
	if err != nil || len(orgs) != 1 || orgs[0].String() != "acme" {
		t.Fatalf("got %v, %v", orgs, err)
	}
	list, err := letters.List(t.Context(), orgs[0], "", 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}
	dead := list[0]
	if dead.Line != "user:poison" || dead.Reason != "status_400" || dead.Tries < 2 || dead.Type() != webhook.Connected {
		t.Errorf("got %+v", dead)
	}
	if n.metric("orgcast_webhook_deliveries_total", "dead") != 1 {
		t.Error("it is not counted")
	}
	if more, err := letters.List(t.Context(), orgs[0], dead.Position, 10); err != nil || len(more) != 0 {
		t.Errorf("after the last: got %v, %v", more, err)
	}

	r.answers(nil)
	if ok, err := letters.Retry(t.Context(), orgs[0], dead); !ok || err != nil {
		t.Fatalf("retry: %v, %v", ok, err)
	}
	if ok, err := letters.Retry(t.Context(), orgs[0], dead); ok || err != nil {
		t.Errorf("a second retry: %v, %v", ok, err)
	}
	testkit.Eventually(t, "it is delivered", func() bool { return len(r.accepted()) == 6 })
	if last := r.accepted()[5]; last.ID != dead.ID || last.Body != string(dead.Body) {
		t.Errorf("got %s %s, want %s %s", last.ID, last.Body, dead.ID, dead.Body)
	}
	expectSameContent(t, r)
	if orgs, err := letters.Organizations(t.Context()); err != nil || len(orgs) != 0 {
		t.Errorf("organizations with dead letters: got %v, %v", orgs, err)
	}
	if left := client.Keys(t.Context(), "*webhook*").Val(); slices.ContainsFunc(left, func(key string) bool { return strings.Contains(key, "acme") }) {
		t.Errorf("left in Redis: %v", left)
	}
}

// TestNodeKilledInDelivery: a node that dies while it calls a receiver loses nothing: another one
// delivers under the same id.
func TestNodeKilledInDelivery(t *testing.T) {
	client, r := redisClient(t), newReceiver(t)
	begun, hang := make(chan struct{}), make(chan struct{})
	r.answers(func(_ *delivery, n int) int {
		if n == 0 {
			r.answers(nil)
			close(begun)
			<-hang
		}
		return http.StatusOK
	})
	first := startNode(t, setup{client: client, url: r.URL, deliver: webhook.DelivererOptions{Claim: 200 * time.Millisecond, Drain: testkit.Patience}})
	first.recorder.Disconnected(conn(t, "acme", "ada", "0"), "silent")
	first.recorder.Disconnected(conn(t, "acme", "ada", "1"), "silent")
	<-begun // from here on, the first node does nothing more, as if it were dead
	startNode(t, setup{client: client, url: r.URL})
	testkit.Eventually(t, "another node delivers", func() bool { return len(r.accepted()) == 2 })
	id := r.accepted()[0].ID
	r.answers(func(*delivery, int) int { return http.StatusInternalServerError })
	first.recorder.Disconnected(conn(t, "acme", "ada", "2"), "silent")
	testkit.Eventually(t, "a third one waits", func() bool { return first.metric("orgcast_webhooks", "waiting") == 1 })
	close(hang)
	testkit.Eventually(t, "the first call has ended, too", func() bool {
		calls := 0
		for _, d := range r.all() {
			if d.ID == id {
				calls++
			}
		}
		return calls == 2
	})
	first.stop()
	if got := first.metric("orgcast_webhooks", "waiting"); got != 1 {
		t.Errorf("got %v waiting, want 1: the late answer removed another webhook", got)
	}
	r.answers(nil)
	testkit.Eventually(t, "the third one is delivered", func() bool { return len(r.accepted()) == 3 })
	expectSameContent(t, r)
}

// TestNoCallAfterTheClaim: a node that was kept waiting until another one could take the line over
// makes no call any more: the receiver has newer news already.
func TestNoCallAfterTheClaim(t *testing.T) {
	t.Parallel()
	client, r := redisClient(t), newReceiver(t)
	hold := redistest.NewHold()
	held := redis.NewClient(&redis.Options{Addr: client.Options().Addr, ContextTimeoutEnabled: true})
	defer held.Close()
	held.AddHook(hold)
	writer := startNode(t, setup{client: client, url: r.URL, silent: true})
	for i := range 2 {
		writer.recorder.Connected(conn(t, "acme", "ada", fmt.Sprint(i)))
	}
	slow := startNode(t, setup{client: client, state: held, url: r.URL, timeout: 50 * time.Millisecond, deliver: webhook.DelivererOptions{PerOrganization: 1}})
	<-hold.Begun() // it has the line, and waits for the hash of the organization
	startNode(t, setup{client: client, url: r.URL})
	testkit.Eventually(t, "another node delivers", func() bool { return len(r.accepted()) == 2 })
	hold.Release()
	slow.stop()
	if got := r.all(); len(got) != 2 {
		t.Errorf("got %d calls, want 2: %v", len(got), got)
	}
}

// TestShutdown: a node that stops writes what waits in memory, gives calls a moment, and gives up
// their claims, so that another one continues at once.
func TestShutdown(t *testing.T) {
	client, r := redisClient(t), newReceiver(t)
	begun, hang := make(chan struct{}), make(chan struct{})
	defer close(hang)
	r.answers(func(_ *delivery, n int) int {
		if n == 0 {
			r.answers(nil)
			close(begun)
			<-hang
		}
		return http.StatusOK
	})
	first := startNode(t, setup{client: client, url: r.URL, deliver: webhook.DelivererOptions{Claim: time.Hour}})
	first.recorder.Connected(conn(t, "acme", "ada", "0"))
	<-begun
	for i := 1; i < 1000; i++ {
		first.recorder.Connected(conn(t, "acme", "ada", fmt.Sprint(i)))
	}
	first.stop()
	if got := first.metric("orgcast_webhooks_dropped_total", ""); got != 0 {
		t.Errorf("dropped: got %v, want none", got)
	}
	startNode(t, setup{client: client, url: r.URL})
	testkit.Eventually(t, "all are delivered", func() bool { return len(r.accepted()) == 1000 })
	expectOrder(t, r, 1000)
}

// TestRoomInRedis: what an organization may have waiting is bounded, and what is dropped is counted.
// Another organization has its own room.
func TestRoomInRedis(t *testing.T) {
	r := newReceiver(t)
	r.answers(func(d *delivery, _ int) int {
		if d.Organization == "loud" {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	n := startNode(t, setup{client: redisClient(t), url: r.URL, recorder: webhook.RecorderOptions{Bytes: 4 << 10}})
	for i := range 100 {
		n.recorder.Connected(conn(t, "loud", "ada", fmt.Sprint(i)))
	}
	testkit.Eventually(t, "some are dropped", func() bool {
		return n.metric("orgcast_webhooks_dropped_total", "full")+n.metric("orgcast_webhooks_total", "") == 100 && n.metric("orgcast_webhooks_dropped_total", "full") > 50
	})
	if got := n.metric("orgcast_webhooks_waiting_bytes", ""); got > 4<<10 {
		t.Errorf("got %v bytes waiting, want at most %d", got, 4<<10)
	}
	n.recorder.Connected(conn(t, "quiet", "grace", "0"))
	testkit.Eventually(t, "another organization's is delivered", func() bool { return len(r.accepted()) == 1 })
}

// TestRedisAway: while Redis is away, what happens waits in memory, and nothing waits for it.
func TestRedisAway(t *testing.T) {
	server := redisServer(t)
	r := newReceiver(t)
	n := startNode(t, setup{client: server.client, url: r.URL})
	server.Stop()
	for i := range 500 {
		n.recorder.Connected(conn(t, "acme", "ada", fmt.Sprint(i)))
	}
	g := testkit.Group(t, "acme", "room.1")
	n.comes(g)
	server.Restart()
	testkit.Eventually(t, "all are delivered", func() bool { return len(r.accepted()) == 501 })
	var conns []delivery
	for i, d := range r.of(webhook.Connected) {
		if d.Conn != fmt.Sprint(i) {
			t.Fatalf("got connection %s, want %d", d.Conn, i)
		}
		conns = append(conns, d)
	}
	if len(conns) != 500 || len(r.of(webhook.Occupied)) != 1 {
		t.Errorf("got %d connections and %d groups", len(conns), len(r.of(webhook.Occupied)))
	}
	expectSameContent(t, r)
}

// TestOrganizationsTakeTurns: an organization with many webhooks waiting delays another one's by no
// more than the calls under way.
func TestOrganizationsTakeTurns(t *testing.T) {
	r := newReceiver(t)
	gate := make(chan struct{})
	r.answers(func(*delivery, int) int { <-gate; return http.StatusOK })
	n := startNode(t, setup{client: redisClient(t), url: r.URL, deliver: webhook.DelivererOptions{Concurrency: 1, PerOrganization: 1}})
	for i := range 400 {
		n.recorder.Connected(conn(t, "loud", fmt.Sprint("user", i), "0"))
	}
	testkit.Eventually(t, "all wait", func() bool { return n.metric("orgcast_webhooks_total", "") == 400 })
	n.recorder.Connected(conn(t, "quiet", "ada", "0"))
	testkit.Eventually(t, "the other's waits, too", func() bool { return n.metric("orgcast_webhooks_total", "") == 401 })
	close(gate)
	testkit.Eventually(t, "all are delivered", func() bool { return len(r.accepted()) == 401 })
	at := slices.IndexFunc(r.accepted(), func(d delivery) bool { return d.Organization == "quiet" })
	if at > 4 {
		t.Errorf("the other organization's was number %d", at)
	}
}
