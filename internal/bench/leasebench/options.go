package leasebench

import (
	"errors"
	"net/url"
	"time"

	"orgcast/internal/config"
)

// Usage is the help of `gateway bench lease`.
const Usage = `
Measure how soon a gateway closes sockets whose session or membership has ended:

  gateway bench lease [SETTINGS]

It opens a socket for each of many users, in organizations of 20, and publishes events. Then users log
out, switch organizations, are removed or change roles, and organizations are suspended, each with and
without an announcement. The table shows the time from the change in Redis to the close frame, or for
a suspension to the last of the organization's 20 close frames. With --outage, it stops Redis for a
while at the end. With --idle, it measures only what re-checking the sockets costs.

The gateway must run with --session-store=redis and --directory=redis. Its Redis must be used for this
test only, because the command writes organizations org0, org1 … and users user0, user1 … into it.
Sessions and Redis have the same flags and variables as in serve; the other settings are flags only.

Exit codes: 0 passed; 1 a promise was broken; 3 nothing measured.
`

// Options say what to measure. [DefaultOptions] has values for all of them.
type Options struct {
	// URL is the gateway's WebSocket address.
	URL string
	// Origin is the Origin header. Empty means the origin of URL.
	Origin string
	// Sockets is how many users there are, each with one socket.
	Sockets int
	// Trials is how often each act is measured.
	Trials int
	// Rate is how many events are published per second, each to a whole organization.
	Rate int

	// Announced and Unannounced are how long a socket may stay after an act, and Deadline how long
	// without Redis. Slack is added to each: on a busy machine the measurement itself comes late.
	Announced, Unannounced, Deadline, Slack time.Duration

	// Idle measures only what watching over the sockets costs, for so long. Warmup is the time
	// before that, after the rush of handshakes.
	Idle, Warmup time.Duration
	// Outage is how long Redis hangs at the end.
	Outage time.Duration
	// GatewayPID and RedisPID are processes on this machine. Idle needs both, Outage that of Redis.
	GatewayPID, RedisPID int
}

// DefaultOptions returns the options of `gateway bench lease` without flags.
func DefaultOptions() Options {
	return Options{
		URL: "ws://127.0.0.1:8080/ws/events", Sockets: 1000, Trials: 200, Rate: 200,
		Announced: time.Second, Unannounced: 5 * time.Second, Deadline: 30 * time.Second, Slack: 500 * time.Millisecond,
		Warmup: 10 * time.Second,
	}
}

// Declare declares the settings. The values that o has are the defaults.
func (o *Options) Declare(set *config.Set) {
	set.FlagsOnly()
	set.String(&o.URL, "url", o.URL, "WebSocket address of the gateway", nil)
	set.String(&o.Origin, "origin", o.Origin, "Origin header; default: the origin of --url", nil)
	set.Int(&o.Sockets, "sockets", o.Sockets, 1, "open sockets; a multiple of 20")
	set.Int(&o.Trials, "trials", o.Trials, 1, "trials of each kind")
	set.Int(&o.Rate, "rate", o.Rate, 1, "events per second, each for a whole organization")
	set.Duration(&o.Announced, "announced-limit", o.Announced, 0, "how long a socket may stay open after an announced change")
	set.Duration(&o.Unannounced, "unannounced-limit", o.Unannounced, 0, "how long a socket may stay open after an unannounced change: --lease-period of the gateway")
	set.Duration(&o.Deadline, "deadline", o.Deadline, 0, "how long a socket may stay open without Redis: --lease-deadline of the gateway")
	set.Duration(&o.Slack, "slack", o.Slack, 0, "added to each limit, because a busy machine also delays the measurement")
	set.Duration(&o.Idle, "idle", o.Idle, 0, "measure only what re-checking the sockets costs, for this long; requires --pid and --redis-pid")
	set.Duration(&o.Warmup, "warmup", o.Warmup, 0, "time between the handshakes and --idle")
	set.Duration(&o.Outage, "outage", o.Outage, 0, "at the end, stop Redis for this long; requires --redis-pid")
	set.Int(&o.GatewayPID, "pid", o.GatewayPID, 0, "process ID of the gateway, to measure its CPU time and memory")
	set.Int(&o.RedisPID, "redis-pid", o.RedisPID, 0, "process ID of Redis, to measure its CPU time and to stop it")
}

// complete fills in what is empty. It reports every mistake at once.
func (o *Options) complete() error {
	var errs []error
	check := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New(text))
		}
	}
	u, err := url.Parse(o.URL)
	check(err == nil && u.Scheme == "ws" && u.Host != "", "--url: must be ws://HOST/PATH")
	if err == nil && o.Origin == "" {
		o.Origin = "http://" + u.Host
	}
	check(o.Sockets >= 2*usersPerOrganization && o.Sockets%usersPerOrganization == 0, "--sockets: must be a multiple of 20, and at least 40")
	check(o.Trials > 0, "--trials: must be positive")
	check(o.Rate > 0, "--rate: must be positive")
	check(o.Idle == 0 || (o.GatewayPID > 0 && o.RedisPID > 0), "--idle: requires --pid and --redis-pid")
	check(o.Outage == 0 || o.RedisPID > 0, "--outage: requires --redis-pid")
	return errors.Join(errs...)
}
