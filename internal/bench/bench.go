// Package bench is the load generator behind `gateway bench`. It opens connections, signs in,
// joins groups, publishes through Redis, checks every single delivery and reports what the server
// spent on it. It knows the server from outside only: its protocol, its Redis names, its cookies.
//
// The client must cost far less than the server it measures. So there is no goroutine per
// connection: a few event loops over epoll read into one shared buffer each and find what they
// check without decoding JSON (see payload.go).
//
// The same client and the same load also run against a server that only writes ([Limit]), so that
// every figure has its ratio to what the machine allows.
package bench

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

const usageText = `usage: gateway bench [flags]          measure a running gateway
       gateway bench limit [flags]    measure what the machine allows: the same load on a bare write loop
       gateway bench compare [flags]  measure both in turn and print medians and ratios

Opens connections, signs in with minted cookies, joins groups, publishes through Redis and checks
every delivery: nothing of another organization or group, nothing lost, twice or out of order.
Organizations are bench-0, bench-1 …, their groups room.0, room.1 … The gateway's settings for
session key, Redis and prefix are taken over from its environment.

Exit codes: 0 all well; 1 events lost, duplicated or reordered, connections dropped, or (with --admin)
goroutines or heap of connections left behind; 2 anything foreign delivered; 3 nothing measured.

Examples:
  # 1,000 connections in one group, one event in flight, CPU time of the gateway with process id 4711
  gateway bench --pid 4711
  # ratio to the limit of the machine, medians of five rounds
  gateway bench compare --rounds 5 --pid 4711 --in-flight 64
  # 5,000 connections in 1,000 groups of 5, 2,000 events per second
  gateway bench --conns 5000 --orgs 10 --groups-per-org 100 --rate 2000 --pid 4711
  # what does one reader cost that has stalled? The flags in --against change the right-hand side
  gateway bench compare --pid 4711 --rate 100 --stalled 1 --against "--stalled 0"
  # one noisy organization beside 999 quiet ones, against quiet ones alone; then against the same
  # noise where nobody listens, which costs Redis and this load generator as much and the gateway nothing
  gateway bench compare --pid 4711 --conns 2000 --orgs 1000 --rate 1000 --noisy --against "--noisy=false"
  gateway bench compare --pid 4711 --conns 2000 --orgs 1000 --rate 1000 --noisy --against "--noisy-unheard"
  # memory of 10,000 idle connections in two groups each, heap and stacks apart, of a gateway that
  # was just started (it keeps some memory of earlier connections)
  gateway bench --conns 10000 --groups-per-org 2 --groups-per-conn 2 --idle --pid 4711 --admin http://127.0.0.1:9090
  # handshakes: everyone comes back at once, over and over
  gateway bench --conns 2000 --groups-per-conn 0 --storm --pid 4711

Flags:
`

// Main is the command line: args follow the word bench. What defaults holds is overridden by
// flags; it is where the caller puts what its own configuration says, above all
// [Options.Sessions]. Reports go to stdout, progress and errors to stderr. It returns the exit
// code.
func Main(ctx context.Context, args []string, defaults Options, stdout, stderr io.Writer) int {
	code, err := dispatch(ctx, args, defaults, stdout, stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintf(stderr, "bench: %v\n", err) // nobody to tell if nobody reads
	}
	return code
}

func dispatch(ctx context.Context, args []string, defaults Options, stdout, stderr io.Writer) (int, error) {
	command := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	opts := defaults
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	opts.flags(fs)
	asJSON := fs.Bool("json", false, "write JSON to standard output, and the table to standard error")
	rounds, against := 5, "limit"
	switch command {
	case "", "limit":
	case "compare":
		fs.IntVar(&rounds, "rounds", rounds, "how often to measure each side")
		fs.StringVar(&against, "against", against, "what to compare with: limit, or `flags` in one argument that change the right-hand side")
	case limitServer:
		if err := serveLimit(ctx, os.Stdin, stdout); err != nil {
			return ExitFailed, err
		}
		return ExitOK, nil
	default:
		return ExitFailed, fmt.Errorf("unknown command %q; see gateway bench --help", command)
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fs.SetOutput(stdout)
		if _, err := io.WriteString(stdout, usageText); err != nil {
			return ExitFailed, fmt.Errorf("help: %w", err)
		}
		fs.PrintDefaults()
		return ExitOK, nil
	case err != nil:
		return ExitFailed, err
	case fs.NArg() > 0:
		return ExitFailed, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}

	var result interface {
		Table(w io.Writer) error
		ExitCode() int
	}
	switch command {
	case "compare":
		if rounds < 1 {
			return ExitFailed, errors.New("rounds is not positive")
		}
		right, err := opponent(opts, against)
		if err != nil {
			return ExitFailed, err
		}
		c, err := compare(ctx, gatewayWith(opts, "gateway"), right, rounds, stderr)
		if err != nil {
			return ExitFailed, err
		}
		result = &c
	default:
		measure := Run
		if command == "limit" {
			measure = Limit
		}
		rep, err := measure(ctx, opts, stderr)
		if err != nil {
			return ExitFailed, err
		}
		result = &rep
	}
	table := stdout
	if *asJSON {
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

func gatewayWith(opts Options, name string) measurement {
	return measurement{name: name, run: func(ctx context.Context, progress io.Writer) (Report, error) {
		return Run(ctx, opts, progress)
	}}
}

// opponent returns the right-hand side of a comparison.
func opponent(opts Options, against string) (measurement, error) {
	if against == "limit" {
		return measurement{name: "limit", run: func(ctx context.Context, progress io.Writer) (Report, error) {
			return Limit(ctx, opts, progress)
		}}, nil
	}
	fs := flag.NewFlagSet("against", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	opts.flags(fs)
	if err := fs.Parse(strings.Fields(against)); err != nil {
		return measurement{}, fmt.Errorf("against: %w", err)
	}
	if fs.NArg() > 0 || fs.NFlag() == 0 {
		return measurement{}, fmt.Errorf("against: %q is neither limit nor flags", against)
	}
	return gatewayWith(opts, against), nil
}
