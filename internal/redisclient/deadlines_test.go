package redisclient_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/redisclient"
)

// TestClientsKeepDeadlines: every kind of client that a Connector makes keeps its callers'
// deadlines, and one that does not is found out.
func TestClientsKeepDeadlines(t *testing.T) {
	for name, o := range map[string]redisclient.Options{
		"server":    {},
		"Cluster":   {Cluster: []string{"127.0.0.1:1"}},
		"Sentinels": {Sentinels: []string{"127.0.0.1:1"}, SentinelMaster: "m"},
	} {
		o.Name, o.URL = "redis", "redis://127.0.0.1:1/0"
		connector, err := redisclient.NewConnector(o)
		if err != nil {
			t.Fatal(err)
		}
		client, err := connector.Connect(0)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if err := redisclient.CheckDeadlines(client); err != nil {
			t.Errorf("%s: got %v, want nil", name, err)
		}
	}
	for name, client := range map[string]redis.UniversalClient{
		"server":    redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}),
		"Cluster":   redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}}),
		"Sentinels": redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}}),
	} {
		defer client.Close()
		if err := redisclient.CheckDeadlines(client); !errors.Is(err, redisclient.ErrNoDeadlines) {
			t.Errorf("%s of go-redis alone: got %v, want ErrNoDeadlines", name, err)
		}
	}
}
