package bench

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"orgcast/internal/config"
	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/redisclient"
)

// Options describe the load and what to measure. [DefaultOptions] has values for all of them.
type Options struct {
	// URL is the server's WebSocket address, ws:// or wss://. Several servers are comma-separated;
	// connections go to them in turn.
	URL string
	// Insecure accepts any certificate.
	Insecure bool
	// Resume resumes the TLS session when a connection comes back, as browsers do.
	Resume bool
	// sessions are those of an earlier run, one for each connection, or nil.
	sessions []tls.ClientSessionCache
	// Origin is the Origin header. Empty means the origin of URL, which servers allow by default.
	Origin string
	// Redis is where events are published: a server, the master that Sentinels watch, or a Cluster.
	Redis redisclient.Options
	// Prefix starts all names in Redis. It must be the server's.
	Prefix string
	// Sessions signs the connections in. Its keys must be the server's. There is no flag for it.
	Sessions Minter
	// Pids are the server's processes, for their CPU time and memory together: gateways, and proxies
	// in front of them. None means not to measure them, or to take them from Admin.
	Pids []int
	// Admin is the address of the server's private listener, for heap, stacks and goroutines from
	// its /metrics. Empty means not to ask.
	Admin string

	// Conns is how many connections to open.
	Conns int
	// Orgs is how many organizations they belong to, in turn: bench-0, bench-1 and so on. Each
	// connection has its own user.
	Orgs int
	// GroupsPerOrg is how many groups each organization has. Groups of different organizations have
	// the same names.
	GroupsPerOrg int
	// GroupsPerConn is how many of them each connection joins. With 0, connections only do the
	// handshake.
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
	// Noisy makes one of the organizations, named bench-noisy, publish NoisyRate events per second.
	// The figures of the others are listed separately.
	Noisy bool
	// NoisyRate 0 means as fast as Redis accepts them.
	NoisyRate float64
	// NoisyUnheard makes it publish to a group without members. The server does not receive those
	// events, so their cost to the others is that of Redis and the load generator.
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
	// SSE receives server-sent events instead of WebSocket frames.
	SSE bool

	// Threads is how many event loops receive. 0 means one for every four processors.
	Threads int
	// Sources is how many loopback addresses to connect from.
	Sources int
	// Parallel is how many handshakes are in progress at once.
	Parallel int
	// Nap is a pause of each event loop between checks for arrived bytes. It makes the client
	// cheaper and adds up to that much to the latencies. 0 means none.
	Nap time.Duration
}

