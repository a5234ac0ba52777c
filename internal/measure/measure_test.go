package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const root = "../.."

// TestPagesShowTheFigures: tables and plots are what `make measure` makes of figures.json.
func TestPagesShowTheFigures(t *testing.T) {
	t.Parallel()
	f, err := readFigures(root)
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	for _, page := range pages {
		content, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range generated.FindAllStringSubmatch(string(content), -1) {
			used[m[1]] = true
		}
		rendered, err := renderPage(string(content), f)
		if err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		if rendered != string(content) {
			t.Errorf("%s does not show the figures of %s: run go run ./internal/measure --render", page, figuresFile)
		}
	}
	for name := range sections {
		if !used[name] {
			t.Errorf("no page shows %s", name)
		}
	}
	plots := f.plots()
	for _, p := range plotted {
		name := p.curve + ".svg"
		content, err := os.ReadFile(filepath.Join(root, "docs/performance", name))
		if err != nil {
			t.Error(err)
		}
		if string(content) != plots[name] {
			t.Errorf("%s does not show the figures of %s: run go run ./internal/measure --render", name, figuresFile)
		}
	}
}

// TestFiguresAreComplete: there is a figure for each row, curve and front that is measured.
func TestFiguresAreComplete(t *testing.T) {
	t.Parallel()
	f, err := readFigures(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if !slices.ContainsFunc(f.Comparisons[r.table], func(c comparison) bool { return c.Load == r.load && c.Args == r.args && c.P99.Median > 0 }) {
			t.Errorf("table %s has no figures of %q", r.table, r.load)
		}
	}
	for _, g := range growths {
		if got := len(f.Curves[g.name].Points); got != len(g.xs) {
			t.Errorf("curve %s: got %d points, want %d", g.name, got, len(g.xs))
		}
	}
	for _, p := range plotted {
		for _, figure := range p.figures {
			if !slices.ContainsFunc(f.Curves[p.curve].Points, func(at point) bool { return at.Figures[figure].Median > 0 }) {
				t.Errorf("curve %s has no figures of %q", p.curve, figure)
			}
		}
	}
	if len(f.Fronts) != len(terminations) {
		t.Errorf("fronts: got %d, want %d", len(f.Fronts), len(terminations))
	}
}

// TestRenderFollowsFigures: another figure is another page.
func TestRenderFollowsFigures(t *testing.T) {
	t.Parallel()
	const page = "before\n<!-- figures: small -->\nold\n<!-- end of figures -->\nafter\n"
	r := rows[slices.IndexFunc(rows, func(r row) bool { return r.table == "small" })]
	f := &figures{Comparisons: map[string][]comparison{"small": {{
		Load: r.load, Against: r.against, Args: r.args, CPU: ratio{Left: 31, Right: 30, value: value{1.03, 0.9, 1.2}}, P99: ratio{Left: 0.001, Right: 0.002, value: value{0.5, 0.4, 0.6}},
	}}}}
	got, err := renderPage(page, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"before\n", "after\n", "| 1.03 (0.90–1.20) | 31, 30 |", "| 0.50 (0.40–0.60) | 1.0, 2.0 |", "--against subscriber` |"} {
		if !strings.Contains(got, want) {
			t.Errorf("got no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "old") {
		t.Errorf("the old table is still there:\n%s", got)
	}
	if _, err := renderPage(strings.Replace(page, "small", "large", 1), f); err == nil {
		t.Error("a table that does not exist: got no error")
	}
}

// TestPlotIsXML: a plot is well-formed, and has a mark for each figure.
func TestPlotIsXML(t *testing.T) {
	t.Parallel()
	p := plotted[0]
	c := curve{Points: []point{
		{X: 0, Figures: map[string]value{p.figures[0]: {1, 1, 1}}},
		{X: 1000, Figures: map[string]value{p.figures[0]: {3, 2, 4}}},
		{X: 18000, Figures: map[string]value{}},
	}}
	svg := p.svg(c)
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in:\n%s", err, svg)
		}
	}
	if got := strings.Count(svg, "<circle"); got != 2 {
		t.Errorf("marks: got %d, want 2", got)
	}
	if !strings.Contains(svg, "prefers-color-scheme:dark") || strings.Contains(svg, "NaN") {
		t.Errorf("got:\n%s", svg)
	}
}

// TestPlanAddsUp recomputes a plan by hand.
func TestPlanAddsUp(t *testing.T) {
	t.Parallel()
	k := constants{delivery: 5, event: 20, arrival: 1000, idle: 2, memory: 20, redis: 30, redisNode: 10, redisOrganization: 4}
	tests := map[string]struct {
		site site
		want plan
	}{
		"small": {
			// 2,000 + 1,000 + 50·(2·20 + 10·5) = 7,500 µs per second, doubled.
			site: site{connections: 1000, organizations: 20, events: 50, receivers: 10, arrivals: 1, size: 300},
			// Redis: 50·40 + 20·2·4 = 2,160 µs.
			want: plan{nodes: 2, cores: 0.015, memory: (64*1024 + 1000*30) / 1024.0, reached: 2, redis: 0.00216, shards: 1, network: 50 * 10 * 428 * 8 / 1e6, perNode: 1000},
		},
		"as many nodes as connections need": {
			site: site{connections: 250_000, organizations: 250_000, events: 1, receivers: 1},
			// Each organization has one connection, so it is on one node.
			want: plan{nodes: 4, cores: (500_000 + 25) * 2e-6, memory: (64*1024 + 250_000/3.0*30) / 1024, reached: 1, redis: (30 + 1e6) * 1e-6, shards: 3, network: 128 * 8 / 1e6, perNode: 250_000 / 3.0},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := k.plan(tt.site)
			for what, pair := range map[string][2]float64{
				"nodes": {got.nodes, tt.want.nodes}, "cores": {got.cores, tt.want.cores}, "memory": {got.memory, tt.want.memory},
				"reached": {got.reached, tt.want.reached}, "redis": {got.redis, tt.want.redis}, "shards": {got.shards, tt.want.shards},
				"network": {got.network, tt.want.network}, "per node": {got.perNode, tt.want.perNode},
			} {
				if math.Abs(pair[0]-pair[1]) > 1e-9*math.Abs(pair[1]) {
					t.Errorf("%s: got %v, want %v", what, pair[0], pair[1])
				}
			}
		})
	}
}

// TestPlanIsEnough: whatever a site has, the nodes that are left after one failed can carry it.
func TestPlanIsEnough(t *testing.T) {
	t.Parallel()
	k := constants{delivery: 5, event: 20, arrival: 1000, idle: 2, memory: 20, redis: 30, redisNode: 10, redisOrganization: 4}
	for _, s := range sites {
		p := k.plan(s)
		if p.cores > coresPerNode*(p.nodes-1) || p.perNode > mostPerNode || p.redis > busy*p.shards {
			t.Errorf("%s: got %+v, which is not enough", s.name, p)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 0.0294: "0.029", 0.99: "1.0", 4.26: "4.3", 31.2: "31", 184000: "184,000", 1e6: "1,000,000", 0.00002: "0.000020"} {
		if got := short(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	got, err := choose("fronts,small")
	if err != nil || len(got) != 2 || got[0].name != "fronts" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := choose("nothing"); err == nil {
		t.Error("a part that does not exist: got no error")
	}
}
