package channellayer_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/channellayer"
	"orgcast/internal/channellayer/wire"
	"orgcast/internal/event"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// several is a site with three servers.
type several struct {
	t       *testing.T
	kind    channellayer.Kind
	sites   []*site
	servers []*redistest.Server
	clients []redis.UniversalClient
}

func onSeveral(t *testing.T, test func(s *several)) {
	t.Helper()
	for _, kind := range []channellayer.Kind{channellayer.Core, channellayer.PubSub} {
		t.Run(string(kind), func(t *testing.T) {
			s := &several{t: t, kind: kind}
			for range 3 {
				server := redistest.StartServer(t)
				s.servers = append(s.servers, server)
				s.sites = append(s.sites, &site{t, kind, redistest.NewClient(t, server.Addr)})
				s.clients = append(s.clients, redistest.NewClient(t, server.Addr))
			}
			test(s)
		})
	}
}

// host returns which server a sender of channels_redis asks for a group.
func (s *several) host(name string) int {
	if s.kind == channellayer.PubSub {
		name = wire.PubSubChannel("asgi", name)
	}
	return wire.Host(name, len(s.servers))
}

// groups returns a group of an organization for each server.
func (s *several) groups(org string) map[int]event.Group {
	byHost := make(map[int]event.Group)
	for i := 0; len(byHost) < len(s.servers); i++ {
		g := group(org, fmt.Sprintf("report_%d", i))
		byHost[s.host(g.Name())] = g
	}
	return byHost
}

// TestSeveralServers: each group's events come from the server that its name decides, and the
// members that a sender finds there name queues that a sender looks for on the same server.
func TestSeveralServers(t *testing.T) {
	onSeveral(t, func(s *several) {
		t := s.t
		l := channellayer.New(s.clients, options(s.kind))
		var sink pubsubtest.Recorder
		stop := start(t, l, &sink)
		used := make(map[int]int)
		var groups []event.Group
		for i := range 30 {
			for _, org := range []string{"acme", "globex"} {
				groups = append(groups, group(org, fmt.Sprintf("report_%d", i)))
			}
		}
		join(t, l, groups...)
		testkit.Eventually(t, "the layer is healthy", func() bool { return l.Healthy() == nil })
		for _, g := range groups {
			host := s.host(g.Name())
			used[host]++
			for i := range s.servers {
				want := 0
				if i == host {
					want = 1
				}
				if got := s.sites[i].members(g.Name()); got != want {
					t.Errorf("%s: got %d members on server %d, want %d", g.Name(), got, i, want)
				}
			}
			s.queuesAreHere(host, g.Name())
			s.sites[host].send(message{g.Name(), note(g.Organization().String(), "one")})
		}
		for _, g := range groups {
			sink.WaitFor(t, item(g, "one"))
			if got := sink.Of(g); !slices.Equal(got, []pubsubtest.Item{item(g, "one")}) {
				t.Errorf("got %v, want its own event", got)
			}
		}
		if len(used) != 3 {
			t.Errorf("the groups are on %d servers, want 3", len(used))
		}
		stop()
		for _, g := range groups {
			testkit.Eventually(t, "the node leaves "+g.Name(), func() bool { return s.sites[s.host(g.Name())].members(g.Name()) == 0 })
		}
	})
}

// queuesAreHere sees that a sender looks for the members' queues on the server of the group.
func (s *several) queuesAreHere(host int, name string) {
	s.t.Helper()
	if s.kind == channellayer.PubSub {
		return
	}
	t := s.t
	members, err := s.sites[host].client.ZRange(t.Context(), wire.GroupKey("asgi", name), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		queue, _, _ := wire.CutChannel(m)
		if got := wire.Host(queue, len(s.servers)); got != host {
			t.Errorf("%s: a sender looks for the queue of %s on server %d, want %d", name, m, got, host)
		}
	}
}

// TestOneOfSeveralServersIsLost: its groups get a gap, and the others no less.
func TestOneOfSeveralServersIsLost(t *testing.T) {
	onSeveral(t, func(s *several) {
		t := s.t
		l := channellayer.New(s.clients, options(s.kind))
		var sink pubsubtest.Recorder
		start(t, l, &sink)
		byHost := s.groups("acme")
		join(t, l, byHost[0], byHost[1], byHost[2])
		testkit.Eventually(t, "the layer is healthy", func() bool { return l.Healthy() == nil })
		s.servers[1].Stop()
		testkit.Eventually(t, "the layer is not healthy", func() bool { return l.Healthy() != nil })
		for _, host := range []int{0, 2} {
			s.sites[host].send(message{byHost[host].Name(), note("acme", "meanwhile")})
			sink.WaitFor(t, item(byHost[host], "meanwhile"))
		}
		s.servers[1].Restart()
		sink.WaitFor(t, pubsubtest.Gap(byHost[1]))
		s.sites[1].send(message{byHost[1].Name(), note("acme", "after")})
		sink.WaitFor(t, item(byHost[1], "after"))
		testkit.Eventually(t, "the layer is healthy again", func() bool { return l.Healthy() == nil })
		for _, host := range []int{0, 2} {
			if got, want := sink.Of(byHost[host]), []pubsubtest.Item{item(byHost[host], "meanwhile")}; !slices.Equal(got, want) {
				t.Errorf("a group of server %d: got %v, want %v", host, got, want)
			}
		}
	})
}

// TestOneBudgetForSeveralServers: an organization that sends through all of them gets no more than
// through one.
func TestOneBudgetForSeveralServers(t *testing.T) {
	onSeveral(t, func(s *several) {
		t := s.t
		o := options(s.kind)
		o.EventsPerSecond = 0.001 // one event at the start, and then none for the time of the test
		l := channellayer.New(s.clients, o)
		var sink pubsubtest.Recorder
		start(t, l, &sink)
		byHost := s.groups("acme")
		first := byHost[0]
		quiet := group("globex", first.Name())
		join(t, l, byHost[0], byHost[1], byHost[2], quiet)
		s.sites[0].send(message{first.Name(), note("acme", "one")})
		sink.WaitFor(t, item(first, "one"))
		for host, g := range byHost {
			s.sites[host].send(message{g.Name(), note("acme", "too many")})
		}
		s.sites[0].send(message{quiet.Name(), note("globex", "its own")})
		sink.WaitFor(t, item(quiet, "its own"))
		testkit.Eventually(t, "all were received", func() bool { return l.Received() == 5 })
		if got := len(sink.Items()); got != 2 {
			t.Errorf("got %v, want an event of each organization", sink.Items())
		}
	})
}
