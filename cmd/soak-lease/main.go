// Command soak-lease measures how long it takes from a logout, a switch, a removal, a suspension or
// a change of role to the end of the socket that it is about, with many sockets open and events
// flowing; what watching over them costs; and what an outage of Redis does. scripts/soak-lease starts
// it with a gateway and a Redis of its own. It fails if a promise was broken.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/keyspace"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// Promises.
const (
	announcedLimit   = time.Second
	unannouncedLimit = 5 * time.Second
	deadline         = 30 * time.Second
	// slack is for a busy machine, where the measurement itself comes late.
	slack = 500 * time.Millisecond
)

// usersPerOrganization is how many people an organisation has. Each has one socket, with a session of its own.
const usersPerOrganization = 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak-lease:", err)
		os.Exit(1)
	}
}

// soak is one measurement.
type soak struct {
	url         string
	client      *redis.Client
	keys        keyspace.Keyspace
	store       *session.RedisStore
	members     *directory.Redis
	revocations *session.Revocations
	announcer   *lease.Announcer
	people      []*person
	received    atomic.Int64
}

// person has one socket at a time.
type person struct {
	user string
	org  orgctx.ID

	cookie string
	ws     *websocket.Conn
	done   chan struct{} // closed when the socket has ended
	ended  time.Time     // when, and why
	code   websocket.StatusCode
}

func run(ctx context.Context) error {
	url := flag.String("url", "ws://127.0.0.1:8092/ws/events", "the gateway")
	redisURL := flag.String("redis", "redis://127.0.0.1:6392/0", "its Redis")
	sockets := flag.Int("sockets", 1000, "sockets that are open meanwhile")
	trials := flag.Int("trials", 200, "trials of each kind")
	rate := flag.Int("rate", 200, "events a second, each to the whole of one organisation")
	idle := flag.Duration("idle", 0, "only measure what watching over the sockets costs, for so long")
	gatewayPID := flag.Int("gateway-pid", 0, "process whose CPU time is measured")
	redisPID := flag.Int("redis-pid", 0, "process whose CPU time is measured, and that is stopped for an outage")
	outage := flag.Duration("outage", 0, "how long Redis hangs in the end")
	flag.Parse()

	s, err := newSoak(*url, *redisURL)
	if err != nil {
		return err
	}
	defer func() { _ = s.client.Close() }() // all is measured by then
	if err := s.open(ctx, *sockets); err != nil {
		return err
	}
	fmt.Printf("%d sockets open\n", len(s.people))
	if *idle > 0 {
		return s.cost(ctx, *idle, *gatewayPID, *redisPID)
	}
	publishing, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.publish(publishing, *rate) })
	defer running.Wait()
	defer stop()
	fmt.Printf("\n| act | announced | trials | p50 | p99 | max |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, announced := range []bool{true, false} {
		for _, a := range s.acts() {
			if err := s.try(ctx, a, announced, *trials); err != nil {
				return err
			}
		}
	}
	if *outage > 0 {
		stop()
		running.Wait()
		if err := s.hang(ctx, *redisPID, *outage); err != nil {
			return err
		}
	}
	fmt.Printf("\nframes received meanwhile: %d\n", s.received.Load())
	return nil
}

func newSoak(url, redisURL string) (*soak, error) {
	o, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, err
	}
	o.ContextTimeoutEnabled = true
	s := &soak{url: url, client: redis.NewClient(o)}
	keys, err := keyspace.New(keyspace.DefaultPrefix)
	if err != nil {
		return nil, err
	}
	s.keys = keys.InDatabase(o.DB)
	var err1, err2, err3 error
	s.store, err1 = session.NewRedisStore(s.client, s.keys, session.Options{Insecure: true})
	s.members, err2 = directory.NewRedis(s.client, s.keys)
	s.revocations, err3 = session.NewRevocations(s.client, s.keys)
	s.announcer = lease.NewAnnouncer(s.client, s.keys)
	return s, errors.Join(err1, err2, err3)
}

// open connects everybody.
func (s *soak) open(ctx context.Context, sockets int) error {
	for i := range sockets {
		org, err := orgctx.ParseID("org" + strconv.Itoa(i/usersPerOrganization))
		if err != nil {
			return err
		}
		p := &person{user: "user" + strconv.Itoa(i), org: org}
		if err := s.members.PutOrganization(ctx, org, directory.Active); err != nil {
			return err
		}
		s.people = append(s.people, p)
	}
	var g sync.WaitGroup
	errs := make([]error, 8)
	for n := range errs {
		g.Go(func() {
			for i := n; i < len(s.people) && errs[n] == nil; i += len(errs) {
				errs[n] = s.enter(ctx, s.people[i])
			}
		})
	}
	g.Wait()
	return errors.Join(errs...)
}

