package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// spawnServe starts a gateway as a process of its own.
func spawnServe(tb testing.TB, redisAddr string, more environment) *serving {
	tb.Helper()
	s := newServing(tb, redisAddr, more)
	s.spawned = spawn(tb, s.env, nil, s.log, "serve")
	s.findAddresses()
	s.expectReady()
	return s
}

// census is the sockets that a test has open, counted by the test itself: node → organization → user.
type census map[*serving]map[string]map[string]int

// connect opens sockets of a user and puts them into the census.
func (c census) connect(s *serving, user, org string, sockets int) {
	s.tb.Helper()
	session := s.mint(user, org)
	for range sockets {
		conn := testkit.Connect(s.tb, testkit.DialTCP(s.public), session)
		if err := conn.SendText(`{"type":"subscribe","group":"all"}`); err != nil {
			s.tb.Fatal(err)
		}
		conn.Expect(s.tb, `{"type":"subscribed","group":"all"}`)
	}
	if c[s] == nil {
		c[s] = make(map[string]map[string]int)
	}
	if c[s][org] == nil {
		c[s][org] = make(map[string]int)
	}
	c[s][org][user] += sockets
}

// connections sums up the sockets of each organization.
func (c census) connections() map[string]int {
	sums := make(map[string]int)
	for _, orgs := range c {
		for org, users := range orgs {
			for _, n := range users {
				sums[org] += n
			}
		}
	}
	return sums
}

// answer is what the views have in common.
type answer struct {
	Complete bool
	Next     string
	Nodes    []struct{ Node, State string }

	Organizations []struct {
		OrganizationID string `json:"organization_id"`
		Connections    int
		Nodes          int
		Deliveries     int
	}
	Connections []struct {
		ConnectionID   string `json:"connection_id"`
		OrganizationID string `json:"organization_id"`
		UserID         string `json:"user_id"`
		Node           string
	}
	Groups []struct {
		OrganizationID string `json:"organization_id"`
		Group          string
		Connections    int
	}
}

// look asks a view of a node.
func (s *serving) look(path string) (a answer) {
	s.tb.Helper()
	status, body := s.ask(http.MethodGet, path, "")
	if status != http.StatusOK || json.Unmarshal([]byte(body), &a) != nil {
		s.tb.Fatalf("%s: got %d %s", path, status, body)
	}
	return a
}

// lookAll follows the pages of a view to the end.
func (s *serving) lookAll(path string) (all answer) {
	s.tb.Helper()
	all = s.look(path)
	for next := all.Next; next != ""; {
		page := s.look(path + "&cursor=" + next)
		all.Connections, all.Organizations = append(all.Connections, page.Connections...), append(all.Organizations, page.Organizations...)
		all.Complete, next = all.Complete && page.Complete, page.Next
	}
	return all
}

// states counts the nodes of an answer by their states.
func (a answer) states() map[string]int {
	states := make(map[string]int)
	for _, n := range a.Nodes {
		states[n.State]++
	}
	return states
}

// sums returns the connections of each organization.
func (a answer) sums() map[string]int {
	sums := make(map[string]int)
	for _, o := range a.Organizations {
		sums[o.OrganizationID] += o.Connections
	}
	return sums
}

// TestSumsEqualACensus: three gateways as processes show, whichever is asked, the sockets that there
// are. One that is killed is silent until its lease ends, then it is gone, and the sums are those of
// the others.
func TestSumsEqualACensus(t *testing.T) {
	t.Parallel()
	expectCensus(t, redistest.Start(t), nil)
}

// TestSumsEqualACensusOnCluster is the same in a Redis Cluster.
func TestSumsEqualACensusOnCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{})
	expectCensus(t, "127.0.0.1:1", environment{"ORGCAST_REDIS_CLUSTER": cluster.Addrs()[0]})
}

func expectCensus(t *testing.T, redisAddr string, env environment) {
	t.Helper()
	sockets := make(census)
	var list []*serving
	for i := range 3 {
		s := spawnServe(t, redisAddr, env)
		list = append(list, s)
		sockets.connect(s, "ada", "acme", 4+i)
		sockets.connect(s, "grace", "acme", 2)
		sockets.connect(s, "ada", fmt.Sprint("org", i), 3)
	}
	expect := func(s *serving, states map[string]int) {
		t.Helper()
		want := sockets.connections()
		testkit.Poll(t, 100*time.Millisecond, fmt.Sprint("nodes ", states, " and connections ", want), func() bool {
			a := s.look("/v1/organizations")
			return cmp.Equal(a.states(), states) && cmp.Equal(a.sums(), want) && a.Complete == (states["silent"] == 0)
		})
	}
	for _, s := range list {
		expect(s, map[string]int{"answered": 3})
	}
	if all := list[0].lookAll("/v1/connections?limit=4"); len(all.Connections) != 30 {
		t.Errorf("in pages of four: got %d connections, want 30", len(all.Connections))
	}
	if all := list[1].lookAll("/v1/organizations?limit=1"); !cmp.Equal(all.sums(), sockets.connections()) {
		t.Errorf("in pages of one: got %v, want %v", all.sums(), sockets.connections())
	}
	if got := list[2].look("/v1/connections?organization_id=acme&user_id=grace").Connections; len(got) != 6 {
		t.Errorf("connections of grace: got %v, want 6", got)
	}
	for _, g := range list[0].look("/v1/groups?organization_id=acme").Groups {
		if g.Group != "all" || g.Connections != sockets.connections()["acme"] {
			t.Errorf("got %+v, want all connections of acme", g)
		}
	}

	list[2].spawned.signal(syscall.SIGKILL)
	<-list[2].spawned.done
	delete(sockets, list[2])
	expect(list[0], map[string]int{"answered": 2, "silent": 1})
	expect(list[0], map[string]int{"answered": 2})
	expect(list[1], map[string]int{"answered": 2})

	list[1].spawned.signal(syscall.SIGTERM) // in order: it is gone at once
	list[1].spawned.expectExit(0)
	delete(sockets, list[1])
	if a := list[0].look("/v1/organizations"); !cmp.Equal(a.states(), map[string]int{"answered": 1}) || !cmp.Equal(a.sums(), sockets.connections()) {
		t.Errorf("after an orderly stop: got %+v, want the last node alone", a)
	}
}
