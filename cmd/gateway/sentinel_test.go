package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestSentinelPassword: the Sentinels' own password is the one in its setting.
func TestSentinelPassword(t *testing.T) {
	sentinels := redistest.StartSentinels(t)
	locked := sentinels.Addrs[2]
	admin := redis.NewClient(&redis.Options{Addr: locked, DisableIdentity: true})
	defer admin.Close()
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "default", "resetpass", ">watch").Err(); err != nil {
		t.Fatal(err)
	}
	env := environment{"ORGCAST_REDIS": "redis://127.0.0.1:1/0", "ORGCAST_REDIS_SENTINEL_MASTER": redistest.SentinelMaster, "ORGCAST_REDIS_SENTINELS": locked}
	publish := func() error {
		_, _, err := execute(t, env, "", "publish", "--record", "acme", "all", `{"type":"note"}`)
		return err
	}
	if err := publish(); err == nil {
		t.Error("publish without the password: got nil, want an error")
	}
	env["ORGCAST_REDIS_SENTINEL_PASSWORD"] = "watch"
	if err := publish(); err != nil {
		t.Errorf("publish with the password: got %v, want nil", err)
	}
}

// TestServeFollowsMaster: whether the master crashes or is deposed in order, the subscription connection
// goes over to the new one, and every page gets every event that Redis has kept, once and in order, and
// what it was told is a gap where Redis lost something. Readiness is false in between. User, password and
// database are those of the URL, and its address does not count.
func TestServeFollowsMaster(t *testing.T) {
	t.Run("ordered", func(t *testing.T) {
		s := followMaster(t, (*redistest.Sentinels).Failover)
		// The deposed master answers, and keeps its subscribers for some ten seconds: only the canary shows it.
		if want := pubsub.ErrNoCanary.Error(); !strings.Contains(s.log.String(), want) {
			t.Errorf("log: got %s, want %q", s.log, want)
		}
	})
	t.Run("crash", func(t *testing.T) {
		followMaster(t, func(s *redistest.Sentinels) {
			before := s.Master()
			s.Servers[0].Stop()
			s.AwaitMasterOtherThan(before)
		})
	})
}

// readiness is how long after the watch began a gateway was first not ready, and ready again; 0 is not yet.
type readiness struct {
	mu       sync.Mutex
	down, up time.Duration
}

func (r *readiness) watch(ctx context.Context, s *serving) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); ctx.Err() == nil; {
		status, _ := s.ask("GET", "/readyz", "")
		r.mu.Lock()
		switch {
		case r.down == 0 && status == http.StatusServiceUnavailable:
			r.down = time.Since(start)
		case r.down != 0 && r.up == 0 && status == http.StatusOK:
			r.up = time.Since(start)
		}
		r.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (r *readiness) get() (down, up time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.down, r.up
}

// page is what one browser got.
type page struct {
	mu   sync.Mutex
	ids  []string
	gaps int
	bad  []string
}

func (p *page) last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) == 0 {
		return ""
	}
	return p.ids[len(p.ids)-1]
}

// read takes frames until the connection ends.
func (p *page) read(c *testkit.Client, organization string) {
	for {
		text, err := c.Next()
		if err != nil {
			return
		}
		var frame struct {
			Type, ID       string
			OrganizationID string `json:"organization_id"`
		}
		err = json.Unmarshal([]byte(text), &frame)
		p.mu.Lock()
		switch {
		case err == nil && frame.Type == "tick" && frame.OrganizationID == organization:
			p.ids = append(p.ids, frame.ID)
		case err == nil && frame.Type == "gap":
			p.gaps++
		case err == nil && (frame.Type == "welcome" || frame.Type == "subscribed"):
		default:
			p.bad = append(p.bad, text)
		}
		p.mu.Unlock()
	}
}

