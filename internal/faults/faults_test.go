package faults_test

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"orgcast/internal/pubsub"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// full is the size at which the figures of docs/reliability.md were made.
var full = flag.Bool("full", false, "1,000 connections and long faults, instead of what takes seconds")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// durable makes Redis keep what it has acknowledged, also when it is killed: with its default it may
// put off writing for a second, and what was lost so is not the gateway's to bring back.
func durable(tb testing.TB) *redistest.Server {
	tb.Helper()
	return redistest.StartServer(tb, "--appendonly", "yes", "--appendfsync", "always")
}

// fault is one way in which things break.
type fault struct {
	nodes int
	// strike breaks something and mends it, and returns when it is mended.
	strike func(*scene)
	// events cannot flow meanwhile, so that the gateway must say that it is not ready
	stops bool
}

// scene is everything that a fault may break.
type scene struct {
	tb       testing.TB
	binary   string
	redis    *redistest.Server
	client   *redis.Client
	nodes    []*process
	balancer *balancer
	env      []string
	struck   time.Time // when events stopped flowing
	mended   time.Time
}

// scale takes the long time at full size, else the short one.
func scale[T any](short, long T) T {
	if *full {
		return long
	}
	return short
}

// TestFaults: whatever breaks, everybody gets every event that Redis kept, once, in order, and
// nobody one of another organisation; and a gateway through which no events flow says so.
func TestFaults(t *testing.T) {
	binary := buildGateway(t)
	for name, f := range map[string]fault{
		"redis crashes and comes back with its append-only file": {strike: (*scene).crashRedis, stops: true},
		"redis hangs":                       {strike: (*scene).hangRedis, stops: true},
		"subscription connection is killed": {strike: (*scene).killSubscription},
		"subscriber is too slow for redis":  {strike: (*scene).overflowSubscription},
		"gateway crashes":                   {strike: (*scene).crashGateway, nodes: 2},
		"gateways are replaced in turn":     {strike: (*scene).replaceGateways, nodes: 2},
		"network is lost for two seconds":   {strike: (*scene).loseNetwork},
	} {
		t.Run(name, func(t *testing.T) {
			s := &scene{tb: t, binary: binary, redis: durable(t)}
			var bus *pubsub.Redis
			bus, s.client = newBus(t, s.redis.Addr)
			s.env = []string{"ORGCAST_REDIS=redis://" + s.redis.Addr + "/0"}
			for range max(f.nodes, 1) {
				s.nodes = append(s.nodes, startGateway(t, binary, s.env...))
			}
			for _, node := range s.nodes {
				testkit.Eventually(t, "ready", func() bool { return node.ready(t.Context()) })
			}
			s.balancer = startBalancer(t, s.nodes...)
			a := open(t, s.balancer.addr(), bus, scale(size{5, 2, 5, 20 * time.Millisecond}, size{5, 20, 10, 100 * time.Millisecond}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ready := watch(ctx, s.nodes[0])
			time.Sleep(scale(300*time.Millisecond, 3*time.Second))
			s.struck = time.Now()
			f.strike(s)
			s.mended = time.Now()
			time.Sleep(scale(500*time.Millisecond, 3*time.Second))
			if f.stops {
				testkit.Eventually(t, "ready again", func() bool { return s.nodes[0].ready(t.Context()) })
			}
			total, events := a.finish(scale(testkit.Patience, time.Minute))
			down, wentDown := ready.first(s.struck, false)
			up, cameUp := ready.first(s.mended, true)
			t.Logf("%d connections, %d events: lost %d, twice %d, foreign %d, gaps told %d, returns %d; longest silence %v; not ready after %v (%v), ready %v after the mending (%v)",
				len(a.viewers), events, total.Lost, total.Duplicated, total.Foreign, total.Gaps, total.Returns, total.Longest.Round(time.Millisecond),
				down.Round(time.Millisecond), wentDown, up.Round(time.Millisecond), cameUp)
			total.Refused, total.Returns, total.Longest = 0, 0, 0
			if total != (tally{}) {
				t.Errorf("got %+v, want none", total)
			}
			if f.stops && !wentDown {
				t.Error("the gateway said that it was ready although no events flowed")
			}
			if t.Failed() {
				for _, node := range s.nodes {
					for _, line := range node.lines() {
						t.Log(line)
					}
				}
			}
		})
	}
}

func (s *scene) crashRedis() {
	s.redis.Stop()
	time.Sleep(scale(4*time.Second, 5*time.Second))
	s.redis.Restart()
}

func (s *scene) hangRedis() {
	s.redis.Pause()
	time.Sleep(scale(4*time.Second, 20*time.Second))
	s.redis.Resume()
}

func (s *scene) killSubscription() {
	for range 3 {
		if n, err := s.client.ClientKillByFilter(s.tb.Context(), "TYPE", "pubsub").Result(); n == 0 || err != nil {
			s.tb.Errorf("CLIENT KILL: %d, %v", n, err)
		}
		time.Sleep(scale(500*time.Millisecond, 2*time.Second))
	}
}

// overflowSubscription makes a gateway too slow to take what is published, so that Redis gives its
// subscription up.
func (s *scene) overflowSubscription() {
	if err := s.client.ConfigSet(s.tb.Context(), "client-output-buffer-limit", "pubsub 1048576 0 0").Err(); err != nil {
		s.tb.Error(err)
	}
	listener := testkit.Connect(s.tb, testkit.DialTCP(s.nodes[0].public), handshake(s.tb, "noisy"))
	if err := listener.SendText(`{"type":"subscribe","group":"noise"}`); err != nil {
		s.tb.Error(err)
	}
	listener.Expect(s.tb, `{"type":"subscribed","group":"noise"}`)
	before := s.subscriptions()
	s.nodes[0].signal(syscall.SIGSTOP)
	noise := `{"type":"noise","organization_id":"noisy","text":"` + strings.Repeat("x", 32<<10) + `"}`
	for range 600 { // more than the sockets between Redis and the gateway hold
		if err := s.client.Publish(s.tb.Context(), "orgcast:{noisy}:group:noise", noise).Err(); err != nil {
			s.tb.Error(err)
		}
	}
	testkit.Eventually(s.tb, "Redis gives the subscription up", func() bool { return s.subscriptions() < before })
	s.nodes[0].signal(syscall.SIGCONT)
	time.Sleep(scale(time.Second, 3*time.Second))
}

// subscriptions returns how many connections of the gateway are subscribed to something.
func (s *scene) subscriptions() int {
	list, err := s.client.Do(s.tb.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
	if err != nil {
		s.tb.Error(err)
	}
	return strings.Count(list, "id=")
}

func (s *scene) crashGateway() {
	s.balancer.use(s.nodes[1])
	s.nodes[0].kill()
	s.nodes[0] = startGateway(s.tb, s.binary, s.env...)
	s.balancer.use(s.nodes...)
	time.Sleep(scale(500*time.Millisecond, 5*time.Second))
}

func (s *scene) replaceGateways() {
	for i := range s.nodes {
		old := s.nodes[i]
		fresh := startGateway(s.tb, s.binary, s.env...)
		testkit.Eventually(s.tb, "ready", func() bool { return fresh.ready(s.tb.Context()) })
		s.nodes[i] = fresh
		s.balancer.use(s.nodes...)
		old.stop()
		<-old.done
		if code := old.cmd.ProcessState.ExitCode(); code != 0 {
			s.tb.Errorf("the gateway ended with %d", code)
		}
	}
	time.Sleep(scale(time.Second, 5*time.Second))
}

func (s *scene) loseNetwork() {
	for range scale(1, 3) {
		s.balancer.setCut(true)
		time.Sleep(2 * time.Second)
		s.balancer.setCut(false)
		time.Sleep(scale(500*time.Millisecond, 3*time.Second))
	}
}

// TestDeploy: the clients of a gateway that is replaced come back when they were told to, all of them, no
// faster than the others admit, and miss nothing.
func TestDeploy(t *testing.T) {
	binary, server := buildGateway(t), durable(t)
	bus, _ := newBus(t, server.Addr)
	rate := scale(100, 400)
	env := []string{
		"ORGCAST_REDIS=redis://" + server.Addr + "/0", fmt.Sprint("ORGCAST_HANDSHAKES_PER_SECOND=", rate),
		"ORGCAST_MAX_PER_USER=0", "ORGCAST_DRAIN=" + scale("1s", "10s"),
	}
	nodes := []*process{startGateway(t, binary, env...), startGateway(t, binary, env...)}
	for _, node := range nodes {
		testkit.Eventually(t, "ready", func() bool { return node.ready(t.Context()) })
	}
	b := startBalancer(t, nodes...)
	a := open(t, b.addr(), bus, scale(size{5, 2, 20, 100 * time.Millisecond}, size{5, 20, 50, time.Second}))
	b.use(nodes[1])
	start := time.Now()
	nodes[0].stop()
	testkit.Eventually(t, "all of them were sent away", func() bool {
		select {
		case <-nodes[0].done:
			return true
		default:
			return false
		}
	})
	total, events := a.finish(scale(testkit.Patience, 2*time.Minute))
	late := a.lateness()
	if len(late) == 0 {
		t.Fatal("nobody was sent away")
	}
	t.Logf("%d of %d connections sent away, told to come back within %v; back %v after that at the median, %v at the latest; %d refused meanwhile; %d events, lost %d, twice %d, foreign %d, gaps %d; longest silence %v; %v altogether",
		len(late), len(a.viewers), a.told().Round(time.Millisecond), late[len(late)/2].Round(time.Millisecond), late[len(late)-1].Round(time.Millisecond), total.Refused,
		events, total.Lost, total.Duplicated, total.Foreign, total.Gaps, total.Longest.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
	total.Refused, total.Returns, total.Longest = 0, 0, 0
	if total != (tally{}) {
		t.Errorf("got %+v, want none", total)
	}
}
