package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// plot is how a curve is shown.
type plot struct {
	curve, title, unit string
	load               string // a sentence
	reading            string // what the curve tells
	figures            []string
}

var plotted = []plot{
	{
		curve: "connections", title: "Connections", unit: "connections",
		load:    "Connections in groups of 10, with 10,000 deliveries per second; then as many idle ones, on a fresh gateway.",
		reading: "A delivery costs more with more connections, because each one touches a socket that is no longer in the caches of the processor; 100 sockets fit there. Nothing in the gateway searches among connections. With 100 of them, memory and idle time per connection are mostly the fixed cost of the process.",
		figures: []string{perDelivery, perArrival, idleCPU, memory},
	},
	{
		curve: "groups", title: "Groups", unit: "groups",
		load:    "Groups of one browser each, with 2,000 events per second; a browser joins up to 20 groups.",
		reading: "From 1,000 groups on, an event costs the same; with fewer, their sockets and records fit into the caches of the processor. An arrival costs more at the right end, because it confirms 20 groups.",
		figures: []string{perDelivery, perEvent, perArrival},
	},
	{
		curve: "organizations", title: "Organizations", unit: "organizations",
		load:    "10,000 connections, each in its own group, with 2,000 events per second.",
		reading: "An organization costs what its first connection brings: a lane, a budget and its share of the connection count in Redis.",
		figures: []string{perDelivery, perEvent, perArrival, memory},
	},
	{
		curve: "histories", title: "Histories", unit: "events in the history",
		load:    "A group with recorded events: what recording one more costs Redis, and what 1,000 arriving browsers cost that get transient events.",
		reading: "A browser that arrives without a position reads no history, and Redis appends to a stream in constant time.",
		figures: []string{perRecord, perDelivery, perArrival},
	},
	{
		curve: "nodes", title: "Nodes", unit: "nodes",
		load:    "800 connections in groups of 8, spread over all nodes, with 500 events per second: each event goes to every node.",
		reading: "These curves rise, because each node receives each event for fewer browsers: with 8 nodes, each for one. Nodes that share no groups do not cost each other anything. Redis pays for each node that an event goes to.",
		figures: []string{perDelivery + ", one Redis", perDelivery + ", Cluster", perEvent + ", one Redis", perEvent + ", Cluster"},
	},
}

// plots returns the pictures by the name of their file.
func (f *figures) plots() map[string]string {
	all := make(map[string]string)
	for _, p := range plotted {
		if c := f.Curves[p.curve]; len(c.Points) > 0 {
			all[p.curve+".svg"] = p.svg(c)
		}
	}
	return all
}

// Sizes of a panel, in pixels.
const (
	panelWidth  = 220
	panelHeight = 150
	marginLeft  = 48
	marginTop   = 34
	marginEnd   = 16 // right
	marginFoot  = 44
)

// style follows the reader's color scheme.
const style = `text{font:11px system-ui,sans-serif;fill:#333}.t{font-weight:600}.g{stroke:#ddd}.l{fill:none;stroke:#0b62c4;stroke-width:2}.w{stroke:#0b62c4;stroke-opacity:.45;stroke-width:3}.d{fill:#0b62c4}` +
	`@media(prefers-color-scheme:dark){text{fill:#ddd}.g{stroke:#444}.l,.w{stroke:#6db3ff}.d{fill:#6db3ff}}`

// svg draws a panel for each figure, from left to right. Bars go from the lowest to the highest round.
func (p plot) svg(c curve) string {
	var b strings.Builder
	one := marginLeft + panelWidth + marginEnd
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img"><title>%s</title><style>%s</style>`+"\n",
		one*len(p.figures), marginTop+panelHeight+marginFoot, p.title, style)
	for i, figure := range p.figures {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", i*one+marginLeft, marginTop)
		p.panel(&b, c, figure)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p plot) panel(b *strings.Builder, c curve, figure string) {
	top := 0.0
	for _, at := range c.Points {
		top = max(top, at.Figures[figure].Most)
	}
	top = nice(top)
	x := func(v float64) float64 {
		first, last := place(c.Points[0].X), place(c.Points[len(c.Points)-1].X)
		return 8 + (place(v)-first)/max(last-first, 1e-9)*(panelWidth-16)
	}
	y := func(v float64) float64 { return panelHeight * (1 - v/top) }
	fmt.Fprintf(b, `<text class="t" x="%d" y="-14">%s</text>`+"\n", -marginLeft+8, figure)
	for i := range 5 {
		v := top * float64(i) / 4
		fmt.Fprintf(b, `<line class="g" x2="%d" y1="%.1f" y2="%.1f"/><text x="-6" y="%.1f" text-anchor="end">%s</text>`+"\n", panelWidth, y(v), y(v), y(v)+4, strconv.FormatFloat(v, 'g', 4, 64))
	}
	var line []string
	for _, at := range c.Points {
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(at.X), panelHeight+16, count(at.X))
		v, ok := at.Figures[figure]
		if !ok {
			continue
		}
		line = append(line, fmt.Sprintf("%.1f,%.1f", x(at.X), y(v.Median)))
		fmt.Fprintf(b, `<line class="w" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><circle class="d" cx="%.1f" cy="%.1f" r="3"/>`+"\n",
			x(at.X), x(at.X), y(v.Lowest), y(v.Most), x(at.X), y(v.Median))
	}
	fmt.Fprintf(b, `<polyline class="l" points="%s"/><text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n",
		strings.Join(line, " "), panelWidth/2, panelHeight+34, p.unit)
}

// place is where a number is on an axis of orders of magnitude that begins with 0.
func place(v float64) float64 { return math.Log10(max(v, 1)) + min(v, 1)*0.5 }

// nice returns a number that is at least v and a good end of an axis.
func nice(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 4, 6, 8} {
		if n*unit >= v {
			return n * unit
		}
	}
	return 10 * unit
}

// count writes a number for an axis.
func count(v float64) string {
	if v >= 1000 && math.Mod(v, 1000) == 0 {
		return strconv.FormatFloat(v/1000, 'f', -1, 64) + "k"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}