// DefaultOptions returns the options of `gateway bench` without flags.
func DefaultOptions() Options {
	return Options{
		URL:           "ws://127.0.0.1:8080/ws/events",
		Redis:         redisclient.Options{Name: "redis", URL: "redis://127.0.0.1:6379/0"},
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

// declare declares the load. The values that o has are the defaults.
func (o *Options) declare(set *config.Set) {
	set.FlagsOnly()
	set.String(&o.URL, "url", o.URL, "WebSocket address of the server; several are comma-separated, and connections go to them in turn", nil)
	set.Bool(&o.Insecure, "insecure", o.Insecure, "accept any certificate of the server")
	set.Bool(&o.Resume, "resume", o.Resume, "resume the TLS session when a client reconnects")
	set.String(&o.Origin, "origin", o.Origin, "Origin header; default: the origin of --url", nil)
	var pids []string
	set.List(&pids, "pid", "", "process ID of the server, to measure its CPU time and memory; several are comma-separated, and measured together", func(list []string) error {
		o.Pids = nil
		for _, text := range list {
			pid, err := strconv.Atoi(text)
			if err != nil || pid < 0 {
				return fmt.Errorf("%q is not a process ID", text)
			}
			o.Pids = append(o.Pids, pid)
		}
		return nil
	})
	set.String(&o.Admin, "admin", o.Admin, "address of the server's private listener (http://…), to ask /metrics for heap, stacks and goroutines", nil)

	set.Int(&o.Conns, "conns", o.Conns, 1, "connections")
	set.Int(&o.Orgs, "orgs", o.Orgs, 1, "organizations that the connections belong to, in turn")
	set.Int(&o.GroupsPerOrg, "groups-per-org", o.GroupsPerOrg, 1, "groups in each organization")
	set.Int(&o.GroupsPerConn, "groups-per-conn", o.GroupsPerConn, 0, "groups that each connection joins; 0 measures bare handshakes")
	set.String(&o.GroupPrefix, "group-prefix", o.GroupPrefix, "prefix of group names, followed by a number", nil)

	set.FloatFrom(&o.Rate, "rate", o.Rate, 0, "events per second over all groups; 0 is as fast as --in-flight allows")
	set.Int(&o.InFlight, "in-flight", o.InFlight, 1, "events in flight at the same time if --rate is 0")
	set.Int(&o.Payload, "payload", o.Payload, 0, "size of an event, in bytes")
	set.Duration(&o.Warmup, "warmup", o.Warmup, 0, "how long to run the load before the measurement")
	set.Duration(&o.Duration, "duration", o.Duration, time.Nanosecond, "how long to measure")

	set.FloatFrom(&o.Churn, "churn", o.Churn, 0, "connections per second that close and reconnect")
	set.Bool(&o.Noisy, "noisy", o.Noisy, "let one of the organizations publish at full speed")
	set.FloatFrom(&o.NoisyRate, "noisy-rate", o.NoisyRate, 0, "events per second of the noisy organization; 0 is as fast as Redis accepts them")
	set.Bool(&o.NoisyUnheard, "noisy-unheard", o.NoisyUnheard, "let the noisy organization publish to a group that nobody joined")
	set.Int(&o.Stalled, "stalled", o.Stalled, 0, "connections that stop reading")
	set.Bool(&o.Storm, "storm", o.Storm, "close and reopen all connections at once, over and over, to measure handshakes")
	set.Bool(&o.Idle, "idle", o.Idle, "publish nothing, to measure memory")
	set.Bool(&o.Compress, "compress", o.Compress, "offer permessage-deflate")
	set.Bool(&o.SSE, "sse", o.SSE, "receive server-sent events, from the path below /sse/ that belongs to --url")

	set.Int(&o.Threads, "threads", o.Threads, 0, "event loops of the client; 0 is one for every four processors")
	set.Int(&o.Sources, "sources", o.Sources, 1, "loopback addresses to connect from")
	set.Int(&o.Parallel, "parallel", o.Parallel, 1, "handshakes in progress at the same time")
	set.Duration(&o.Nap, "nap", o.Nap, 0, "pause of the client between reads; saves CPU time, but adds to latencies")
}

// validate reports every mistake at once. bare says that the server is the limit's own.
func (o *Options) validate(bare bool) error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	if !bare {
		for _, address := range o.urls() {
			u, err := url.Parse(address)
			check(err == nil && (u.Scheme == "ws" || u.Scheme == "wss") && u.Host != "", "--url: %q must be ws://HOST/PATH or wss://HOST/PATH", address)
		}
		err := o.Redis.Check()
		check(err == nil, "%w", err)
		check(o.Sessions != nil, "no session keys to sign in with: set --session-keys or --session-store=redis")
	}
	_, err := keyspace.New(o.Prefix)
	check(err == nil, "--prefix: %w", err)
	check(o.Conns > 0, "--conns: must be positive")
	check(o.Orgs > 0, "--orgs: must be positive")
	check(o.GroupsPerOrg > 0, "--groups-per-org: must be positive")
	check(o.GroupsPerConn >= 0 && o.GroupsPerConn <= o.GroupsPerOrg, "--groups-per-conn: must be between 0 and --groups-per-org")
	check(event.ValidGroupName(o.GroupPrefix+"1000000"), "--group-prefix: %w", event.ErrInvalidGroup)
	check(o.Rate >= 0 && o.NoisyRate >= 0 && o.Churn >= 0, "--rate, --noisy-rate and --churn: must not be negative")
	check(o.InFlight > 0, "--in-flight: must be positive")
	check(o.Payload >= 0 && o.Payload <= maxEvent, "--payload: must be between 0 and %d", maxEvent)
	check(o.Warmup >= 0 && o.Duration > 0, "--warmup and --duration: must be positive")
	check(o.Stalled >= 0 && o.Stalled < o.Conns, "--stalled: must be less than --conns")
	check(!o.Noisy || o.Orgs > 1, "--noisy: requires at least two organizations in --orgs")
	check(o.Noisy || !o.NoisyUnheard, "--noisy-unheard: requires --noisy")
	check(!o.SSE || !o.Compress, "--sse and --compress: must not be set together")
	check(!o.Idle || !o.Storm, "--idle and --storm: must not be set together")
	check(o.Threads >= 0, "--threads: must not be negative")
	check(o.Sources > 0 && o.Sources < 60000, "--sources: must be between 1 and 59999")
	check(o.Parallel > 0, "--parallel: must be positive")
	check(o.Nap >= 0 && o.Nap < time.Second, "--nap: must be less than 1s")
	return errors.Join(errs...)
}

// publishes reports whether the options ask for events.
func (o *Options) publishes() bool {
	return !o.Idle && o.GroupsPerConn > 0 && (!o.Storm || o.Rate > 0)
}

// bare returns the options without what the limit's server cannot do.
func (o *Options) bare() Options {
	bare := *o
	bare.Noisy, bare.NoisyUnheard, bare.Stalled, bare.Compress, bare.SSE, bare.Admin = false, false, 0, false, false, ""
	return bare
}

// urls returns the addresses in URL.
func (o *Options) urls() []string { return strings.Split(o.URL, ",") }

// isSecure reports whether a URL, or the first of several, asks for TLS.
func isSecure(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "wss"
}
