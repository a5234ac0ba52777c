package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// split is a gateway whose sessions, revocations, directory and quotas are on a server of their own.
type split struct {
	*serving

	events, state             *redistest.Server
	eventsClient, stateClient *redis.Client
	dial                      testkit.DialFunc
}

// startSplit runs such a gateway. ada and alan are members of acme, ada of globex, too.
func startSplit(t *testing.T, more environment) *split {
	t.Helper()
	s := &split{events: redistest.StartServer(t), state: redistest.StartServer(t)}
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

// TestRedisStateTakesWhatLetsPeopleIn: with --redis-state sessions, revocations, directory and quotas are
// there and nowhere else, for every subcommand; events, histories, objects, tasks and the control channel
// stay.
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
	testkit.Eventually(t, "a task", func() bool { return s.eventsClient.XLen(t.Context(), "orgcast:tasks:chat").Val() == 1 })
	// The announcement comes through the channel at --redis, the record is at --redis-state.
	id := s.sessionID(handshake)
	if _, errOut, err := execute(t, s.env, "", "revoke", "session", id); err != nil {
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
		s.eventsClient: {"orgcast:{acme}:history:all", "orgcast:{acme}:object:chat:" + conversationID, "orgcast:tasks:chat"},
		s.stateClient:  {"orgcast:session-ended:" + id, "orgcast:{acme}:connections", "orgcast:{acme}:org"},
	} {
		for _, name := range want {
			if n, err := client.Exists(context.WithoutCancel(t.Context()), name).Result(); n != 1 || err != nil {
				t.Errorf("%s at %s: got %d, %v, want it there", name, client.Options().Addr, n, err)
			}
		}
	}
}

// TestRedisStateSettings: mistakes in the settings of the second Redis are named as those of the first.
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
			_, errOut, err := execute(t, test.env, "", "check")
			if err == nil || !strings.Contains(errOut, test.want) {
				t.Errorf("got %v, %s, want %q", err, errOut, test.want)
			}
		})
	}
}
