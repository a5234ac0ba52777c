package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"

	"github.com/prometheus/procfs"

	"orgcast/internal/bench"
)

// Names of figures of curves, with their units. Costs are CPU time.
const (
	perDelivery = "per delivery, µs"
	perEvent    = "Redis per event, µs"
	perArrival  = "per arrival, µs"
	idleCPU     = "idle, µs per connection and second"
	memory      = "memory per connection, KiB"
	redisIdle   = "idle, Redis, µs per organization and second"
	perRecord   = "Redis per recorded event, µs"
)

// growth is one curve: how costs change with a number.
type growth struct {
	name string
	xs   []int
	// measure measures one round at one place.
	measure func(ctx context.Context, w *world, x int) (map[string]float64, error)
}

var growths = []growth{
	{"connections", []int{100, 1000, 5000, 18000}, growConnections},
	{"groups", []int{1, 10, 100, 1000, 10_000, 100_000}, growGroups},
	{"organizations", []int{1, 100, 10_000}, growOrganizations},
	{"histories", []int{0, 10, 100, 1000, 10_000}, growHistories},
	{"nodes", []int{1, 2, 4, 8}, growNodes},
}

// curveOf returns what measures a curve. Rounds alternate between its places, so that other load on
// the machine affects all of them.
func curveOf(name string) func(context.Context, *world, *figures) error {
	return func(ctx context.Context, w *world, f *figures) error {
		for _, g := range growths {
			if g.name == name {
				c, err := g.run(ctx, w)
				if err != nil {
					return err
				}
				f.Curves[name] = c
			}
		}
		return nil
	}
}

func (g growth) run(ctx context.Context, w *world) (curve, error) {
	seen := make([]map[string][]float64, len(g.xs))
	for round := range w.rounds(min(3, w.rowRounds)) {
		for i, x := range g.xs {
			x = min(x, w.most(g.name))
			got, err := g.measure(ctx, w, x)
			if err != nil {
				return curve{}, fmt.Errorf("%d %s: %w", x, g.name, err)
			}
			if seen[i] == nil {
				seen[i] = make(map[string][]float64)
			}
			for figure, v := range got {
				seen[i][figure] = append(seen[i][figure], v)
			}
			w.say("round %d, %d %s: %s", round+1, x, g.name, inOrder(got))
		}
	}
	var c curve
	for i, x := range g.xs {
		p := point{X: float64(min(x, w.most(g.name))), Figures: make(map[string]value)}
		for figure, all := range seen[i] {
			p.Figures[figure] = valueOf(all)
		}
		c.Points = append(c.Points, p)
	}
	return c, nil
}

// most returns the largest number that the machine allows: connections need open files.
func (w *world) most(name string) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || name != "connections" {
		return 1 << 30
	}
	return int(limit.Max) - 1000
}

// load measures a load on a fresh gateway.
func (w *world) load(ctx context.Context, format string, args ...any) (rep bench.Report, err error) {
	g, err := w.serve(ctx, nil, nil)
	if err != nil {
		return rep, err
	}
	defer g.stop()
	err = w.bench(ctx, g, &rep, strings.Fields(w.timing()+" "+fmt.Sprintf(format, args...))...)
	return rep, err
}

// costs returns the costs of deliveries. rate is that of events.
func costs(rep bench.Report, rate float64) map[string]float64 {
	return map[string]float64{
		perDelivery: rep.ServerCPUPerMillion, // seconds per million
		perEvent:    rep.RedisCPUSeconds * 1e6 / (rate * rep.Seconds),
	}
}

// growConnections: x connections in groups of 10, with 10,000 deliveries per second; then as many idle
// ones.
func growConnections(ctx context.Context, w *world, x int) (map[string]float64, error) {
	rep, err := w.load(ctx, "--conns %d --orgs 10 --groups-per-org %d --rate 1000", x, x/100)
	if err != nil {
		return nil, err
	}
	got := costs(rep, 1000)
	idle, err := w.idle(ctx, "--conns %d --orgs 10 --groups-per-org %d", x, x/100)
	got[perArrival] = idle.ServerCPUPerArrival
	got[idleCPU] = idle.ServerCPUSeconds * 1e6 / idle.Seconds / float64(x)
	got[memory] = idle.RSSPerConn / 1024
	return got, err
}