// enter signs somebody in, as a member with a role, and connects.
func (s *soak) enter(ctx context.Context, p *person) error {
	err := errors.Join(
		s.members.PutOrganization(ctx, p.org, directory.Active),
		s.members.PutMember(ctx, p.org, p.user, directory.Active, directory.Member{Role: "editor"}))
	if err != nil {
		return err
	}
	cookie, err := s.store.Mint(ctx, session.Grant{UserID: p.user, Organization: p.org})
	if err != nil {
		return err
	}
	p.cookie = cookie.Name + "=" + cookie.Value
	return s.comeIn(ctx, p)
}

// comeIn connects somebody, for as long as it takes a gateway on a busy machine to let everybody in.
func (s *soak) comeIn(ctx context.Context, p *person) error {
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		err := s.connect(ctx, p)
		if err == nil || time.Since(start) > time.Minute || ctx.Err() != nil {
			return err
		}
	}
}

func (s *soak) connect(ctx context.Context, p *person) error {
	dialling, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(dialling, s.url, &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {p.cookie}}}) //nolint:bodyclose // the library's own
	if err != nil {
		return err
	}
	if err := ws.Write(dialling, websocket.MessageText, []byte(`{"type":"subscribe","group":"all"}`)); err != nil {
		return err
	}
	p.ws, p.done = ws, make(chan struct{})
	go s.read(context.WithoutCancel(ctx), p) // until the socket ends
	return nil
}

func (s *soak) read(ctx context.Context, p *person) {
	defer close(p.done)
	for {
		_, _, err := p.ws.Read(ctx)
		if err != nil {
			p.ended, p.code = time.Now(), websocket.CloseStatus(err)
			_ = p.ws.CloseNow() // it has ended
			return
		}
		s.received.Add(1)
	}
}

// publish lets events flow.
func (s *soak) publish(ctx context.Context, rate int) {
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		org := s.people[rand.IntN(len(s.people))].org.String() //nolint:gosec // no secret
		_ = s.client.Publish(ctx, "orgcast:{"+org+"}:group:all", fmt.Sprintf(`{"type":"note","organization_id":"%s","n":%d}`, org, n)).Err()
	}
}

// act is something that ends a socket.
type act struct {
	name string
	code websocket.StatusCode
	do   func(ctx context.Context, p *person) error
	say  func(p *person) lease.Message
	all  bool // of the organisation
}

func (s *soak) acts() []act {
	request := func(p *person) *http.Request { return &http.Request{Header: http.Header{"Cookie": {p.cookie}}} }
	id := func(p *person) string { return session.DeriveID(p.cookie[strings.Index(p.cookie, "=")+1:]) }
	other := s.people[len(s.people)-1].org
	return []act{
		{
			name: "logout", code: 4401,
			do:  func(ctx context.Context, p *person) error { _, err := s.store.SignOut(ctx, request(p)); return err },
			say: func(p *person) lease.Message { return lease.Message{Type: lease.SessionEnded, SessionID: id(p)} },
		}, {
			name: "switch", code: 4409,
			do: func(ctx context.Context, p *person) error { return s.store.SetOrganization(ctx, request(p), other) },
			say: func(p *person) lease.Message {
				return lease.Message{Type: lease.OrganizationSwitched, SessionID: id(p), Organization: other}
			},
		}, {
			name: "removal", code: 4403,
			do: func(ctx context.Context, p *person) error { return s.members.RemoveMember(ctx, p.org, p.user) },
			say: func(p *person) lease.Message {
				return lease.Message{Type: lease.MemberRemoved, Organization: p.org, UserID: p.user}
			},
		}, {
			name: "role change", code: 4409,
			do: func(ctx context.Context, p *person) error {
				return s.members.PutMember(ctx, p.org, p.user, directory.Active, directory.Member{Role: "viewer"})
			},
			say: func(p *person) lease.Message {
				return lease.Message{Type: lease.MemberRole, Organization: p.org, UserID: p.user, Role: "viewer"}
			},
		}, {
			name: "suspension", code: 4403, all: true,
			do: func(ctx context.Context, p *person) error {
				return s.members.PutOrganization(ctx, p.org, directory.Suspended)
			},
			say: func(p *person) lease.Message {
				return lease.Message{Type: lease.OrganizationSuspended, Organization: p.org}
			},
		},
	}
}

