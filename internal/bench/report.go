package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Exit codes of `gateway bench`.
const (
	ExitOK = 0
	// ExitUnfaithful means that events were lost, duplicated or reordered, or that the server
	// ended connections which did nothing wrong, or kept goroutines or memory of connections that
	// had left.
	ExitUnfaithful = 1
	// ExitForeign means that a connection saw what belongs to another organization, or to a group
	// that it did not join. It outranks everything else.
	ExitForeign = 2
	// ExitFailed means that nothing was measured: wrong flags, no server, connections refused.
	ExitFailed = 3
)

const (
	// spareGoroutines may be there after a run and not before: those of the very question how many there
	// are, and of the server's connections to others.
	spareGoroutines = 4
	// spareFiles are for what is no connection of the load, here and in the server: to Redis, for
	// example, which come and go.
	spareFiles = 64
	// heapShare is by how much the heap may have grown when everyone has left. In addition, a server that
	// has just started keeps what its first work allocates, such as 0.5 MiB for compressing its metrics:
	// heapFirst bounds that. The Go runtime never gives back its record of a goroutine that has ended, and maps
	// keep their size: 0.8 KiB for each connection, and 1.2 where all leave and come back at once. keptPerConn
	// bounds it.
	heapShare   = 0.1
	heapFirst   = 1 << 20
	keptPerConn = 2 << 10
)

