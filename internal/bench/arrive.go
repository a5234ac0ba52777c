package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// arrivalsAtOnce are how many connections arrive at the same time in each part of [arrive].
var arrivalsAtOnce = []int{1, 16, 256} //nolint:gochecknoglobals // constant

// Arrivals is what it costs to arrive: from connecting to the last confirmed subscription.
type Arrivals struct {
	Conns  int           `json:"conns"`
	Rounds int           `json:"rounds"`
	Parts  []ArrivalPart `json:"parts"`
}

// ArrivalPart is one part of [Arrivals].
type ArrivalPart struct {
	// AtOnce is how many arrive at the same time.
	AtOnce int `json:"at_once"`
	// TLS is full or resumed, and empty without TLS.
	TLS     string   `json:"tls,omitempty"`
	Reports []Report `json:"reports"`
}

// arrive opens all connections of a load again and again, each time in a fresh run, with different
// numbers at the same time, and over TLS also with sessions that are resumed. Rounds alternate
// between the parts, so that other load on the machine affects all of them.
func arrive(ctx context.Context, o Options, rounds int, progress io.Writer) (Arrivals, error) {
	o.Idle, o.Storm, o.Rate, o.Warmup, o.Duration = true, false, 0, 0, time.Millisecond
	a := Arrivals{Conns: o.Conns, Rounds: rounds}
	kinds := []string{""}
	if isSecure(o.URL) {
		kinds = []string{"full", "resumed"}
		o.sessions = make([]tls.ClientSessionCache, o.Conns)
		for i := range o.sessions {
			o.sessions[i] = tls.NewLRUClientSessionCache(1)
		}
		if _, err := Run(ctx, resuming(o, true), progress); err != nil { // now there is something to resume
			return a, err
		}
	}
	for _, n := range arrivalsAtOnce {
		for _, kind := range kinds {
			a.Parts = append(a.Parts, ArrivalPart{AtOnce: min(n, o.Conns), TLS: kind})
		}
	}
	for round := range rounds {
		for i := range a.Parts {
			part := &a.Parts[i]
			opts := resuming(o, part.TLS == "resumed")
			opts.Parallel = part.AtOnce
			rep, err := Run(ctx, opts, progress)
			if err != nil {
				return a, fmt.Errorf("%d at once, round %d: %w", part.AtOnce, round+1, err)
			}
			part.Reports = append(part.Reports, rep)
			if rep.Interrupted {
				return a, context.Cause(ctx)
			}
		}
	}
	return a, nil
}

// resuming returns the options with or without resumed sessions.
func resuming(o Options, yes bool) Options {
	o.Resume = yes
	return o
}

// ExitCode returns the worst of all reports.
func (a *Arrivals) ExitCode() int {
	code := ExitOK
	for i := range a.Parts {
		for j := range a.Parts[i].Reports {
			code = max(code, a.Parts[i].Reports[j].ExitCode())
		}
	}
	return code
}

// Table writes medians for people, with the lowest and highest value of any round.
func (a *Arrivals) Table(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d connections arrive; medians of %d rounds, with the lowest and highest\n", a.Conns, a.Rounds)
	var rows strings.Builder
	rows.WriteString("at once\tTLS\tarrivals/s\tserver CPU, µs\tclient CPU, µs\tp50, ms\tp99, ms\t\n")
	for i := range a.Parts {
		part := &a.Parts[i]
		cell := func(value func(*Report) float64) string {
			var all []float64
			for j := range part.Reports {
				all = append(all, value(&part.Reports[j]))
			}
			slices.Sort(all)
			if all[0] == 0 {
				return "–" // not measured
			}
			return fmt.Sprintf("%.3g (%.3g–%.3g)", all[len(all)/2], all[0], all[len(all)-1])
		}
		fmt.Fprintf(&rows, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t\n", part.AtOnce, part.TLS,
			cell(func(r *Report) float64 { return float64(r.Conns) / r.OpenSeconds }),
			cell(func(r *Report) float64 { return r.ServerCPUPerArrival }),
			cell(func(r *Report) float64 { return r.ClientCPUPerArrival }),
			cell(func(r *Report) float64 { return r.Handshake.P50.Seconds() * 1e3 }),
			cell(func(r *Report) float64 { return r.Handshake.P99.Seconds() * 1e3 }))
	}
	if err := align(&b, rows.String()); err != nil {
		return err
	}
	for i := range a.Parts {
		for j := range a.Parts[i].Reports {
			if rep := &a.Parts[i].Reports[j]; rep.ExitCode() != ExitOK {
				if err := rep.Table(&b); err != nil {
					return err
				}
			}
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
