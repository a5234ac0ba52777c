package faults_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// deployment is Redis as gateways and publishers see it: one server, or several that act as one.
type deployment struct {
	tb testing.TB
	// env tells a gateway of it.
	env []string
	// client is a publisher's, and follows what happens.
	client redis.UniversalClient
	bus    *pubsub.Redis
	keys   keyspace.Keyspace
	// database is the number of the one that gateways and publishers use.
	database int
	// forgets says that it may lose what it acknowledged: when another server takes over, because
	// replication is asynchronous, or because nothing is on disk.
	forgets bool

	// What there is of these can be broken.
	server    *redistest.Server
	sentinels *redistest.Sentinels
	cluster   *redistest.Cluster
}

// publishThrough completes a deployment.
func (d *deployment) publishThrough(client redis.UniversalClient) *deployment {
	d.tb.Helper()
	d.tb.Cleanup(func() { _ = client.Close() })
	keys := testkit.Keys(d.tb)
	keys = keys.InDatabase(d.database)
	d.client, d.keys, d.bus = client, keys, pubsub.NewRedis(client, keys, pubsub.Options{})
	return d
}

// forgetful is one server that is empty when it comes back.
func forgetful(tb testing.TB) *deployment {
	tb.Helper()
	return alone(tb, true)
}

// single is one server that keeps what it has acknowledged, also when it is killed: with its
// default it may put off writing for a second, and what was lost so is not the gateway's to bring
// back.
func single(tb testing.TB) *deployment {
	tb.Helper()
	return alone(tb, false, "--appendonly", "yes", "--appendfsync", "always")
}

func alone(tb testing.TB, forgets bool, args ...string) *deployment {
	tb.Helper()
	server := redistest.StartServer(tb, args...)
	d := &deployment{tb: tb, server: server, forgets: forgets, env: []string{"ORGCAST_REDIS=redis://" + server.Addr + "/0"}}
	return d.publishThrough(redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1}))
}

// watched is a master with a replica that Sentinels watch. User, password and database are in the
// URL, whose address does not count.
func watched(tb testing.TB) *deployment {
	tb.Helper()
	const user, password, database = "gateway", "hush", 3
	s := redistest.StartSentinels(tb)
	for _, server := range s.Servers {
		admin := redis.NewClient(&redis.Options{Addr: server.Addr})
		if err := admin.Do(tb.Context(), "ACL", "SETUSER", user, "on", ">"+password, "~*", "&*", "+@all").Err(); err != nil {
			tb.Fatal(err)
		}
		_ = admin.Close()
	}
	d := &deployment{tb: tb, sentinels: s, forgets: true, database: database, env: []string{
		fmt.Sprintf("ORGCAST_REDIS=redis://%s:%s@127.0.0.1:1/%d", user, password, database),
		"ORGCAST_REDIS_SENTINEL_MASTER=" + redistest.SentinelMaster, "ORGCAST_REDIS_SENTINELS=" + strings.Join(s.Addrs, ","),
	}}
	return d.publishThrough(redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: redistest.SentinelMaster, SentinelAddrs: s.Addrs, Username: user, Password: password, DB: database,
		ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1,
	}))
}

// clustered is a Cluster in which each master has a replica.
func clustered(tb testing.TB) *deployment {
	tb.Helper()
	return inCluster(tb, redistest.ClusterOptions{Replicas: true})
}

// unreplicated is a Cluster of masters alone, which loses nothing.
func unreplicated(tb testing.TB) *deployment {
	tb.Helper()
	return inCluster(tb, redistest.ClusterOptions{})
}

func inCluster(tb testing.TB, o redistest.ClusterOptions) *deployment {
	tb.Helper()
	c := redistest.StartCluster(tb, o)
	d := &deployment{tb: tb, cluster: c, forgets: o.Replicas, env: []string{
		"ORGCAST_REDIS=redis://127.0.0.1:1/0", "ORGCAST_REDIS_CLUSTER=" + strings.Join(c.Addrs(), ","),
	}}
	return d.publishThrough(redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: c.Addrs(), ContextTimeoutEnabled: true, DialerRetries: 1, ClusterStateReloadInterval: time.Second,
	}))
}

// historyLength is how many events of a group Redis keeps: more than a test publishes, however long
// it takes.
const historyLength = 100 * event.DefaultHistoryLength

// kept returns what is in the history of a group, oldest first.
func (d *deployment) kept(g event.Group) (events []sight) {
	d.tb.Helper()
	var entries []redis.XMessage
	testkit.Eventually(d.tb, "the history of "+g.String(), func() (ok bool) { // the client may have to find the server first
		var err error
		entries, err = d.client.XRange(d.tb.Context(), d.keys.History(g), "-", "+").Result()
		return err == nil
	})
	for _, entry := range entries {
		var tick struct {
			N int `json:"n"`
		}
		object, _ := entry.Values["event"].(string)
		if err := json.Unmarshal([]byte(object), &tick); err != nil {
			d.tb.Fatalf("%v: %s: %v", g, entry.ID, err)
		}
		events = append(events, sight{tick.N, entry.ID})
	}
	// Nobody can tell what was lost from what was dropped for the number of events.
	if len(events) > historyLength {
		d.tb.Fatalf("%v: %d events are more than the history keeps", g, len(events))
	}
	return events
}
