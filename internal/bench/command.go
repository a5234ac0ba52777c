package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"orgcast/internal/config"
	"orgcast/internal/redisclient"
)

// Usage is the help of `gateway bench`.
const Usage = `
Load-test a gateway and check every delivery:

  gateway bench [SETTINGS]             measure a running gateway
  gateway bench limit [SETTINGS]       measure what the machine allows: the same load on a bare write loop
  gateway bench subscriber [SETTINGS]  measure the way through Redis: the same load on a program that only subscribes and writes
  gateway bench compare [SETTINGS]     measure a gateway and one of them in turn, and print medians and ratios
  gateway bench arrive [SETTINGS]      measure what a connection costs until its subscriptions are confirmed: 1, 16 and 256 at once
  gateway bench lease [SETTINGS]       measure how soon revoked sockets are closed; has its own settings

It opens connections with minted cookies, joins groups, publishes through Redis and checks every
delivery: nothing from another organization or group, nothing lost, duplicated or out of order. The
organizations are bench-0, bench-1 …, their groups room.0, room.1 … Sessions and Redis have the same
flags and variables as in serve; the settings of the load are flags only.

Exit codes: 0 passed; 1 events lost, duplicated or reordered, connections dropped, or (with --admin)
goroutines or heap of connections left behind; 2 an event delivered to another organization or group;
3 nothing measured.

Examples:
  # 1,000 connections in one group, one event in flight; CPU time of the gateway with process ID 4711
  gateway bench --pid 4711
  # the same with 64 events in flight, compared with the limit of the machine; medians of five rounds
  gateway bench compare --rounds 5 --pid 4711 --in-flight 64
  # events to one browser each, compared with a program that only subscribes at Redis and writes
  gateway bench compare --pid 4711 --conns 100 --groups-per-org 100 --rate 2000 --against subscriber
  # 5,000 connections in 1,000 groups of 5, 2,000 events per second
  gateway bench --conns 5000 --orgs 10 --groups-per-org 100 --rate 2000 --pid 4711
  # the cost of one stalled reader; the settings in --against change the right-hand side
  gateway bench compare --pid 4711 --rate 100 --stalled 1 --against "--stalled 0"
  # one noisy organization and 999 quiet ones, compared with the quiet ones alone; then with the same
  # load on a group that nobody joined, which costs Redis and the load generator as much, but not the gateway
  gateway bench compare --pid 4711 --conns 2000 --orgs 1000 --rate 1000 --noisy --against "--noisy=false"
  gateway bench compare --pid 4711 --conns 2000 --orgs 1000 --rate 1000 --noisy --against "--noisy-unheard"
  # memory of 10,000 idle connections in two groups each, with heap and stacks listed separately; start
  # the gateway afresh, because it keeps some memory of earlier connections
  gateway bench --conns 10000 --groups-per-org 2 --groups-per-conn 2 --idle --pid 4711 --admin http://127.0.0.1:9090
  # arriving over TLS, with full and with resumed handshakes
  gateway bench arrive --conns 2000 --pid 4711 --url wss://127.0.0.1:8443/ws/events --insecure
  # handshakes: all connections reconnect at once, over and over
  gateway bench --conns 2000 --groups-per-conn 0 --storm --pid 4711
`

// Words that may follow `gateway bench`. Without one, the gateway is measured.
const (
	wordLimit      = "limit"
	wordSubscriber = "subscriber"
	wordCompare    = "compare"
	wordArrive     = "arrive"
)

// Command is one call of `gateway bench`.
type Command struct {
	Options

	word    string
	asJSON  bool
	rounds  int
	against string
}

// NewCommand returns the command with which args begin, and the remaining arguments.
func NewCommand(args []string) (*Command, []string) {
	c := &Command{Options: DefaultOptions(), rounds: 5, against: wordLimit}
	if len(args) > 0 && slices.Contains([]string{wordLimit, wordSubscriber, wordCompare, wordArrive, limitServer, subscriberServer}, args[0]) {
		c.word, args = args[0], args[1:]
	}
	return c, args
}