// Report is what one run saw. Counts of faults are over the whole run, figures over its measured
// part. Figures that could not be measured are zero and missing in JSON.
type Report struct {
	// Name tells what was measured: gateway or limit.
	Name          string `json:"name"`
	Conns         int    `json:"conns"`
	Orgs          int    `json:"orgs"`
	GroupsPerOrg  int    `json:"groups_per_org"`
	GroupsPerConn int    `json:"groups_per_conn"`
	Payload       int    `json:"payload_bytes"`
	Interrupted   bool   `json:"interrupted,omitempty"`

	// Seconds is how long was measured, OpenSeconds how long it took to open all connections.
	Seconds     float64 `json:"seconds"`
	OpenSeconds float64 `json:"open_seconds"`
	// ServerCPUPerArrival and ClientCPUPerArrival are the CPU time, in microseconds, of opening all
	// connections, divided by their number.
	ServerCPUPerArrival float64 `json:"server_cpu_microseconds_per_arrival,omitempty"`
	ClientCPUPerArrival float64 `json:"client_cpu_microseconds_per_arrival"`

	// Published is the number of events of the whole run. PublishLateMax is how long after it was due the latest
	// one was published: the load generator's own fault.
	Published           int64         `json:"published"`
	PublishLateMax      time.Duration `json:"publish_late_max_ns,omitempty"`
	Deliveries          int64         `json:"deliveries"`
	DeliveriesPerSecond float64       `json:"deliveries_per_second"`
	Bytes               int64         `json:"bytes"`
	// Latency is from publishing to arrival, for all but the noisy organization.
	Latency Latency `json:"latency"`

	// ServerCPUSeconds is user and system time of the server.
	ServerCPUSeconds    float64 `json:"server_cpu_seconds,omitempty"`
	ServerCPUPerMillion float64 `json:"server_cpu_seconds_per_million_deliveries,omitempty"`
	ClientCPUSeconds    float64 `json:"client_cpu_seconds"`
	ClientCPUPerMillion float64 `json:"client_cpu_seconds_per_million_deliveries,omitempty"`
	// RedisCPUSeconds is user and system time of Redis, of all masters in a Cluster. The rest of its
	// clients count, too.
	RedisCPUSeconds             float64 `json:"redis_cpu_seconds,omitempty"`
	Handshakes                  int64   `json:"handshakes,omitempty"`
	HandshakesPerSecond         float64 `json:"handshakes_per_second,omitempty"`
	HandshakesPerCPUSecond      float64 `json:"handshakes_per_server_cpu_second,omitempty"`
	CPUMicrosecondsPerHandshake float64 `json:"server_cpu_microseconds_per_handshake,omitempty"`
	// Handshake is from connect to the last confirmed subscription, over the whole run.
	Handshake    Latency       `json:"handshake"`
	Storms       int           `json:"storms,omitempty"`
	StormLongest time.Duration `json:"storm_longest_ns,omitempty"`

	// RSS is the server's memory under load; the figures per connection are growth since before
	// the first connection, so they mean something only for a server that was just started: one
	// that had many connections before has kept their memory. Kernel memory is that of both ends of each connection, and of whatever
	// else the machine does.
	RSS              int64   `json:"rss_bytes,omitempty"`
	RSSPerConn       float64 `json:"rss_bytes_per_connection,omitempty"`
	HeapPerConn      float64 `json:"heap_bytes_per_connection,omitempty"`
	StacksPerConn    float64 `json:"stack_bytes_per_connection,omitempty"`
	KernelPerConn    float64 `json:"kernel_bytes_per_connection,omitempty"`
	GoroutinesBefore float64 `json:"goroutines_before,omitempty"`
	GoroutinesDuring float64 `json:"goroutines_during,omitempty"`
	GoroutinesAfter  float64 `json:"goroutines_after,omitempty"`
	HeapBefore       float64 `json:"heap_bytes_before,omitempty"`
	HeapAfter        float64 `json:"heap_bytes_after,omitempty"`
	// Left says what the server still holds of connections that have left, if it does.
	Left []string `json:"left,omitempty"`

	Foreign    int64 `json:"foreign"`
	Lost       int64 `json:"lost"`
	Duplicated int64 `json:"duplicated"`
	Reordered  int64 `json:"reordered"`
	// Dropped counts connections that the server ended although they did nothing wrong.
	Dropped int64 `json:"dropped"`
	// Gaps counts gap frames, Unexpected frames of unknown kind, Refused handshakes that were
	// tried again.
	Gaps       int64 `json:"gaps"`
	Unexpected int64 `json:"unexpected"`
	Refused    int64 `json:"refused"`
	// Closes counts the ends that the server brought about, by close code.
	Closes map[int]int64 `json:"closes,omitempty"`

	// What became of those that are expected to suffer.
	NoisyDeliveries int64   `json:"noisy_deliveries,omitempty"`
	NoisyLost       int64   `json:"noisy_lost,omitempty"`
	NoisyDropped    int64   `json:"noisy_dropped,omitempty"`
	NoisyLatency    Latency `json:"noisy_latency,omitzero"`
	Stalled         int     `json:"stalled,omitempty"`
	StalledClosed   int64   `json:"stalled_closed,omitempty"`

	// Notes describe the first irregularities.
	Notes []string `json:"notes,omitempty"`
}

func newReport(name string, opts Options) Report {
	return Report{
		Name: name, Conns: opts.Conns, Orgs: opts.Orgs, GroupsPerOrg: opts.GroupsPerOrg,
		GroupsPerConn: opts.GroupsPerConn, Payload: opts.Payload, Stalled: opts.Stalled,
	}
}

// rates fills in what follows from counts, time and CPU time.
func (r *Report) rates(server, client time.Duration) {
	if r.Seconds > 0 {
		r.DeliveriesPerSecond = float64(r.Deliveries) / r.Seconds
		r.HandshakesPerSecond = float64(r.Handshakes) / r.Seconds
	}
	r.ServerCPUSeconds = server.Seconds()
	r.ClientCPUSeconds = client.Seconds()
	if r.Deliveries > 0 {
		r.ServerCPUPerMillion = r.ServerCPUSeconds * 1e6 / float64(r.Deliveries)
		r.ClientCPUPerMillion = r.ClientCPUSeconds * 1e6 / float64(r.Deliveries)
	}
	if r.Handshakes > 0 && server > 0 {
		r.HandshakesPerCPUSecond = float64(r.Handshakes) / r.ServerCPUSeconds
		r.CPUMicrosecondsPerHandshake = r.ServerCPUSeconds * 1e6 / float64(r.Handshakes)
	}
}

