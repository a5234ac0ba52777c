package main

import (
	"fmt"
	"math"
	"strings"
)

// constants are what the formulas of docs/capacity.md need. Costs are CPU time in microseconds.
type constants struct {
	delivery, event   float64 // of the gateway: for each browser, and for each node that an event reaches
	arrival, idle     float64 // for each connection; idle is for each second
	memory            float64 // KiB of a connection, with TLS
	redis, redisNode  float64 // of Redis, for an event that reaches one node, and for each further node
	redisOrganization float64 // of Redis, for each second in which a node has connections of an organization
}

// Assumptions of docs/capacity.md.
const (
	busy          = 0.5         // share of a core that is planned for
	coresPerNode  = 4           // of a gateway
	mostPerNode   = 100_000     // connections
	nodeMemory    = 64 * 1024   // KiB of a node without connections
	kernelMemory  = 10          // KiB of a connection, both ends of the socket
	overhead      = 36 + 4 + 66 // bytes of a delivery in addition to the event: envelope, frame, TCP and IP
	overheadOfTLS = 22
)

// constants takes them from the figures.
func (f *figures) constants() (k constants, err error) {
	get := func(curve string, x float64, figure string) float64 {
		v, e := f.at(curve, x, figure)
		if e != nil {
			err = e
		}
		return v.Median
	}
	for _, c := range f.Comparisons["delivery"] {
		if c.Args == "--rate 100" {
			k.delivery = c.CPU.Left
		}
	}
	k.event = max(get("groups", 1000, perDelivery)-k.delivery, 0)
	k.idle = get("connections", 5000, idleCPU)
	k.redis = get("groups", 1000, perEvent)
	k.redisNode = max(get("nodes", 8, perEvent+", one Redis")-get("nodes", 1, perEvent+", one Redis"), 0) / 7
	k.redisOrganization = get("organizations", 10_000, redisIdle)
	for _, t := range f.Fronts {
		if t.Name == "gateway" {
			k.arrival, k.memory = t.Arrival.Median, t.Memory.Median
		}
	}
	if k.delivery == 0 || k.arrival == 0 {
		return k, fmt.Errorf("no figures for the constants: measure first")
	}
	return k, err
}

// site is what a site needs.
type site struct {
	name                       string
	connections, organizations float64
	events, receivers          float64 // events per second, and browsers that each one reaches
	arrivals                   float64 // per second
	size                       float64 // of an event, in bytes
	// routed says that balancers keep each organization on two nodes.
	routed bool
}

// plan is what carries a site.
type plan struct {
	nodes, cores float64
	memory       float64 // MiB of each node, and of its kernel
	reached      float64 // nodes that an event reaches
	redis        float64 // cores of Redis
	shards       float64
	network      float64 // Mbit/s to browsers
	perNode      float64 // connections
}

// plan computes what carries a site. One node more than needed is planned, so that one may fail.
func (k constants) plan(s site) plan {
	var p plan
	const micro = 1e-6
	for p.nodes = 2; ; p.nodes++ {
		p.reached = math.Min(p.nodes, s.receivers)
		if s.routed {
			p.reached = math.Min(p.reached, 2)
		}
		work := s.connections*k.idle + s.arrivals*k.arrival + s.events*(p.reached*k.event+s.receivers*k.delivery)
		p.cores = work * micro / busy
		p.perNode = s.connections / (p.nodes - 1)
		if p.cores <= coresPerNode*(p.nodes-1) && p.perNode <= mostPerNode {
			break
		}
	}
	p.memory = (nodeMemory + p.perNode*(k.memory+kernelMemory)) / 1024
	onNodes := math.Min(p.nodes, s.connections/s.organizations)
	if s.routed {
		onNodes = math.Min(onNodes, 2)
	}
	p.redis = (s.events*(k.redis+(p.reached-1)*k.redisNode) + s.organizations*onNodes*k.redisOrganization) * micro
	p.shards = math.Max(math.Ceil(p.redis/busy), 1)
	p.network = s.events * s.receivers * (s.size + overhead + overheadOfTLS) * 8 / 1e6
	return p
}

