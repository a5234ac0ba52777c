// Package main is `make measure`: it measures what docs/performance.md says, with its own servers
// on free ports, and writes the figures, the tables and the plots. See [figures] for the file of
// figures, and [renderAll] for what is made of it.
//
// It knows the gateway only as a program: it runs `gateway serve` and `gateway bench`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	quick, render bool
	only          string
	rounds        int
	binary, root  string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	set := flag.NewFlagSet("measure", flag.ContinueOnError)
	set.BoolVar(&o.quick, "quick", false, "one short round of everything, to see that it works; writes to a temporary file only")
	set.BoolVar(&o.render, "render", false, "measure nothing: write tables and plots from the figures that exist")
	set.IntVar(&o.rounds, "rounds", 5, "how often to measure each row of a table that compares; the rest at most 3 times")
	set.StringVar(&o.only, "only", "", "parts to measure, comma-separated; the figures of others stay (default: all: "+strings.Join(partNames(), ", ")+")")
	set.StringVar(&o.binary, "gateway", "bin/gateway", "the program to measure")
	set.StringVar(&o.root, "root", ".", "the root of the repository")
	if err := set.Parse(args); err != nil {
		return err
	}
	f, err := readFigures(o.root)
	if err != nil {
		return err
	}
	if o.render {
		return renderAll(o.root, f)
	}
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	return o.measure(ctx, f, chosen)
}

// choose returns the parts with these names, or all.
func choose(names string) ([]part, error) {
	if names == "" {
		return parts, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--only: %q must be one of %s", name, strings.Join(partNames(), ", "))
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}

// measure measures the chosen parts and writes what came of it, after each of them.
func (o *options) measure(ctx context.Context, f *figures, chosen []part) (err error) {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if f.Machine, err = w.machine(ctx); err != nil {
		return err
	}
	began := time.Now()
	var failed []string
	for i, p := range chosen {
		w.say("part %d of %d: %s", i+1, len(chosen), p.name)
		if err := p.measure(ctx, w, f); err != nil {
			w.say("%s: %v", p.name, err)
			failed = append(failed, p.name) // its old figures stay; the others are measured
			continue
		}
		if o.quick {
			continue
		}
		if err := errors.Join(f.write(o.root), renderAll(o.root, f)); err != nil {
			return err
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	w.say("done after %s", time.Since(began).Round(time.Second))
	if o.quick { // figures of one round are nothing to publish
		return f.encode(os.Stdout)
	}
	return nil
}