// memory fills in what the connections hold.
func (r *Report) memory(before, during usage, kernel int64) {
	r.RSS = during.rss
	perConn := func(growth float64) float64 { return growth / float64(r.Conns) }
	if during.rss > 0 {
		r.RSSPerConn = perConn(float64(during.rss - before.rss))
	}
	if during.heap > 0 {
		r.HeapPerConn = perConn(during.heap - before.heap)
		r.StacksPerConn = perConn(during.stacks - before.stacks)
	}
	r.KernelPerConn = perConn(float64(kernel))
	r.GoroutinesDuring = during.goroutines
}

// recordLeft fills in what the server holds when everyone has left, and judges it.
func (r *Report) recordLeft(before, after usage) {
	r.GoroutinesBefore, r.GoroutinesAfter = before.goroutines, after.goroutines
	r.HeapBefore, r.HeapAfter = before.live, after.live
	if n := after.goroutines - before.goroutines; n > spareGoroutines {
		r.Left = append(r.Left, fmt.Sprintf("%.0f goroutines", n))
	}
	if n := after.files - before.files; n > spareFiles {
		r.Left = append(r.Left, fmt.Sprintf("%.0f open files", n))
	}
	most := before.live*(1+heapShare) + heapFirst + keptPerConn*float64(r.Conns)
	if after.live > most {
		r.Left = append(r.Left, fmt.Sprintf("%.2f MiB of heap, where %.2f would be no leak", after.live/(1<<20), most/(1<<20)))
	}
}

// ExitCode returns [ExitForeign] if anything foreign was delivered, else [ExitUnfaithful] if
// anything else was not delivered as promised, else [ExitOK].
func (r *Report) ExitCode() int {
	switch {
	case r.Foreign > 0:
		return ExitForeign
	case r.Lost > 0, r.Duplicated > 0, r.Reordered > 0, r.Dropped > 0, len(r.Left) > 0:
		return ExitUnfaithful
	default:
		return ExitOK
	}
}

// figure is one number of a report, for tables and comparisons.
type figure struct {
	name  string
	value float64
	text  string
}

// figures returns the numbers that were measured, in the order of the table.
func (r *Report) figures() []figure {
	var list []figure
	number := func(name string, v float64, format string) {
		if v != 0 {
			list = append(list, figure{name: name, value: v, text: fmt.Sprintf(format, v)})
		}
	}
	duration := func(name string, d time.Duration) {
		if d != 0 {
			list = append(list, figure{name: name, value: d.Seconds(), text: d.Round(time.Microsecond).String()})
		}
	}
	number("deliveries/s", r.DeliveriesPerSecond, "%.0f")
	number("server CPU-s per million deliveries", r.ServerCPUPerMillion, "%.3f")
	number("Redis CPU-s", r.RedisCPUSeconds, "%.2f")
	number("client CPU-s per million deliveries", r.ClientCPUPerMillion, "%.3f")
	duration("latency p50", r.Latency.P50)
	duration("latency p90", r.Latency.P90)
	duration("latency p99", r.Latency.P99)
	duration("latency max", r.Latency.Max)
	duration("published late, max", r.PublishLateMax)
	number("noisy deliveries", float64(r.NoisyDeliveries), "%.0f")
	duration("noisy latency p99", r.NoisyLatency.P99)
	number("handshakes/s", r.HandshakesPerSecond, "%.0f")
	number("handshakes per server CPU-s", r.HandshakesPerCPUSecond, "%.0f")
	number("server CPU per handshake, µs", r.CPUMicrosecondsPerHandshake, "%.1f")
	duration("handshake p50", r.Handshake.P50)
	duration("handshake p99", r.Handshake.P99)
	duration("longest storm", r.StormLongest)
	number("RSS, MiB", float64(r.RSS)/(1<<20), "%.1f")
	number("RSS per connection, KiB", r.RSSPerConn/1024, "%.2f")
	number("  of it heap, KiB", r.HeapPerConn/1024, "%.2f")
	number("  of it stacks, KiB", r.StacksPerConn/1024, "%.2f")
	number("kernel per connection (both ends), KiB", r.KernelPerConn/1024, "%.2f")
	number("goroutines before", r.GoroutinesBefore, "%.0f")
	number("goroutines during", r.GoroutinesDuring, "%.0f")
	number("goroutines after", r.GoroutinesAfter, "%.0f")
	number("heap before, MiB", r.HeapBefore/(1<<20), "%.2f")
	number("heap after, MiB", r.HeapAfter/(1<<20), "%.2f")
	return list
}