func followMaster(t *testing.T, strike func(*redistest.Sentinels)) *serving {
	t.Helper()
	const user, password, database = "gateway", "hush", 3
	sentinels := redistest.StartSentinels(t)
	for _, server := range sentinels.Servers {
		admin := redis.NewClient(&redis.Options{Addr: server.Addr})
		if err := admin.Do(t.Context(), "ACL", "SETUSER", user, "on", ">"+password, "~*", "&*", "+@all").Err(); err != nil {
			t.Fatal(err)
		}
		_ = admin.Close()
	}
	env := environment{
		"ORGCAST_REDIS":                 fmt.Sprintf("redis://%s:%s@127.0.0.1:1/%d", user, password, database),
		"ORGCAST_REDIS_SENTINEL_MASTER": redistest.SentinelMaster, "ORGCAST_REDIS_SENTINELS": strings.Join(sentinels.Addrs, ","),
	}
	s := startServe(t, "127.0.0.1:1", env)
	s.expectReady()

	organizations := []string{"acme", "acme", "acme", "globex"}
	pages := make([]*page, len(organizations))
	var reading sync.WaitGroup
	var clients []*testkit.Client
	defer func() {
		for _, c := range clients {
			_ = c.Close()
		}
		reading.Wait()
	}()
	for i, organization := range organizations {
		handshake := s.mint("ada", organization)
		handshake.Header.Set("Sec-WebSocket-Protocol", "orgcast.v1")
		c := testkit.Connect(t, testkit.DialTCP(s.public), handshake)
		if err := c.SendText(`{"type":"subscribe","group":"all"}`); err != nil {
			t.Fatal(err)
		}
		for {
			text, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(text, `"subscribed"`) {
				break
			}
		}
		pages[i] = new(page)
		clients = append(clients, c)
		reading.Go(func() { pages[i].read(c, organization) })
	}

	// A publisher for each organisation, through clients that follow the master.
	p := newPublishers(t, env, "acme", "globex")
	testkit.Eventually(t, "events arrive", func() bool {
		return !slices.ContainsFunc(pages, func(p *page) bool { return p.last() == "" })
	})
	was := sentinels.Master()
	ready := new(readiness)
	ctx, cancel := context.WithCancel(t.Context())
	reading.Go(func() { ready.watch(ctx, s) })
	defer cancel()
	strike(sentinels)
	testkit.Eventually(t, "not ready, and ready again", func() bool { _, up := ready.get(); return up != 0 })
	down, up := ready.get()
	p.more(t, 20)
	p.stop()

	direct := redis.NewClient(&redis.Options{Addr: sentinels.Master(), Username: user, Password: password, DB: database})
	defer direct.Close()
	if sentinels.Master() == was {
		t.Fatal("there was no failover")
	}
	for i, organization := range organizations {
		kept := p.kept(t, direct, organization)
		lost := 0
		for _, id := range p.acknowledged(organization) {
			if !slices.Contains(kept, id) {
				lost++
			}
		}
		newest := kept[len(kept)-1]
		testkit.Eventually(t, "the last event arrives", func() bool { return pages[i].last() == newest })
		pages[i].mu.Lock()
		ids, gaps, bad := pages[i].ids, pages[i].gaps, pages[i].bad
		pages[i].mu.Unlock()
		var got []string
		for _, id := range ids {
			if slices.Contains(kept, id) {
				got = append(got, id)
			}
		}
		more := len(ids) - len(got)
		t.Logf("page %d: %d acknowledged, %d of them not in the new master's history; %d of %d kept arrived, and %d that Redis lost; gaps told %d; not ready after %v, ready after %v",
			i, len(p.acknowledged(organization)), lost, len(got), len(kept), more, gaps, down.Round(time.Millisecond), up.Round(time.Millisecond))
		if diff := cmp.Diff(kept, got); diff != "" {
			t.Errorf("page %d: kept and received differ (-want +got):\n%s", i, diff)
		}
		if more > 0 && gaps == 0 {
			t.Errorf("page %d: Redis lost %d events that it has, and it was told of no gap", i, more)
		}
		if len(bad) > 0 {
			t.Errorf("page %d: got %q", i, bad)
		}
	}
	return s
}

// publishers record events, one after the other for each organisation, until they are stopped.
type publishers struct {
	ending  chan struct{} // closed by stop
	running sync.WaitGroup
	stop    func()

	mu    sync.Mutex
	acked map[string][]string // positions, by organisation
}

func newPublishers(t *testing.T, env environment, organizations ...string) *publishers {
	t.Helper()
	p := &publishers{ending: make(chan struct{}), acked: make(map[string][]string)}
	p.stop = sync.OnceFunc(func() {
		close(p.ending)
		p.running.Wait()
	})
	t.Cleanup(p.stop)
	keys, err := keyspace.New(keyspace.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	for _, organization := range organizations {
		settings := &settings{redisURL: env["ORGCAST_REDIS"], sentinels: strings.Split(env["ORGCAST_REDIS_SENTINELS"], ","), sentinelMaster: redistest.SentinelMaster}
		client, err := settings.newRedis(0)
		if err != nil {
			t.Fatal(err)
		}
		org, err := parseOrganization(organization)
		if err != nil {
			t.Fatal(err)
		}
		group, err := event.NewGroup(org, "all")
		if err != nil {
			t.Fatal(err)
		}
		bus := pubsub.NewRedis(client, keys, pubsub.Options{})
		p.running.Go(func() {
			defer client.Close()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; {
				payload := fmt.Sprintf(`{"type":"tick","organization_id":%q,"n":%d}`, organization, n)
				// What is not known to be recorded is tried again, and is recorded once.
				position, err := bus.Record(t.Context(), group, []byte(payload), pubsub.RecordOptions{IdempotencyKey: fmt.Sprint("n", n)})
				if err == nil {
					p.mu.Lock()
					p.acked[organization] = append(p.acked[organization], position.String())
					p.mu.Unlock()
					n++
				}
				select {
				case <-tick.C:
				case <-p.ending:
					return
				}
			}
		})
	}
	return p
}

func (p *publishers) acknowledged(organization string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.acked[organization])
}

// more waits until every publisher has recorded so many more.
func (p *publishers) more(t *testing.T, count int) {
	t.Helper()
	p.mu.Lock()
	due := make(map[string]int)
	for organization, list := range p.acked {
		due[organization] = len(list) + count
	}
	p.mu.Unlock()
	testkit.Eventually(t, "more events are recorded", func() bool {
		for organization, n := range due {
			if len(p.acknowledged(organization)) < n {
				return false
			}
		}
		return true
	})
}

// kept returns the positions in the history of a group, oldest first.
func (p *publishers) kept(t *testing.T, client *redis.Client, organization string) (ids []string) {
	t.Helper()
	entries, err := client.XRange(t.Context(), "orgcast:{"+organization+"}:history:all", "-", "+").Result()
	if err != nil || len(entries) == 0 {
		t.Fatalf("history: %d entries, %v", len(entries), err)
	}
	for _, entry := range entries {
		ids = append(ids, entry.ID)
	}
	return ids
}