// idle measures connections on a fresh gateway, for longer than the period of re-checks.
func (w *world) idle(ctx context.Context, format string, args ...any) (rep bench.Report, err error) {
	g, err := w.serve(ctx, nil, nil)
	if err != nil {
		return rep, err
	}
	defer g.stop()
	long := "8s"
	if w.quick {
		long = "1s"
	}
	err = w.bench(ctx, g, &rep, strings.Fields(fmt.Sprintf(format, args...)+" --idle --parallel 16 --warmup 500ms --duration "+long)...)
	return rep, err
}

// growGroups: x groups of one browser each, of which a browser joins up to 20, with 2,000 events per
// second.
func growGroups(ctx context.Context, w *world, x int) (map[string]float64, error) {
	conns := min(x, 5000)
	rep, err := w.load(ctx, "--conns %d --groups-per-org %d --groups-per-conn %d --rate 2000", conns, x, x/conns)
	got := costs(rep, 2000)
	if x >= 1000 {
		got[perArrival] = rep.ServerCPUPerArrival
	}
	return got, err
}

// growOrganizations: 10,000 connections in x organizations, each in its own group, with 2,000
// events per second; then as many idle ones.
func growOrganizations(ctx context.Context, w *world, x int) (map[string]float64, error) {
	rep, err := w.load(ctx, "--conns 10000 --orgs %d --groups-per-org %d --rate 2000", x, 10_000/x)
	if err != nil {
		return nil, err
	}
	got := costs(rep, 2000)
	idle, err := w.idle(ctx, "--conns 10000 --orgs %d --groups-per-org %d", x, 10_000/x)
	got[perArrival], got[memory] = idle.ServerCPUPerArrival, idle.RSSPerConn/1024
	got[redisIdle] = idle.RedisCPUSeconds * 1e6 / idle.Seconds / float64(x)
	return got, err
}

// growHistories: a group with x recorded events. 2,000 more are recorded, and then 1,000 browsers arrive
// and get events that are not recorded.
func growHistories(ctx context.Context, w *world, x int) (map[string]float64, error) {
	record := func(n int) error {
		lines := strings.Repeat(`{"type":"note","text":"`+strings.Repeat("x", 80)+`"}`+"\n", n)
		cmd := exec.CommandContext(ctx, w.binary, "publish", "--redis", w.redisURL, "--record", "bench-0", "room.0", "-")
		cmd.Stdin = strings.NewReader(lines)
		var log bytes.Buffer
		cmd.Stderr = &log
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("publish: %w: %s", err, log.String())
		}
		return nil
	}
	const recorded = 2000
	// Each round begins without a history: another one would go on from it.
	err := exec.CommandContext(ctx, "redis-cli", "-u", w.redisURL, "flushall").Run()
	if err = errors.Join(err, record(x)); err != nil {
		return nil, err
	}
	before, err := cpuOf(w.redis.pid())
	if err = errors.Join(err, record(recorded)); err != nil {
		return nil, err
	}
	after, err := cpuOf(w.redis.pid())
	if err != nil {
		return nil, err
	}
	rep, err := w.load(ctx, "--conns 1000 --rate 20")
	return map[string]float64{
		perRecord: (after - before) * 1e6 / recorded, perDelivery: rep.ServerCPUPerMillion, perArrival: rep.ServerCPUPerArrival,
	}, err
}

// growNodes: 800 connections in groups of 8 at x nodes, with 500 events per second, on one Redis and on
// a Cluster of three.
func growNodes(ctx context.Context, w *world, x int) (got map[string]float64, err error) {
	got = make(map[string]float64)
	for _, kind := range []string{"one Redis", "Cluster"} {
		flags := []string{"--redis", w.redisURL}
		if kind == "Cluster" {
			first, err := w.cluster(ctx)
			if err != nil {
				return nil, err
			}
			flags = []string{"--redis", "redis://" + first, "--redis-cluster", first}
		}
		all := &gateway{flags: flags}
		for i := range x {
			g, err := w.serve(ctx, flags, nil)
			if err != nil {
				all.stop()
				return nil, err
			}
			if i > 0 {
				all.url += ","
			}
			all.url += g.url
			all.processes = append(all.processes, g.processes...)
		}
		var rep bench.Report
		err := w.bench(ctx, all, &rep, strings.Fields(w.timing()+" --conns 800 --orgs 10 --groups-per-org 10 --rate 500")...)
		all.stop()
		if err != nil {
			return nil, err
		}
		for figure, v := range costs(rep, 500) {
			got[figure+", "+kind] = v
		}
	}
	return got, nil
}

// cpuOf returns the CPU time of a process in seconds.
func cpuOf(pid int) (float64, error) {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return 0, err
	}
	stat, err := proc.Stat()
	return stat.CPUTime(), err
}
