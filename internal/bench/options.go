package bench

import (
	"errors"
	"flag"
	"fmt"
	"net/url"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
)

// Options say what load to make and what to measure. [DefaultOptions] has values for all of them.
type Options struct {
	// URL is the server's WebSocket address, ws:// only: TLS would be measured instead of delivery.
	URL string
	// Origin is the Origin header. Empty means the origin of URL, which servers allow by default.
	Origin string
	// Redis is the redis:// address at which events are published.
	Redis string
	// Prefix starts all names in Redis. It must be the server's.
	Prefix string
	// Sessions signs the connections in. Its keys must be the server's. There is no flag for it.
	Sessions Minter
	// Pid is the server's process, for its CPU time and memory. 0 means not to measure them, or to
	// take them from Admin.
	Pid int
	// Admin is the address of the server's private listener, for heap, stacks and goroutines from
	// its /metrics. Empty means not to ask.
	Admin string

	// Conns is how many connections to open.
	Conns int
	// Orgs is how many organisations they belong to, in turn: bench-0, bench-1 and so on. Each
	// connection has a user of its own.
	Orgs int
	// GroupsPerOrg is how many groups each organisation has. Groups of different organisations bear
	// the same names.
	GroupsPerOrg int
	// GroupsPerConn is how many of them each connection joins. With 0 the handshake is all it does.
	GroupsPerConn int
	// GroupPrefix and a number make a group's name. The server's policy must allow it to members.
	GroupPrefix string

	// Rate is how many events are published per second, over all groups in turn. 0 means as fast as
	// InFlight allows.
	Rate float64
	// InFlight is how many events may be on their way at once if Rate is 0: the next one is
	// published when one of them has reached all its receivers.
	InFlight int
	// Payload is the size of an event in bytes. One smaller than its fields need grows to that.
	Payload int
	// Warmup is how long the load runs before anything is measured.
	Warmup time.Duration
	// Duration is how long it is measured.
	Duration time.Duration

	// Churn is how many connections per second leave and come back.
	Churn float64
	// Noisy has one of the organisations, named bench-noisy, publish NoisyRate events per second beside
	// the others, whose figures stand apart from its own.
	Noisy bool
	// NoisyRate 0 means as fast as Redis takes them.
	NoisyRate float64
	// NoisyUnheard has it publish to a group that nobody joined. The server has nothing to do with
	// those events, so what they still cost the others is what Redis and the load generator take.
	NoisyUnheard bool
	// Stalled is how many connections stop reading once they have joined.
	Stalled int
	// Storm closes all connections at once and opens them again, over and over, instead of
	// publishing (unless Rate is given).
	Storm bool
	// Idle publishes nothing: open connections and what they cost.
	Idle bool
	// Compress offers permessage-deflate.
	Compress bool

	// Threads is how many event loops receive. 0 means one for every four processors.
	Threads int
	// Sources is how many loopback addresses to connect from.
	Sources int
	// Parallel is how many handshakes are under way at once.
	Parallel int
	// Nap is a pause of each event loop between looking for what arrived. It makes the client
	// cheaper and adds up to that much to the latencies. 0 means none.
	Nap time.Duration
}

// DefaultOptions returns the options of `gateway bench` without flags.
func DefaultOptions() Options {
	return Options{
		URL:           "ws://127.0.0.1:8080/ws/events",
		Redis:         "redis://127.0.0.1:6379/0",
		Prefix:        keyspace.DefaultPrefix,
		Conns:         1000,
		Orgs:          1,
		GroupsPerOrg:  1,
		GroupsPerConn: 1,
		GroupPrefix:   "room.",
		InFlight:      1,
		Payload:       128,
		Warmup:        2 * time.Second,
		Duration:      10 * time.Second,
		Sources:       16,
		Parallel:      256,
	}
}