// sites are the examples.
var sites = []site{
	{name: "an intranet", connections: 1000, organizations: 20, events: 50, receivers: 10, arrivals: 1, size: 300},
	{name: "a product", connections: 20_000, organizations: 1000, events: 500, receivers: 20, arrivals: 20, size: 300},
	{name: "a large product", connections: 200_000, organizations: 10_000, events: 5000, receivers: 20, arrivals: 200, size: 300},
	{name: "a million", connections: 1e6, organizations: 100_000, events: 20_000, receivers: 10, arrivals: 1000, size: 300},
	{name: "a million, routed by organization", connections: 1e6, organizations: 100_000, events: 20_000, receivers: 10, arrivals: 1000, size: 300, routed: true},
}

func (f *figures) constantsTable() (string, error) {
	k, err := f.constants()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("| name | what | figure |\n| --- | --- | --- |\n")
	for _, row := range []struct {
		name, what string
		v          float64
		unit       string
	}{
		{"d", "CPU of a node for each browser that an event reaches", k.delivery, "µs"},
		{"e", "CPU of a node for each event that reaches it", k.event, "µs"},
		{"a", "CPU of a node for an arrival over TLS with a full handshake", k.arrival, "µs"},
		{"i", "CPU of a node for an idle connection, in each second", k.idle, "µs"},
		{"m", "memory of an idle connection with TLS", k.memory, "KiB"},
		{"r", "CPU of Redis for an event that reaches one node", k.redis, "µs"},
		{"n", "CPU of Redis for each additional node that an event reaches", k.redisNode, "µs"},
		{"o", "CPU of Redis per second, for each organization with connections on a node", k.redisOrganization, "µs"},
	} {
		fmt.Fprintf(&b, "| %s | %s | %s %s |\n", row.name, row.what, short(row.v), row.unit)
	}
	return b.String(), nil
}

func (f *figures) examplesTable() (string, error) {
	k, err := f.constants()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("| site | connections | organizations | events/s × browsers | arrivals/s | nodes | cores in use | connections per node | memory per node | Redis cores | Redis shards | to browsers |\n" +
		"| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, s := range sites {
		p := k.plan(s)
		fmt.Fprintf(&b, "| %s | %s | %s | %s × %s | %s | %.0f | %s | %s | %s MiB | %s | %.0f | %s Mbit/s |\n", s.name,
			short(s.connections), short(s.organizations), short(s.events), short(s.receivers), short(s.arrivals),
			p.nodes, short(p.cores*busy), short(p.perNode), short(p.memory), short(p.redis), p.shards, short(p.network))
	}
	return b.String(), nil
}

// largestTable compares the largest site with and without routing by organization.
func (f *figures) largestTable() (string, error) {
	k, err := f.constants()
	if err != nil {
		return "", err
	}
	spread, routed := sites[len(sites)-2], sites[len(sites)-1]
	p, q := k.plan(spread), k.plan(routed)
	share := func(s site, p plan) (events, organizations float64) {
		events = s.events * (k.redis + (p.reached-1)*k.redisNode) * 1e-6
		return events, p.redis - events
	}
	pe, po := share(spread, p)
	qe, qo := share(routed, q)
	all := spread.connections * k.arrival * 1e-6
	var b strings.Builder
	b.WriteString("| | organizations spread over all nodes | each organization on two nodes |\n| --- | --- | --- |\n")
	row := func(name, format string, left, right float64) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, fmt.Sprintf(format, short(left)), fmt.Sprintf(format, short(right)))
	}
	row("nodes that an event reaches", "%s", p.reached, q.reached)
	row("events that a node receives, per second", "%s", spread.events*p.reached/p.nodes, routed.events*q.reached/q.nodes)
	row("Redis for events", "%s cores", pe, qe)
	row("Redis for the shares of organizations", "%s cores", po, qo)
	row("everybody arrives again within a minute, at all nodes together", "%s cores", all/60, all/60)
	return b.String(), nil
}