// try measures an act again and again. A trial lasts from before the record is changed until the
// browser has the close frame: the last byte. Unannounced trials, which take seconds, run side by
// side.
func (s *soak) try(ctx context.Context, a act, announced bool, trials int) error {
	atOnce, limit := 1, announcedLimit
	if !announced {
		atOnce, limit = 20, unannouncedLimit
	}
	// Nobody of the last organisation, to which others switch; one of each, where all of one end.
	step := 1
	if a.all {
		step = usersPerOrganization
	}
	var victims []int
	for i := 0; i < len(s.people)-usersPerOrganization; i += step {
		victims = append(victims, i)
	}
	var took []time.Duration
	for len(took) < trials {
		rand.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] }) //nolint:gosec // no secret
		n := min(atOnce, trials-len(took), len(victims))
		errs := make([]error, n)
		results := make([]time.Duration, n)
		var g sync.WaitGroup
		for k := range n {
			g.Go(func() {
				time.Sleep(time.Duration(rand.Int64N(int64(100 * time.Millisecond)))) //nolint:gosec // at any moment of a period
				group := []*person{s.people[victims[k]]}
				if a.all {
					group = s.people[victims[k] : victims[k]+usersPerOrganization]
				}
				results[k], errs[k] = s.trial(ctx, a, announced, limit, group)
			})
		}
		g.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		took = append(took, results...)
	}
	slices.Sort(took)
	at := func(q float64) string {
		return took[int(q*float64(len(took)-1))].Round(100 * time.Microsecond).String()
	}
	fmt.Printf("| %s | %v | %d | %s | %s | %s |\n", a.name, announced, len(took), at(0.5), at(0.99), at(1))
	return nil
}

// trial acts, and waits until all sockets of the group have ended. It returns how long the last took.
func (s *soak) trial(ctx context.Context, a act, announced bool, limit time.Duration, group []*person) (time.Duration, error) {
	begun := time.Now()
	if err := a.do(ctx, group[0]); err != nil {
		return 0, err
	}
	if announced {
		if err := s.announcer.Announce(ctx, a.say(group[0])); err != nil {
			return 0, err
		}
	}
	var worst time.Duration
	for _, p := range group {
		select {
		case <-p.done:
		case <-time.After(limit + 10*time.Second):
			return 0, fmt.Errorf("%s of %s: the socket stays open", a.name, p.user)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if p.code != a.code {
			return 0, fmt.Errorf("%s of %s: code %d, want %d", a.name, p.user, p.code, a.code)
		}
		worst = max(worst, p.ended.Sub(begun))
	}
	if worst > limit+slack {
		return 0, fmt.Errorf("%s: took %v, promised are %v", a.name, worst, limit)
	}
	for _, p := range group { // for the next trial
		if err := s.enter(ctx, p); err != nil {
			return 0, err
		}
	}
	return worst, nil
}

// cost measures the CPU time that the two processes take while nothing happens.
func (s *soak) cost(ctx context.Context, d time.Duration, gatewayPID, redisPID int) error {
	settle := time.NewTimer(10 * time.Second) // after the rush of handshakes
	<-settle.C
	gatewayBefore, err1 := cpu(gatewayPID)
	redisBefore, err2 := cpu(redisPID)
	settle.Reset(d)
	select {
	case <-settle.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	gatewayAfter, err3 := cpu(gatewayPID)
	redisAfter, err4 := cpu(redisPID)
	fmt.Printf("CPU of one core over %v: gateway %.2f %%, Redis %.2f %%\n", d,
		100*(gatewayAfter-gatewayBefore).Seconds()/d.Seconds(), 100*(redisAfter-redisBefore).Seconds()/d.Seconds())
	memory, err5 := resident(gatewayPID)
	fmt.Printf("memory of the gateway: %d KiB, %.1f KiB for each socket\n", memory, float64(memory)/float64(len(s.people)))
	return errors.Join(err1, err2, err3, err4, err5)
}

// resident returns the memory that a process has, in KiB (proc(5): VmRSS in status).
func resident(pid int) (int, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, errors.New("no VmRSS")
	}
	return strconv.Atoi(fields[0])
}

// cpu returns the CPU time that a process has used (proc(5): fields 14 and 15 of stat, in 1/100 s).
func cpu(pid int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// hang stops Redis for a while. All sockets must end by the deadline, and all come back.
func (s *soak) hang(ctx context.Context, redisPID int, d time.Duration) error {
	process, err := os.FindProcess(redisPID)
	if err != nil {
		return err
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	stopped := time.Now()
	defer func() { _ = process.Signal(syscall.SIGCONT) }() // whatever happens
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return ctx.Err()
	}
	var took []time.Duration
	for _, p := range s.people {
		select {
		case <-p.done:
		default:
			return fmt.Errorf("%s: still open after %v without Redis", p.user, d)
		}
		if p.code != websocket.StatusTryAgainLater {
			return fmt.Errorf("%s: code %d, want 1013", p.user, p.code)
		}
		took = append(took, p.ended.Sub(stopped))
	}
	slices.Sort(took)
	fmt.Printf("\nRedis hung for %v: all %d sockets ended with 1013, the first after %v, the last after %v\n", d, len(took), took[0].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	if last := took[len(took)-1]; last > deadline+slack {
		return fmt.Errorf("the last ended after %v, promised are %v", last, deadline)
	}
	if err := process.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	resumed := time.Now()
	for _, p := range s.people {
		if err := s.comeIn(ctx, p); err != nil {
			return fmt.Errorf("%s does not come back: %w", p.user, err)
		}
	}
	fmt.Printf("all are back %v after Redis went on, one after the other, without a restart\n", time.Since(resumed).Round(time.Millisecond))
	return nil
}