// flags defines the command line. The values that o has are the defaults.
func (o *Options) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.URL, "url", o.URL, "WebSocket `address` of the server")
	fs.StringVar(&o.Origin, "origin", o.Origin, "Origin header (default: the origin of --url)")
	fs.StringVar(&o.Redis, "redis", o.Redis, "Redis `address` to publish at")
	fs.StringVar(&o.Prefix, "prefix", o.Prefix, "start of all names in Redis, the server's")
	fs.IntVar(&o.Pid, "pid", o.Pid, "process `id` of the server, to measure its CPU time and memory")
	fs.StringVar(&o.Admin, "admin", o.Admin, "`address` of the server's private listener (http://…), to ask /metrics for heap, stacks and goroutines")

	fs.IntVar(&o.Conns, "conns", o.Conns, "connections")
	fs.IntVar(&o.Orgs, "orgs", o.Orgs, "organizations they belong to, in turn")
	fs.IntVar(&o.GroupsPerOrg, "groups-per-org", o.GroupsPerOrg, "groups in each organization")
	fs.IntVar(&o.GroupsPerConn, "groups-per-conn", o.GroupsPerConn, "groups that each connection joins; 0 measures bare handshakes")
	fs.StringVar(&o.GroupPrefix, "group-prefix", o.GroupPrefix, "start of group names, followed by a number")

	fs.Float64Var(&o.Rate, "rate", o.Rate, "events per second over all groups; 0: as fast as --in-flight allows")
	fs.IntVar(&o.InFlight, "in-flight", o.InFlight, "events on their way at once if --rate is 0")
	fs.IntVar(&o.Payload, "payload", o.Payload, "`bytes` of an event")
	fs.DurationVar(&o.Warmup, "warmup", o.Warmup, "load before the measurement")
	fs.DurationVar(&o.Duration, "duration", o.Duration, "length of the measurement")

	fs.Float64Var(&o.Churn, "churn", o.Churn, "connections per second that leave and come back")
	fs.BoolVar(&o.Noisy, "noisy", o.Noisy, "one of the organizations publishes at full speed beside the others")
	fs.Float64Var(&o.NoisyRate, "noisy-rate", o.NoisyRate, "events per second of the noisy organization; 0: as fast as Redis takes them")
	fs.BoolVar(&o.NoisyUnheard, "noisy-unheard", o.NoisyUnheard, "the noisy organization publishes to a group that nobody joined")
	fs.IntVar(&o.Stalled, "stalled", o.Stalled, "connections that stop reading")
	fs.BoolVar(&o.Storm, "storm", o.Storm, "all connections leave and come back at once, over and over; measures handshakes")
	fs.BoolVar(&o.Idle, "idle", o.Idle, "publish nothing; measures memory")
	fs.BoolVar(&o.Compress, "compress", o.Compress, "offer permessage-deflate")

	fs.IntVar(&o.Threads, "threads", o.Threads, "event loops of the client; 0: one for every four processors")
	fs.IntVar(&o.Sources, "sources", o.Sources, "loopback addresses to connect from")
	fs.IntVar(&o.Parallel, "parallel", o.Parallel, "handshakes under way at once")
	fs.DurationVar(&o.Nap, "nap", o.Nap, "pause of the client between looking for what arrived; cheaper, but adds to latencies")
}

// validate reports every mistake at once. bare tells that the server is the limit's own.
func (o *Options) validate(bare bool) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if !bare {
		u, err := url.Parse(o.URL)
		check(err == nil && u.Scheme == "ws" && u.Host != "", "url %q is not ws://HOST/PATH", o.URL)
		check(o.Sessions != nil, "no session key to sign in with")
	}
	_, err := keyspace.New(o.Prefix)
	check(err == nil, "prefix: %w", err)
	check(o.Conns > 0, "conns is not positive")
	check(o.Orgs > 0, "orgs is not positive")
	check(o.GroupsPerOrg > 0, "groups-per-org is not positive")
	check(o.GroupsPerConn >= 0 && o.GroupsPerConn <= o.GroupsPerOrg, "groups-per-conn is not 0 to groups-per-org")
	check(event.ValidGroupName(o.GroupPrefix+"1000000"), "group-prefix: %w", event.ErrInvalidGroup)
	check(o.Rate >= 0 && o.NoisyRate >= 0 && o.Churn >= 0, "a rate is negative")
	check(o.InFlight > 0, "in-flight is not positive")
	check(o.Payload >= 0 && o.Payload <= maxFrame, "payload is not 0 to %d", maxFrame)
	check(o.Warmup >= 0 && o.Duration > 0, "warmup or duration is not positive")
	check(o.Stalled >= 0 && o.Stalled < o.Conns, "stalled is not 0 to conns-1")
	check(!o.Noisy || o.Orgs > 1, "noisy needs two organizations at least")
	check(o.Noisy || !o.NoisyUnheard, "noisy-unheard needs noisy")
	check(!o.Idle || !o.Storm, "idle and storm exclude each other")
	check(o.Threads >= 0 && o.Sources > 0 && o.Sources < 60000 && o.Parallel > 0, "threads, sources or parallel is out of range")
	check(o.Nap >= 0 && o.Nap < time.Second, "nap is not 0 to 1s")
	return errors.Join(errs...)
}

// publishes reports whether the options ask for events.
func (o *Options) publishes() bool {
	return !o.Idle && o.GroupsPerConn > 0 && (!o.Storm || o.Rate > 0)
}

// bare returns the options without what the limit's server cannot do.
func (o *Options) bare() Options {
	bare := *o
	bare.Noisy, bare.NoisyUnheard, bare.Stalled, bare.Compress, bare.Admin = false, false, 0, false, ""
	return bare
}
