package gateway

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/socket"
)

// Books returns how many entries the server keeps of connections, users and organizations, and how
// many bytes of budgets are in use.
func (s *Server) Books() (entries int, used int64) {
	s.limits.mu.Lock()
	defer s.limits.mu.Unlock()
	for _, b := range s.limits.budgets {
		used += int64(b.waiting.Used()) + b.received.Load() + b.ending.Load()
	}
	return s.limits.total + len(s.limits.users) + len(s.limits.budgets), used
}

// ReturnWindow is the time over which so many clients are told to come back, at a rate.
func ReturnWindow(conns int, window time.Duration, perSecond float64) time.Duration {
	s := new(Server)
	s.now.Store(&host{options: Options{HandshakesPerSecond: perSecond}})
	return s.returnWindow(conns, window)
}

// Pace bounds handshakes.
type Pace struct{ pace pace }

// NewPace returns the pace of so many handshakes per second.
func NewPace(perSecond float64) *Pace { return &Pace{newPace(perSecond)} }

// Take asks for one handshake.
func (p *Pace) Take() (retry time.Duration, ok bool) { return p.pace.take() }

// Sampler bounds log lines.
type Sampler struct{ sampler }

// Allow asks whether a line may pass.
func (s *Sampler) Allow(kind string) (suppressed int, ok bool) { return s.allow(kind) }

// Leaving returns how many connections their browsers have left, but which have not ended.
func (s *Server) Leaving() (n int) {
	for _, c := range s.snapshot() {
		c.mu.Lock()
		if c.left && !c.ended {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// Cause is a row of the table of causes.
type Cause struct {
	Name   string
	Code   int
	Text   string
	Status int
	Retry  bool
}

// Causes returns the table, as refusals and close frames tell it.
func Causes() []Cause {
	var list []Cause
	for _, c := range append(slices.Clip(causes), internal) {
		c = c.at(c.err)
		list = append(list, Cause{c.name, int(c.code), c.text, c.status, c.retry > 0 || c.how.is(timed)})
	}
	return list
}

// UpgradeTo lets the next handshakes lead to a transport, whatever they came by.
func (s *Server) UpgradeTo(t Transport) {
	h := s.now.Load()
	h.kinds[0] = kindsOf(leadingTo{h.kinds[0].carrier, t}, &h.options)
}

type leadingTo struct {
	Carrier

	transport Transport
}

func (l leadingTo) Upgrade(http.ResponseWriter, *http.Request, socket.Budget) (Transport, error) {
	return l.transport, nil
}

// ConnBytes is the size of a connection's own object.
const ConnBytes = unsafe.Sizeof(conn{})

// Snapshot copies the list of connections.
func (s *Server) Snapshot() { s.snapshot() }

// Crowd returns a server with so many idle connections of 1,000 organizations, without sockets.
func Crowd(tb testing.TB, size int) *Server {
	tb.Helper()
	s := new(Server)
	h := newHost(s.shared, Options{}.withDefaults())
	s.now.Store(h)
	s.limits = newLimits(&h.options)
	ks := h.kinds[0]
	route := &consumer.Route{Pattern: "/ws/events"}
	for i := range size {
		org, err1 := orgctx.ParseID(fmt.Sprint("org", i%1000))
		room, err2 := event.NewGroup(org, fmt.Sprint("room.", i%50_000))
		all, err3 := event.NewGroup(org, "all")
		user := fmt.Sprint("user", i)
		b, err4 := s.limits.takeLocal(owner{org, user})
		if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
			tb.Fatal(err1, err2, err3, err4)
		}
		c := &conn{
			client:  client{host: h, kind: &ks.of[0][1], id: rand.Text(), identity: session.Identity{UserID: user, Organization: org}, route: route, budget: b},
			started: time.Now(), index: int32(i),
		}
		c.groups.groups = []event.Group{all, room}
		c.writer.client = &c.client
		c.writer.box.Init(&c.kind.outbox, &c.writer)
		s.conns = append(s.conns, c)
	}
	return s
}

// Accounts returns of how many organizations the server has accounts.
func Accounts(s *Server) int { return len(s.limits.meter.all()) }

// Told is what clients are told of an error.
type Told struct {
	Name   string // of a refusal, empty if there is none
	Status int
	Code   int
	Reason string // of the close frame, empty if it has none or tells a time
}

// Table returns what clients can be told.
func Table() []Told {
	var list []Told
	for _, c := range append(slices.Clone(causes), internal) {
		list = append(list, Told{c.name, c.status, int(c.code), c.text})
	}
	return list
}

// Frames returns the types of frames that this package sends, by the names of their schemas in
// docs/api.
func Frames() map[string]reflect.Type {
	return map[string]reflect.Type{"Welcome": reflect.TypeFor[welcomeFrame](), "Gap": reflect.TypeFor[gapFrame]()}
}

// DrainText returns the reason of a close frame that tells a time in milliseconds.
func DrainText(ms int64) string { return retryText(time.Duration(ms) * time.Millisecond) }

// Crew runs functions.
type Crew struct{ crew }

// CrewSize is how many goroutines of a Crew may wait.
const CrewSize = crewSize

// Run has a function run.
func (k *Crew) Run(fn func()) { k.run(fn) }

// RunAndWait runs a function.
func (k *Crew) RunAndWait(fn func()) { k.runAndWait(fn) }

// Trim ends goroutines that had nothing to do.
func (k *Crew) Trim() { k.trim() }

// Close ends all goroutines that wait.
func (k *Crew) Close() { k.close() }

// Idle returns how many goroutines wait.
func (k *Crew) Idle() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.idle)
}

// Endings returns the names of the causes that end an open connection, as the observer hears them.
func Endings() (names []string) {
	for _, c := range append(slices.Clip(causes), internal) {
		names = append(names, c.ending())
	}
	return names
}
