package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"orgcast/internal/bench"
)

// part is a part of the measurements that can be measured alone.
type part struct {
	name    string
	measure func(ctx context.Context, w *world, f *figures) error
}

// parts are all parts, in their order.
var parts = []part{
	{"delivery", rowsOf("delivery")},
	{"small", rowsOf("small")},
	{"tls", rowsOf("tls")},
	{"connections", curveOf("connections")},
	{"groups", curveOf("groups")},
	{"organizations", curveOf("organizations")},
	{"histories", curveOf("histories")},
	{"nodes", curveOf("nodes")},
	{"fronts", measureFronts},
}

func partNames() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// row is what one row of a table measures.
type row struct {
	table, load string
	// against is what the gateway is compared with, and shown is that for people, if it differs.
	against, shown string
	args           string
	// gateway are flags of the gateway alone.
	gateway string
	secure  bool
}

var rows = []row{
	{table: "delivery", load: "1,000 in one group, 64 events in flight", against: "limit", args: "--in-flight 64"},
	{table: "delivery", load: "1,000 in one group, one event in flight", against: "limit", args: "--in-flight 1"},
	{table: "delivery", load: "1,000 in one group, 100 events/s", against: "limit", args: "--rate 100"},
	{table: "delivery", load: "5,000 in 1,000 groups of 5, 2,000 events/s", against: "limit", args: "--conns 5000 --orgs 10 --groups-per-org 100 --rate 2000"},
	{table: "delivery", load: "1,000 in one group, 1 KiB JSON, 20 events/s, compressed", against: "--compress=false", shown: "not compressed", args: "--payload 1024 --rate 20 --compress", gateway: "--compress"},
	{table: "delivery", load: "1,000 in one group, 50 events/s, 1 reader stalled", against: "--stalled 0", shown: "none stalled", args: "--rate 50 --stalled 1"},

	{table: "small", load: "100 groups of one, 2,000 events/s", against: "subscriber", args: "--conns 100 --groups-per-org 100 --rate 2000"},
	{table: "small", load: "9,000 groups of one in 10 organizations, 5,000 events/s", against: "subscriber", args: "--conns 9000 --orgs 10 --groups-per-org 900 --rate 5000"},
	{table: "small", load: "1,000 groups of 5, 2,000 events/s", against: "subscriber", args: "--conns 5000 --orgs 10 --groups-per-org 100 --rate 2000"},

	{table: "tls", load: "1,000 in one group, 64 events in flight", against: "limit", args: "--in-flight 64", secure: true},
	{table: "tls", load: "1,000 in one group, one event in flight", against: "limit", args: "--in-flight 1", secure: true},
	{table: "tls", load: "1,000 in one group, 50 events/s", against: "limit", args: "--rate 50", secure: true},
}

// rowsOf returns what measures the rows of a table.
func rowsOf(table string) func(context.Context, *world, *figures) error {
	return func(ctx context.Context, w *world, f *figures) error {
		var measured []comparison
		for _, r := range rows {
			if r.table != table {
				continue
			}
			c, err := w.compare(ctx, r)
			if err != nil {
				return fmt.Errorf("%s: %w", r.load, err)
			}
			measured = append(measured, c)
		}
		f.Comparisons[table] = measured
		return nil
	}
}

// compare measures one row.
func (w *world) compare(ctx context.Context, r row) (c comparison, err error) {
	extra := strings.Fields(r.gateway)
	if r.secure {
		extra = append([]string{"--tls-cert", w.cert, "--tls-key", w.key}, extra...)
	}
	g, err := w.serve(ctx, nil, extra)
	if err != nil {
		return c, err
	}
	defer g.stop()
	rounds := w.rounds(w.rowRounds)
	args := append([]string{"compare", "--rounds", strconv.Itoa(rounds), "--against", r.against}, strings.Fields(w.timing()+" "+r.args)...)
	var got bench.Comparison
	if err := w.bench(ctx, g, &got, args...); err != nil {
		return c, err
	}
	c = comparison{Load: r.load, Against: r.against, Args: r.args, Rounds: rounds}
	if r.shown != "" {
		c.Against = r.shown
	}
	for _, one := range got.Figures {
		to := map[string]*ratio{
			"server CPU-s per million deliveries": &c.CPU, "latency p50": &c.P50, "latency p99": &c.P99, "deliveries/s": &c.Deliveries,
		}[one.Name]
		if to != nil {
			*to = ratio{Left: one.Left, Right: one.Right, value: value{Median: one.Ratio, Lowest: one.Lowest, Most: one.Highest}}
		}
	}
	w.say("%s, compared with %s: CPU %.3g, p99 %.3g", r.load, c.Against, c.CPU.Median, c.P99.Median)
	return c, nil
}
