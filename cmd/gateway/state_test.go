package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// split is a gateway whose sessions, revocations, directory and quotas are on their own server.
type split struct {
	*serving

	events, state             *redistest.Server
	eventsClient, stateClient *redis.Client
	dial                      testkit.DialFunc
}

// startSplit runs such a gateway. ada and alan are members of acme, ada of globex, too.
func startSplit(t *testing.T, more environment) *split {
	t.Helper()
	return startSplitAt(t, redistest.StartServer(t), more)
}

// startSplitAt does so with a server for sessions and the like.
func startSplitAt(t *testing.T, state *redistest.Server, more environment) *split {
	t.Helper()
	s := &split{events: redistest.StartServer(t), state: state}
	s.eventsClient = redis.NewClient(&redis.Options{Addr: s.events.Addr, ContextTimeoutEnabled: true})
	s.stateClient = redis.NewClient(&redis.Options{Addr: s.state.Addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() {
		_ = s.eventsClient.Close()
		_ = s.stateClient.Close()
	})
	s.seed(t)
	env := environment{
		"ORGCAST_REDIS_STATE": "redis://" + s.state.Addr + "/0", "ORGCAST_SESSION_STORE": "redis", "ORGCAST_DIRECTORY": "redis", "ORGCAST_LEASE_PERIOD": "500ms",
	}
	maps.Copy(env, more)
	s.serving = startServe(t, s.events.Addr, env)
	s.dial = testkit.DialTCP(s.public)
	s.expectReady()
	return s
}

// seed writes the directory.
func (s *split) seed(t *testing.T) {
	t.Helper()
	for _, key := range []string{"{acme}:org", "{acme}:member:ada", "{acme}:member:alan", "{globex}:org", "{globex}:member:ada"} {
		if err := s.stateClient.HSet(t.Context(), "orgcast:"+key, "status", "active").Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// names returns what names of ours a server has.
func names(t *testing.T, client *redis.Client) []string {
	t.Helper()
	all, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// TestRedisStateTakesWhatLetsPeopleIn: with --redis-state sessions, revocations, directory and
// quotas are there and nowhere else, for every subcommand; events, histories, objects, tasks and
// the control channel stay.
func TestRedisStateTakesWhatLetsPeopleIn(t *testing.T) {
	s := startSplit(t, nil)
	c := s.subscribe(s.dial, "ada", "acme") // minted by the subcommand
	const event = `{"organization_id":"acme","type":"note"}`
	if _, errOut, err := execute(t, s.env, "", "publish", "--record", "acme", "all", event); err != nil {
		t.Fatalf("publish: %v\n%s", err, errOut)
	}
	c.Expect(t, event)
	handshake := s.mint("alan", "acme")
	handshake.Path = "/ws/chat/?session=" + conversationID
	chat := testkit.Connect(t, s.dial, handshake)
	if _, err := chat.Next(); err != nil {
		t.Fatal(err)
	}
	if err := chat.SendText(`{"type":"user_message","message":"hello"}`); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "a task", func() bool {
		return s.eventsClient.LLen(t.Context(), "orgcast:line:{orgcast:tasks:chat}:acme").Val() == 1
	})
	// The announcement comes through the channel at --redis, the record is at --redis-state.
	id := s.sessionID(handshake)
	if _, errOut, err := execute(t, s.env, "", "revoke", "session", "--", id); err != nil {
		t.Fatalf("revoke: %v\n%s", err, errOut)
	}
	chat.ExpectClose(t, 4401)
	if _, errOut, err := execute(t, s.env, "", "revoke", "member", "acme", "ada"); err != nil {
		t.Fatalf("revoke: %v\n%s", err, errOut)
	}
	c.ExpectClose(t, 4403)

	state := []string{":org", ":member:", ":connections", "orgcast:session:", "orgcast:session-ended:", "orgcast:user-disabled:"}
	isState := func(name string) bool {
		return slices.ContainsFunc(state, func(part string) bool { return strings.Contains(name, part) })
	}
	for _, name := range names(t, s.eventsClient) {
		if isState(name) {
			t.Errorf("--redis has %s, which belongs to --redis-state", name)
		}
	}
	for _, name := range names(t, s.stateClient) {
		if !isState(name) {
			t.Errorf("--redis-state has %s, which belongs to --redis", name)
		}
	}
	for client, want := range map[*redis.Client][]string{
		s.eventsClient: {"orgcast:{acme}:history:all", "orgcast:{acme}:object:chat:" + conversationID, "orgcast:line:{orgcast:tasks:chat}:acme"},
		s.stateClient:  {"orgcast:session-ended:" + id, "orgcast:{acme}:connections", "orgcast:{acme}:org"},
	} {
		for _, name := range want {
			if n, err := client.Exists(context.WithoutCancel(t.Context()), name).Result(); n != 1 || err != nil {
				t.Errorf("%s at %s: got %d, %v, want it there", name, client.Options().Addr, n, err)
			}
		}
	}
}

// TestRedisStateSettings: mistakes in the settings of the second Redis are named as those of the
// first.
func TestRedisStateSettings(t *testing.T) {
	for name, test := range map[string]struct {
		env  environment
		want string // "" is none
	}{
		"alone":               {environment{"ORGCAST_REDIS_STATE_SENTINELS": "127.0.0.1:1", "ORGCAST_REDIS_STATE_SENTINEL_MASTER": "m"}, "--redis-state: must be set"},
		"Sentinels":           {environment{"ORGCAST_REDIS_STATE": "redis://127.0.0.1:2", "ORGCAST_REDIS_STATE_SENTINELS": "127.0.0.1:1"}, "--redis-state-sentinel-master and --redis-state-sentinels: must be set together"},
		"no URL":              {environment{"ORGCAST_REDIS_STATE": "localhost"}, "--redis-state (from environment): is not a valid Redis URL"},
		"database in Cluster": {environment{"ORGCAST_REDIS_STATE": "redis://127.0.0.1:2/3", "ORGCAST_REDIS_STATE_CLUSTER": "127.0.0.1:1"}, "--redis-state: a Cluster has only database 0"},
		"without TLS":         {environment{"ORGCAST_REDIS_STATE": "redis://127.0.0.1:2", "ORGCAST_REDIS_STATE_TLS_CERT": "x", "ORGCAST_REDIS_STATE_TLS_KEY": "y"}, "--redis-state-tls-cert and --redis-state-tls-key: require a rediss:// URL in --redis-state"},
	} {
		t.Run(name, func(t *testing.T) {
			test.env["ORGCAST_SESSION_KEYS"], test.env["ORGCAST_ORIGINS"] = testKey, testOrigin
			_, errOut, err := execute(t, test.env, "", "check", "--connect")
			if err == nil || !strings.Contains(errOut, test.want) {
				t.Errorf("got %v, %s, want %q", err, errOut, test.want)
			}
		})
	}
}

// expectEvents publishes an event, which the page gets.
func (s *split) expectEvents(t *testing.T, c *testkit.Client, org, note string) {
	t.Helper()
	event := `{"organization_id":"` + org + `","type":"note","text":"` + note + `"}`
	if _, errOut, err := execute(t, s.env, "", "publish", org, "all", event); err != nil {
		t.Fatalf("publish: %v\n%s", err, errOut)
	}
	expectBehindGap(t, c, event)
}

// report waits until readiness has the status, and returns its report.
func (s *split) report(t *testing.T, want int) (report string) {
	t.Helper()
	testkit.Eventually(t, "the readiness that is wanted", func() bool {
		status, body := s.ask("GET", "/readyz", "")
		report = body
		return status == want
	})
	return report
}

// full lets a server refuse whatever takes memory, or no more.
func full(t *testing.T, client *redis.Client, is bool) {
	t.Helper()
	limit := "0"
	if is {
		limit = "1"
	}
	if err := errors.Join(client.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err(), client.ConfigSet(t.Context(), "maxmemory", limit).Err()); err != nil {
		t.Fatal(err)
	}
}

// TestEventsServerFullOrGone: while --redis is full events flow, people come in for the first time
// and are shown out. While it is gone the node is not ready, and sockets stay.
func TestEventsServerFullOrGone(t *testing.T) {
	s := startSplit(t, nil)
	c := s.subscribe(s.dial, "ada", "acme")
	full(t, s.eventsClient, true)
	if err := s.eventsClient.Set(t.Context(), "x", "y", 0).Err(); !redis.HasErrorPrefix(err, "OOM") {
		t.Fatalf("the server is not full: got %v", err)
	}
	s.expectEvents(t, c, "acme", "while it is full")
	first := s.subscribe(s.dial, "ada", "globex") // minted, admitted and counted now
	s.expectEvents(t, first, "globex", "while it is full")
	if status, report := s.ask("GET", "/readyz", ""); status != 200 {
		t.Errorf("readiness while --redis is full: got %d %s, want 200", status, report)
	}
	if _, errOut, err := execute(t, s.env, "", "revoke", "organization", "globex"); err != nil {
		t.Fatalf("revoke: %v\n%s", err, errOut)
	}
	first.ExpectClose(t, 4403)
	if _, answer := testkit.Try(t, s.dial, s.mint("ada", "globex")); answer.Status != 403 {
		t.Errorf("handshake after the suspension: got %d, want 403", answer.Status)
	}
	full(t, s.eventsClient, false)

	s.events.Stop()
	if report := s.report(t, 503); !strings.Contains(report, `"handshakes":"ok"`) {
		t.Errorf("got %s, want that only events do not flow", report)
	}
	expectPong(t, c)
	other := testkit.Connect(t, s.dial, s.mint("alan", "acme")) // what lets people in is there
	expectPong(t, other)
	s.events.Restart()
	s.report(t, 200)
	s.expectEvents(t, c, "acme", "back again")
}

// TestStateServerFullOrGone: while --redis-state is full events flow and sockets stay. While it is
// gone nobody could connect, so the node is not ready and says why; events flow to those who are
// there.
func TestStateServerFullOrGone(t *testing.T) {
	s := startSplit(t, nil)
	c := s.subscribe(s.dial, "ada", "acme")
	known := s.mint("alan", "acme")
	if err := s.stateClient.ConfigSet(t.Context(), "appendonly", "yes").Err(); err != nil { // or it forgets the sessions
		t.Fatal(err)
	}
	full(t, s.stateClient, true)
	s.expectEvents(t, c, "acme", "while it is full")
	if status, report := s.ask("GET", "/readyz", ""); status != 200 {
		t.Errorf("readiness while --redis-state is full: got %d %s, want 200", status, report)
	}
	full(t, s.stateClient, false)

	s.state.Pause()
	if report := s.report(t, 503); !strings.Contains(report, `"events":"ok"`) || !strings.Contains(report, `"handshakes":"`) {
		t.Errorf("got %s, want that only handshakes fail", report)
	}
	s.expectEvents(t, c, "acme", "while it is gone")
	s.state.Resume()
	s.report(t, 200)
	other := testkit.Connect(t, s.dial, known)
	expectPong(t, other)
	expectPong(t, c)

	s.state.Stop()
	if report := s.report(t, 503); !strings.Contains(report, `"events":"ok"`) || !strings.Contains(report, "refused") {
		t.Errorf("got %s, want that only handshakes fail, and why", report)
	}
	s.expectEvents(t, c, "acme", "while it is stopped")
	s.state.Restart()
	s.report(t, 200)
}

// TestStateServerReplaced: the server of --redis-state was replaced, and a proxy keeps the node's
// connections to the former one, which has become a replica. It refuses reservations, and that is
// how the node finds the new one, for what it reads, too.
func TestStateServerReplaced(t *testing.T) {
	pair := redistest.StartPair(t)
	proxy := redistest.StartProxy(t, pair.Master.Addr)
	s := startSplitAt(t, pair.Master, environment{"ORGCAST_REDIS_STATE": "redis://" + proxy.Addr + "/0"})
	c := testkit.Connect(t, s.dial, s.mint("ada", "acme"))
	expectPong(t, c)
	leaves := testkit.Connect(t, s.dial, s.mint("alan", "acme"))
	expectPong(t, leaves)
	pair.AwaitInStep()

	pair.Promote()
	pair.Depose()
	proxy.Redirect(pair.Replica.Addr)
	at := redis.NewClient(&redis.Options{Addr: pair.Replica.Addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = at.Close() })
	if err := at.Del(t.Context(), "orgcast:{acme}:connections", "orgcast:{acme}:member:alan").Err(); err != nil {
		t.Fatal(err)
	}
	leaves.ExpectClose(t, 4403) // the former one still has the membership
	testkit.Eventually(t, "connections are counted at the new one", func() bool {
		return at.Exists(t.Context(), "orgcast:{acme}:connections").Val() == 1
	})
	expectPong(t, c)
}

// TestNotReadyWithoutRightsOnKeys: while the Redis user may not read or write what a handshake
// needs, the node is not ready, and the report names the command. Events flow meanwhile.
func TestNotReadyWithoutRightsOnKeys(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	rights := func(keys ...any) {
		t.Helper()
		setUser(t, addr, append([]any{"gateway", "reset", "on", ">hush", "&*", "+@all"}, keys...)...)
	}
	rights("~*")
	s := startServe(t, addr, environment{"ORGCAST_REDIS": "redis://gateway:hush@" + addr + "/0", "ORGCAST_SESSION_STORE": "redis", "ORGCAST_DIRECTORY": "redis"})
	s.expectReady()
	session, revoked, org, member, count := "~orgcast:session:*", "~orgcast:session-ended:* ~orgcast:user-disabled:*", "~orgcast:{*}:org", "~orgcast:{*}:member:*", "~orgcast:{*}:connections"
	for name, test := range map[string]struct {
		keys    []string
		command string
	}{
		"none":                 {nil, "getrange"},
		"all but sessions":     {[]string{revoked, org, member, count}, "getrange"},
		"all but revocations":  {[]string{session, org, member, count}, "exists"},
		"all but members":      {[]string{session, revoked, org, count}, "hmget"},
		"all but reservations": {[]string{session, revoked, org, member}, "evalsha"},
	} {
		var keys []any
		for rule := range strings.FieldsSeq(strings.Join(test.keys, " ")) {
			keys = append(keys, rule)
		}
		rights(keys...)
		var report string
		testkit.Eventually(t, "not ready with rights on "+name, func() bool {
			status, body := s.ask("GET", "/readyz", "")
			report = body
			return status == 503 && strings.Contains(body, test.command)
		})
		if !strings.Contains(report, `"events":"ok"`) || !strings.Contains(report, "NOPERM") {
			t.Errorf("%s: got %s, want NOPERM of handshakes alone", name, report)
		}
		rights("~*")
		s.expectReady()
	}
}

// TestStateOnTheSameServer: memory limits hold for a whole server, so check and serve warn if
// --redis-state leads to that of --redis. Two servers are no reason to.
func TestStateOnTheSameServer(t *testing.T) {
	addr, other := redistest.Start(t), redistest.Start(t)
	for name, test := range map[string]struct {
		state string
		warns bool
	}{
		"another database": {"redis://" + addr + "/1", true},
		"another name":     {"redis://localhost:" + addr[strings.LastIndex(addr, ":")+1:] + "/0", true},
		"another server":   {"redis://" + other + "/0", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServe(t, addr, environment{"ORGCAST_REDIS_STATE": test.state})
			s.expectReady()
			out, errOut, err := execute(t, s.env, "", "check", "--connect")
			if err != nil || strings.Contains(out, "same server") != test.warns {
				t.Errorf("check: got %v\n%s%s\nwant a warning: %v", err, out, errOut, test.warns)
			}
			if test.warns {
				testkit.Eventually(t, "serve warns", func() bool { return strings.Contains(s.log.String(), "same server") })
			}
		})
	}
}
