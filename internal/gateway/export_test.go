package gateway

import (
	"net/http"
	"slices"
	"time"
	"unsafe"

	"orgcast/internal/socket"
)

// Books returns how many entries the server keeps of connections, users and organizations, and how
// many bytes of budgets are in use.
func (s *Server) Books() (entries int, used int64) {
	s.limits.mu.Lock()
	defer s.limits.mu.Unlock()
	for _, b := range s.limits.budgets {
		used += int64(b.waiting.Used()) + b.received.Load()
	}
	return s.limits.total + len(s.limits.users) + len(s.limits.budgets), used
}

// ReturnWindow is the time over which so many clients are told to come back, at a rate.
func ReturnWindow(conns int, window time.Duration, perSecond float64) time.Duration {
	s := &Server{host: host{options: Options{HandshakesPerSecond: perSecond}}}
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
	s.kinds[0] = kindsOf(leadingTo{s.kinds[0].carrier, t}, &s.options)
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
