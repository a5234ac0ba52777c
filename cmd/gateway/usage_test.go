package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// usageOf returns what an organization used in the last hours, as a node says.
func (s *serving) usageOf(org string) (deliveries, peak int) {
	s.tb.Helper()
	status, body := s.ask(http.MethodGet, "/v1/usage?organization_id="+org, "")
	var a struct {
		Usage []struct {
			Deliveries      int
			PeakConnections int `json:"peak_connections"`
		}
	}
	if status != http.StatusOK || json.Unmarshal([]byte(body), &a) != nil {
		s.tb.Fatalf("usage: got %d %s", status, body)
	}
	for _, row := range a.Usage {
		deliveries, peak = deliveries+row.Deliveries, peak+row.PeakConnections
	}
	return deliveries, peak
}

// audience is the browsers of each node, with the deliveries that they got, counted by the test.
type audience struct {
	publisher *serving
	at        map[*serving][]*testkit.Client
	got       map[*serving]int
}

func (a *audience) connect(s *serving, user string, browsers int) {
	for range browsers {
		a.at[s] = append(a.at[s], s.subscribe(testkit.DialTCP(s.public), user, "acme"))
	}
}

// leave forgets the browsers of a node, not what they got.
func (a *audience) leave(s *serving) { delete(a.at, s) }

// publish publishes events and waits until all browsers have them.
func (a *audience) publish(t *testing.T, events int) {
	t.Helper()
	for i := range events {
		text := fmt.Sprintf(`{"organization_id":"acme","type":"note","n":%d}`, i)
		if status, body := a.publisher.ask(http.MethodPost, "/v1/publish", `{"organization_id":"acme","group":"all","event":`+text+`}`); status != http.StatusOK {
			t.Fatalf("publish: got %d %s", status, body)
		}
		for s, clients := range a.at {
			for _, c := range clients {
				c.Expect(t, text)
				a.got[s]++
			}
		}
	}
}

// delivered is what all browsers got.
func (a *audience) delivered() (sum int) {
	for _, n := range a.got {
		sum += n
	}
	return sum
}

// writtenBy returns the deliveries of an organization that each node has written to Redis.
func writtenBy(t *testing.T, client redis.UniversalClient, org string) (byNode map[string]int) {
	t.Helper()
	byNode = make(map[string]int)
	for hour := range 2 { // one may have ended during the test
		fields, err := client.HGetAll(t.Context(), "orgcast:usage:"+time.Now().UTC().Add(-time.Duration(hour)*time.Hour).Format("2006010215")).Result()
		if err != nil {
			t.Fatal(err)
		}
		for field, text := range fields {
			of, node, _ := strings.Cut(field, ":")
			var peak, deliveries int
			if _, err := fmt.Sscan(text, &peak, &deliveries); err != nil {
				t.Fatalf("%s: %q: %v", field, text, err)
			}
			if of == org {
				byNode[node] += deliveries
			}
		}
	}
	return byNode
}

// TestUsageWithAKilledNode: the usage is exactly what the browsers of all nodes got, also of a node
// that was killed after its last write. What a node delivered after it is lost, and nothing else. A
// node that stops in order loses nothing.
func TestUsageWithAKilledNode(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t)
	expectUsage(t, addr, nil, redistest.NewClient(t, addr))
}

// TestUsageWithAKilledNodeOnCluster is the same in a Redis Cluster.
func TestUsageWithAKilledNodeOnCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{})
	expectUsage(t, "127.0.0.1:1", environment{"ORGCAST_REDIS_CLUSTER": cluster.Addrs()[0]}, cluster.NewClient(t))
}

func expectUsage(t *testing.T, redisAddr string, env environment, client redis.UniversalClient) {
	t.Helper()
	var list []*serving
	for range 4 {
		list = append(list, spawnServe(t, redisAddr, env))
	}
	a := &audience{publisher: list[0], at: make(map[*serving][]*testkit.Client), got: make(map[*serving]int)}
	for i, s := range list {
		a.connect(s, fmt.Sprint("user", i), 3)
	}
	lost := func() int { return 0 }
	expect := func(by *serving) {
		t.Helper()
		var got, want, peak int
		defer func() {
			if t.Failed() {
				t.Logf("got %d deliveries and a peak of %d, want %d and at least 12", got, peak, want)
			}
		}()
		testkit.Poll(t, 100*time.Millisecond, "the usage is what was delivered", func() bool {
			got, peak = by.usageOf("acme")
			if want = a.delivered() - lost(); got > want {
				t.Fatal("more deliveries than there were")
			}
			return got == want && peak >= 12 // an hour may end meanwhile
		})
	}
	kill := func(s *serving) {
		s.spawned.signal(syscall.SIGKILL)
		<-s.spawned.done
		a.leave(s)
	}
	a.publish(t, 25)
	expect(list[0])
	if got, _ := list[1].usageOf("globex"); got != 0 {
		t.Errorf("an organization that was not there used %d", got)
	}

	// Killed after its last write: nothing is lost.
	kill(list[3])
	a.publish(t, 5)

	// Killed at any time: what it has not written is lost, and nothing else.
	id := list[0].look("/v1/connections?user_id=user2").Connections[0].Node
	a.publish(t, 5)
	kill(list[2])
	lost = func() int { return a.got[list[2]] - writtenBy(t, client, "acme")[id] }
	if n := lost(); n < 0 || n > 10*3 {
		t.Errorf("lost: got %d deliveries, want 0 to 30", n)
	}

	list[1].spawned.signal(syscall.SIGTERM) // in order
	list[1].spawned.expectExit(0)
	a.leave(list[1])
	a.publish(t, 5)
	expect(list[0])
}