// Declare declares the settings of the command, except the server's own: Redis, Prefix and
// Sessions.
func (c *Command) Declare(set *config.Set) {
	c.declare(set)
	set.Bool(&c.asJSON, "json", c.asJSON, "write JSON to standard output, and the table to standard error")
	if c.word == wordArrive {
		set.Int(&c.rounds, "rounds", c.rounds, 1, "how often to measure each number")
	}
	if c.word == wordCompare {
		set.Int(&c.rounds, "rounds", c.rounds, 1, "how often to measure each side")
		set.String(&c.against, "against", c.against, "what to compare with: limit, subscriber, or settings (in one argument) that change the right-hand side", nil)
	}
}

// Run measures. Reports go to stdout, progress to stderr. It returns the exit code; with an error
// that is [ExitFailed].
func (c *Command) Run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if serve := bareServers[c.word]; serve != nil {
		if err := serve(ctx, c.URL, stdin, stdout); err != nil {
			return ExitFailed, err
		}
		return ExitOK, nil
	}
	result, err := c.measure(ctx, stderr)
	if err != nil {
		return ExitFailed, err
	}
	table := stdout
	if c.asJSON {
		table = stderr
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(result); err != nil {
			return ExitFailed, fmt.Errorf("write JSON: %w", err)
		}
	}
	if err := result.Table(table); err != nil {
		return ExitFailed, err
	}
	return result.ExitCode(), nil
}

// bareServers are the servers that the binary runs itself as.
var bareServers = map[string]func(ctx context.Context, over string, stdin io.Reader, stdout io.Writer) error{ //nolint:gochecknoglobals // constant
	limitServer: serveLimit, subscriberServer: serveSubscriber,
}

// result is a [Report], a [Comparison] or [Arrivals].
type result interface {
	Table(w io.Writer) error
	ExitCode() int
}

func (c *Command) measure(ctx context.Context, progress io.Writer) (result, error) {
	switch c.word {
	case wordCompare:
		right, err := c.opponent()
		if err != nil {
			return nil, err
		}
		comparison, err := compare(ctx, gatewayWith(c.Options, "gateway"), right, c.rounds, progress)
		return &comparison, err
	case wordArrive:
		arrivals, err := arrive(ctx, c.Options, c.rounds, progress)
		return &arrivals, err
	case wordLimit, wordSubscriber:
		rep, err := yardsticks[c.word](ctx, c.Options, progress)
		return &rep, err
	default:
		rep, err := Run(ctx, c.Options, progress)
		return &rep, err
	}
}

// yardsticks are what a gateway can be compared with.
var yardsticks = map[string]func(context.Context, Options, io.Writer) (Report, error){ //nolint:gochecknoglobals // constant
	wordLimit: Limit, wordSubscriber: Subscriber,
}

func gatewayWith(opts Options, name string) measurement {
	return measurement{name: name, run: func(ctx context.Context, progress io.Writer) (Report, error) {
		return Run(ctx, opts, progress)
	}}
}

// opponent returns the right-hand side of a comparison.
func (c *Command) opponent() (measurement, error) {
	if yardstick := yardsticks[c.against]; yardstick != nil {
		return measurement{name: c.against, run: func(ctx context.Context, progress io.Writer) (Report, error) {
			return yardstick(ctx, c.Options, progress)
		}}, nil
	}
	opts := c.Options
	set := config.New("against", "")
	opts.declare(set)
	set.String(&opts.Redis.URL, "redis", opts.Redis.URL, "Redis to publish at", nil)
	set.List(&opts.Redis.Cluster, "redis-cluster", strings.Join(opts.Redis.Cluster, ","), "seed nodes of a Redis Cluster to publish in", redisclient.CheckAddresses)
	set.String(&opts.Prefix, "prefix", opts.Prefix, "first part of every name in Redis", nil)
	words := strings.Fields(c.against)
	switch rest, err := set.Parse(words, func(string) string { return "" }); {
	case err != nil:
		return measurement{}, fmt.Errorf("--against: %w", err)
	case len(words) == 0 || len(rest) > 0:
		return measurement{}, fmt.Errorf("--against: %q must be limit, subscriber or settings", c.against)
	}
	return gatewayWith(opts, c.against), nil
}
