package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

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

// TestUsageWithAKilledNode: what the audience got on all nodes is what the usage says. A node that is
// killed keeps what it has written, and loses no more than what was delivered since. A node that
// stops in order loses nothing.
func TestUsageWithAKilledNode(t *testing.T) {
	redisAddr := redistest.Start(t)
	var list []*serving
	audience := make(map[*serving][]*testkit.Client)
	for range 3 {
		s := spawnServe(t, redisAddr, nil)
		list = append(list, s)
		for range 4 {
			audience[s] = append(audience[s], s.subscribe(testkit.DialTCP(s.public), "ada", "acme"))
		}
	}
	delivered := 0
	publish := func(events int) (byNode int) {
		t.Helper()
		for i := range events {
			text := fmt.Sprintf(`{"organization_id":"acme","type":"note","n":%d}`, i)
			if status, body := list[0].ask(http.MethodPost, "/v1/publish", `{"organization_id":"acme","group":"all","event":`+text+`}`); status != http.StatusOK {
				t.Fatalf("publish: got %d %s", status, body)
			}
			for _, clients := range audience {
				for _, c := range clients {
					c.Expect(t, text)
					delivered++
				}
			}
		}
		return events * 4
	}
	publish(25)
	testkit.Poll(t, 200*time.Millisecond, "the usage is what was delivered", func() bool {
		got, peak := list[0].usageOf("acme")
		return got == delivered && peak >= 12 // an hour may have ended in between
	})
	if got, _ := list[1].usageOf("globex"); got != 0 {
		t.Errorf("an organization that was not there used %d", got)
	}

	unwritten := publish(5) // by each node, perhaps not written yet
	list[2].spawned.signal(syscall.SIGKILL)
	<-list[2].spawned.done
	delete(audience, list[2])
	publish(5)
	list[1].spawned.signal(syscall.SIGTERM)
	list[1].spawned.expectExit(0)
	delete(audience, list[1])
	publish(5)
	var got int
	testkit.Poll(t, 200*time.Millisecond, "the usage has all but what the killed node had not written", func() bool {
		got, _ = list[0].usageOf("acme")
		return got >= delivered-unwritten
	})
	if got > delivered {
		t.Errorf("got %d deliveries, more than the %d that there were", got, delivered)
	}
}
