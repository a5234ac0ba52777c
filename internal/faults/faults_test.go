package faults_test

import (
	"flag"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"

	"orgcast/internal/redislink"
	"orgcast/internal/testkit"
)

// full is the size at which the figures of docs/reliability.md were made.
var full = flag.Bool("full", false, "1,000 connections and long faults, instead of what takes seconds")

func TestMain(m *testing.M) {
	logging.Disable() // the publishers' client tells of each dial that fails
	// A member that is gone for good is dialed until a second after its client was closed.
	testkit.Main(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// promptness is within what time readiness is to follow what happens to events. The small tests,
// which run next to others, only see that it does.
const promptness = 3 * time.Second

// fault is one way in which things break.
type fault struct {
	on    func(testing.TB) *deployment // default: single
	nodes int                          // default: 1
	// distant puts a network between Redis and the gateways.
	distant bool
	// strike breaks something and repairs it, and returns when it is repaired.
	strike func(*scene)
	// stops says that no events flow meanwhile, for longer than readiness may take to notice.
	stops bool
	// echoes says that an old master wakes up and takes what publishers still wait for, and that
	// the new one passes it on. Everybody has it, once, and nobody is told that it is in no
	// history.
	echoes bool
	// says is what the gateway's log has to say.
	says string
}

// scene is everything that a fault may break.
type scene struct {
	tb       testing.TB
	binary   string
	redis    *deployment
	network  *network // to Redis, of a distant one
	nodes    []*process
	env      []string
	balancer *balancer

	readiness *readiness // of the first gateway
	struck    time.Time
}

// scale takes the long time at full size, else the short one.
func scale[T any](short, long T) T {
	if *full {
		return long
	}
	return short
}

// small lets a test run next to others, unless figures are wanted.
func small(t *testing.T) {
	t.Helper()
	if !*full {
		t.Parallel()
	}
}

// TestFaults: whatever breaks, everybody gets every event that Redis kept, once, in order, and
// nobody one of another organization; and a gateway through which no events flow says so.
func TestFaults(t *testing.T) {
	small(t)
	binary := buildGateway(t)
	for name, f := range map[string]fault{
		"redis crashes and comes back with its append-only file": {strike: (*scene).crashRedis, stops: true},
		"redis crashes and comes back empty":                     {on: forgetful, strike: (*scene).crashRedis, stops: true},
		"redis hangs":                                            {strike: (*scene).hangRedis, stops: true},
		"sentinels depose the master":                            {on: watched, strike: (*scene).deposeMaster, stops: true, says: redislink.ErrNoCanary.Error()},
		"master under sentinels crashes":                         {on: watched, strike: (*scene).crashMaster, stops: true},
		"master under sentinels hangs":                           {on: watched, strike: (*scene).hangMaster, stops: true},
		"a master of a cluster is deposed":                       {on: clustered, strike: (*scene).deposeOwner},
		"a master of a cluster crashes":                          {on: clustered, strike: (*scene).crashOwner},
		"a master of a cluster hangs":                            {on: clustered, strike: (*scene).hangOwner, echoes: true},
		"a slot of a cluster moves":                              {on: unreplicated, strike: (*scene).moveSlot},
		"subscription connection is killed":                      {strike: (*scene).killSubscription},
		"subscriber is too slow for redis":                       {strike: (*scene).overflowSubscription},
		"gateway crashes":                                        {strike: (*scene).crashGateway, nodes: 2},
		"gateways are replaced in turn":                          {strike: (*scene).replaceGateways, nodes: 2},
		"network to browsers is lost":                            {strike: func(s *scene) { s.disturb(s.balancer.lose) }},
		"network to browsers stands still":                       {strike: func(s *scene) { s.disturb(s.balancer.stall) }},
		"network to redis is lost":                               {strike: func(s *scene) { s.disturb(s.network.lose) }, distant: true},
		"network to redis stands still":                          {strike: func(s *scene) { s.disturb(s.network.stall) }, distant: true},
	} {
		t.Run(name, func(t *testing.T) {
			small(t)
			f.test(t, binary)
		})
	}
}

// test is not a helper: its failures are reported at their own lines.
func (f fault) test(t *testing.T, binary string) { //nolint:thelper // see above
	if f.on == nil {
		f.on = single
	}
	s := &scene{tb: t, binary: binary, redis: f.on(t)}
	s.env = s.redis.env
	if f.distant {
		s.network = startNetwork(t, to(s.redis.server.Addr))
		s.env = []string{"ORGCAST_REDIS=redis://" + s.network.addr() + "/0"}
	}
	for range max(f.nodes, 1) {
		s.nodes = append(s.nodes, startGateway(t, binary, s.env...))
	}
	for _, node := range s.nodes {
		testkit.Eventually(t, "ready", func() bool { return node.ready(t.Context()) })
	}
	s.balancer = startBalancer(t, s.nodes...)
	a := open(t, s.balancer.addr(), s.redis, scale(size{5, 2, 5, 20 * time.Millisecond}, size{5, 20, 10, 100 * time.Millisecond}))
	s.readiness = watch(t, s.nodes[0])
	a.more()
	time.Sleep(scale(0, 3*time.Second))
	s.struck = time.Now()
	f.strike(s)
	time.Sleep(scale(500*time.Millisecond, 3*time.Second))
	if f.stops {
		s.awaitNotReady()
		testkit.Eventually(t, "ready again", func() bool {
			down, _ := s.readiness.first(s.struck, false)
			_, up := s.readiness.first(down, true)
			return up
		})
	}
	a.more() // publishers, too, have got over it
	v := a.finish(scale(testkit.Patience, time.Minute))
	t.Logf("%d connections, longest silence of one %v; %s", len(a.viewers), v.Longest.Round(time.Millisecond), v)
	if f.echoes && v.Vanished <= len(a.viewers) { // each publisher has one event under way
		v.Untold = 0
	}
	v.expectWhole(t, s.redis)
	s.expectControlHeard()

	down, wentDown := s.readiness.first(s.struck, false)
	up, _ := s.readiness.first(down, true)
	if quiet := a.quiet(); f.stops {
		t.Logf("nobody had an event for %v; not ready %v after the last, ready %v after the next",
			quiet.length().Round(time.Millisecond), down.Sub(quiet.from).Round(time.Millisecond), up.Sub(quiet.to).Round(time.Millisecond))
		if *full && (down.Sub(quiet.from) > promptness || up.Sub(quiet.to) > promptness) {
			t.Errorf("readiness did not follow within %v", promptness)
		}
	} else if wentDown {
		t.Logf("not ready after %v", down.Sub(s.struck).Round(time.Millisecond))
	}
	log := strings.Join(s.nodes[0].lines(), "\n")
	if !strings.Contains(log, f.says) {
		t.Errorf("the log does not say %q", f.says)
	}
	if t.Failed() {
		t.Log(log)
	}
}

// expectControlHeard sees that every gateway hears announcements again.
func (s *scene) expectControlHeard() {
	s.tb.Helper()
	for _, node := range s.nodes {
		const heard = `orgcast_control_messages_total{type="user.disabled"} `
		testkit.Eventually(s.tb, "the control channel is heard again", func() bool {
			metrics, err := node.ask(s.tb.Context(), "/metrics")
			return err == nil && strings.Contains(metrics, "orgcast_control_up 1")
		})
		// Announced again and again: on a busy machine the link may be lost and made up for once
		// more.
		testkit.Eventually(s.tb, "an announcement is heard", func() bool {
			// An error here is not the gateway's fault: this client may still have to find the new
			// master.
			_ = s.redis.client.Publish(s.tb.Context(), s.redis.keys.Control(), `{"type":"user.disabled","user_id":"nobody"}`).Err()
			metrics, err := node.ask(s.tb.Context(), "/metrics")
			return err == nil && strings.Contains(metrics, heard) && !strings.Contains(metrics, heard+"0\n")
		})
	}
}

// awaitNotReady waits until the first gateway has said so, so that no fault is over before anyone
// has looked.
func (s *scene) awaitNotReady() {
	s.tb.Helper()
	testkit.Eventually(s.tb, "not ready", func() bool {
		_, down := s.readiness.first(s.struck, false)
		return down
	})
}

func (s *scene) crashRedis() {
	s.redis.server.Stop()
	s.awaitNotReady()
	time.Sleep(scale(4*time.Second, 5*time.Second))
	s.redis.server.Restart()
}

func (s *scene) hangRedis() {
	s.redis.server.Pause()
	s.awaitNotReady()
	time.Sleep(scale(4*time.Second, 20*time.Second))
	s.redis.server.Resume()
}

// deposeMaster is a failover in order. The old master answers, and keeps its subscribers for some
// ten seconds: only the canary shows that nothing comes from it anymore.
func (s *scene) deposeMaster() { s.redis.sentinels.Failover() }

func (s *scene) crashMaster() {
	sentinels := s.redis.sentinels
	before := sentinels.Master()
	sentinels.Servers[0].Stop()
	s.awaitNotReady()
	sentinels.AwaitMasterOtherThan(before)
}

// hangMaster has the old master wake up when there is a new one: for a moment there are two.
func (s *scene) hangMaster() {
	sentinels := s.redis.sentinels
	before := sentinels.Master()
	sentinels.Servers[0].Pause()
	s.awaitNotReady()
	sentinels.AwaitMasterOtherThan(before)
	time.Sleep(scale(time.Second, 10*time.Second))
	sentinels.Servers[0].Resume()
}

// clusterKey is of the first organization: its master is the one that something happens to.
const clusterKey = "orgcast:{org0}:org"

// deposeOwner is a failover in order, there and back.
func (s *scene) deposeOwner() {
	s.redis.cluster.Failover(clusterKey)
	time.Sleep(scale(time.Second, 5*time.Second))
	s.redis.cluster.Failover(clusterKey)
}

func (s *scene) crashOwner() {
	cluster := s.redis.cluster
	before := cluster.Owner(clusterKey)
	before.Stop()
	cluster.AwaitOwnerOtherThan(clusterKey, before)
}

// hangOwner has the old master wake up when there is a new one.
func (s *scene) hangOwner() {
	cluster := s.redis.cluster
	before := cluster.Owner(clusterKey)
	before.Pause()
	cluster.AwaitOwnerOtherThan(clusterKey, before)
	time.Sleep(scale(time.Second, 10*time.Second))
	before.Resume()
}

// moveSlot gives an organization's slot, with its histories, to another master and to a third one.
func (s *scene) moveSlot() {
	for range scale(2, 5) {
		s.redis.cluster.MoveSlot(clusterKey)
		time.Sleep(scale(500*time.Millisecond, 3*time.Second))
	}
}

func (s *scene) killSubscription() {
	for range 3 {
		testkit.Eventually(s.tb, "CLIENT KILL of a subscription", func() bool { // the one before may not be back yet
			n, err := s.redis.client.ClientKillByFilter(s.tb.Context(), "TYPE", "pubsub").Result()
			if err != nil {
				s.tb.Error(err)
			}
			return n > 0
		})
		time.Sleep(scale(500*time.Millisecond, 2*time.Second))
	}
}

// overflowSubscription makes a gateway too slow to take what is published, so that Redis gives its
// subscription up.
func (s *scene) overflowSubscription() {
	if err := s.redis.client.ConfigSet(s.tb.Context(), "client-output-buffer-limit", "pubsub 1048576 0 0").Err(); err != nil {
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
		if err := s.redis.client.Publish(s.tb.Context(), "orgcast:{noisy}:group:noise", noise).Err(); err != nil {
			s.tb.Error(err)
		}
	}
	testkit.Eventually(s.tb, "Redis gives the subscription up", func() bool { return s.subscriptions() < before })
	s.nodes[0].signal(syscall.SIGCONT)
	time.Sleep(scale(time.Second, 3*time.Second))
}

// subscriptions returns how many connections of the gateway are subscribed to something.
func (s *scene) subscriptions() int {
	list, err := s.redis.client.Do(s.tb.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
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

// disturb does something to a network for two seconds, again and again.
func (s *scene) disturb(network func(time.Duration)) {
	for range scale(1, 3) {
		network(2 * time.Second)
		time.Sleep(scale(500*time.Millisecond, 3*time.Second))
	}
}