// Table writes the report for people.
func (r *Report) Table(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d connections, %d organizations × %d groups, %d groups per connection, %d bytes, %.1f s measured\n",
		r.Name, r.Conns, r.Orgs, r.GroupsPerOrg, r.GroupsPerConn, r.Payload, r.Seconds)
	if r.Interrupted {
		b.WriteString("INTERRUPTED: figures cover less than was asked for\n")
	}
	var rows strings.Builder
	row := func(name, value string) { fmt.Fprintf(&rows, "%s\t%s\t\n", value, name) }
	row("events published", fmt.Sprint(r.Published))
	row("deliveries measured", fmt.Sprint(r.Deliveries))
	for _, f := range r.figures() {
		row(f.name, f.text)
	}
	row("FOREIGN", fmt.Sprint(r.Foreign))
	row("lost", fmt.Sprint(r.Lost))
	row("duplicated", fmt.Sprint(r.Duplicated))
	row("reordered", fmt.Sprint(r.Reordered))
	row("dropped connections", fmt.Sprint(r.Dropped))
	extra := []struct {
		name  string
		count int64
	}{
		{"gap frames", r.Gaps},
		{"unexpected frames", r.Unexpected},
		{"refused handshakes", r.Refused},
		{"noisy: lost", r.NoisyLost},
		{"noisy: dropped connections", r.NoisyDropped},
		{"stalled connections", int64(r.Stalled)},
		{"stalled connections ended by the server", r.StalledClosed},
	}
	for _, e := range extra {
		if e.count != 0 {
			row(e.name, fmt.Sprint(e.count))
		}
	}
	for _, code := range slices.Sorted(maps.Keys(r.Closes)) {
		row(fmt.Sprintf("closed by the server with %d", code), fmt.Sprint(r.Closes[code]))
	}
	if err := align(&b, rows.String()); err != nil {
		return err
	}
	for _, left := range r.Left {
		fmt.Fprintf(&b, "  ! LEFT BEHIND: %s\n", left)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "  ! %s\n", note)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// align writes rows of cells, each ended by a tab, in columns.
func align(w io.Writer, rows string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	if _, err := io.WriteString(t, rows); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// console shows progress: in place on a terminal, else a line each second.
type console struct {
	w     io.Writer
	live  bool
	shown time.Time
}

func newConsole(w io.Writer) *console { return &console{w: w, live: isTerminal(w)} }

// show writes one line, unless the last one is younger than a second.
func (c *console) show(format string, args ...any) {
	if c.w == nil || time.Since(c.shown) < time.Second-10*time.Millisecond {
		return
	}
	c.shown = time.Now()
	line := fmt.Sprintf(format, args...)
	if c.live {
		line = "\r" + line + "\x1b[K"
	} else {
		line += "\n"
	}
	_, _ = io.WriteString(c.w, line) // nobody to tell if nobody reads
}

// done leaves the terminal with an empty line.
func (c *console) done() {
	if c.w != nil && c.live {
		_, _ = io.WriteString(c.w, "\r\x1b[K")
	}
}
