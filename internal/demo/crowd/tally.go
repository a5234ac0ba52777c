package crowd

import (
	"math"
	"sync"
	"time"
)

// Figures are what the guests of a run have counted.
type Figures struct {
	// Published is the number of events, Deliveries how often one of them arrived.
	Published  int `json:"published"`
	Deliveries int `json:"deliveries"`
	// Crossed counts deliveries that were not published to the guest's organization in this run.
	Crossed int `json:"crossed"`
	// Repeated counts deliveries of an event that the guest had received before.
	Repeated int `json:"repeated"`
	// Lost counts events that a guest should have received and did not. It is 0 until the run is
	// over, because until then an event may be on its way.
	Lost int `json:"lost"`
	// Gaps counts how often the gateway told a guest that events may be missing.
	Gaps int `json:"gaps"`
	// Ended counts sockets that ended before the run did.
	Ended int `json:"ended"`
	// P50MS and P99MS are the times from before an event is published until a guest has it, in
	// milliseconds: half of the deliveries took at most P50MS, 99 of 100 at most P99MS.
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
}

// Delivery is an event as it arrived at a guest.
type Delivery struct {
	// Organization and ID are fields of the event.
	Organization, ID string
	At               time.Time
}

// Guest is one guest in a [Tally], which alone uses its fields.
type Guest struct {
	organization string
	seen         map[string]struct{} // ids
}

// published is an event of the run.
type published struct {
	organization string
	at           time.Time
	arrived      int  // at how many guests, each counted once
	uncertain    bool // Redis did not confirm it, so it may have been published or not
}

// Tally judges every delivery of one run. It knows what was published to which organization, and
// trusts nothing else: an event that names the guest's organization but was published to another
// one has crossed. Its methods are safe for concurrent use.
type Tally struct {
	mu      sync.Mutex
	events  map[string]*published // by id
	guests  map[string]int        // by organization
	latency latency
	figures Figures
}

// NewTally returns a Tally of a run that has not begun.
func NewTally() *Tally {
	return &Tally{events: make(map[string]*published), guests: make(map[string]int)}
}

// Join adds a guest, who should receive everything that is published to the organization. All
// guests join before the first event is published.
func (t *Tally) Join(organization string) *Guest {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.guests[organization]++
	return &Guest{organization: organization, seen: make(map[string]struct{})}
}

// Publish notes that an event is about to be published to an organization. Its id is not to be
// guessed, and used once.
func (t *Tally) Publish(organization, id string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events[id] = &published{organization: organization, at: at}
	t.figures.Published++
}

// Unconfirmed notes that Redis did not confirm an event. It may arrive, and need not.
func (t *Tally) Unconfirmed(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events[id].uncertain = true
}

// Deliver judges an event that a guest has received.
func (t *Tally) Deliver(g *Guest, d Delivery) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.figures.Deliveries++
	e := t.events[d.ID]
	if e == nil || e.organization != g.organization || d.Organization != g.organization {
		t.figures.Crossed++
		return
	}
	if _, repeated := g.seen[d.ID]; repeated {
		t.figures.Repeated++
		return
	}
	g.seen[d.ID] = struct{}{}
	e.arrived++
	t.latency.add(d.At.Sub(e.at))
}

// Gap notes that the gateway told a guest that events may be missing.
func (t *Tally) Gap() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.figures.Gaps++
}

// End notes that the socket of a guest ended before the run did.
func (t *Tally) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.figures.Ended++
}

// Outstanding returns how many deliveries are still to come.
func (t *Tally) Outstanding() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.outstanding()
}

func (t *Tally) outstanding() (n int) {
	for _, e := range t.events {
		if !e.uncertain {
			n += t.guests[e.organization] - e.arrived
		}
	}
	return n
}

// Close counts what is still to come as lost.
func (t *Tally) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.figures.Lost = t.outstanding()
}

// Figures returns what has been counted so far.
func (t *Tally) Figures() Figures {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.figures
	f.P50MS, f.P99MS = t.latency.quantile(.5), t.latency.quantile(.99)
	return f
}

const (
	// latencyStep is the ratio of neighboring buckets, so that figures are exact to within 2 %.
	latencyStep = 1.02
	// latencyBuckets reach from a microsecond to more than a minute.
	latencyBuckets = 920
)

// latency counts durations in buckets that grow with the value. It belongs to a [Tally].
type latency struct {
	counts [latencyBuckets]int
	total  int
}

func (l *latency) add(d time.Duration) {
	bucket := 0
	if us := float64(d) / float64(time.Microsecond); us > 1 {
		bucket = min(int(math.Log(us)/math.Log(latencyStep)), latencyBuckets-1)
	}
	l.counts[bucket]++
	l.total++
}

// quantile returns the duration that the given share of all durations does not exceed, in
// milliseconds. Without any, it is 0.
func (l *latency) quantile(share float64) (ms float64) {
	rank := int(math.Ceil(share * float64(l.total)))
	for bucket, n := range l.counts {
		if rank -= n; n > 0 && rank <= 0 {
			return math.Pow(latencyStep, float64(bucket+1)) / 1000
		}
	}
	return 0
}
