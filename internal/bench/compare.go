package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// measurement is one side of a comparison.
type measurement struct {
	name string
	run  func(ctx context.Context, progress io.Writer) (Report, error)
}

// Comparison holds the reports of two things measured in turn.
type Comparison struct {
	Left    string   `json:"left"`
	Right   string   `json:"right"`
	Rounds  int      `json:"rounds"`
	Lefts   []Report `json:"left_reports"`
	Rights  []Report `json:"right_reports"`
	Figures []Ratio  `json:"figures"`
}

// Ratio compares the medians of one figure.
type Ratio struct {
	Name  string  `json:"name"`
	Left  float64 `json:"left"`
	Right float64 `json:"right"`
	// Ratio is Left / Right.
	Ratio float64 `json:"ratio"`
	// Spread is how far apart the rounds' own ratios lie, as lowest and highest.
	Lowest  float64 `json:"lowest"`
	Highest float64 `json:"highest"`

	leftText, rightText string
}

// compare measures left and right in turn, so that other load on the machine affects both.
func compare(ctx context.Context, left, right measurement, rounds int, progress io.Writer) (Comparison, error) {
	c := Comparison{Left: left.name, Right: right.name, Rounds: rounds}
	for round := range rounds {
		for _, m := range []struct {
			measurement
			reports *[]Report
		}{{left, &c.Lefts}, {right, &c.Rights}} {
			rep, err := m.run(ctx, progress)
			if err != nil {
				return c, fmt.Errorf("%s, round %d: %w", m.name, round+1, err)
			}
			*m.reports = append(*m.reports, rep)
			newConsole(progress).show("round %d of %d, %s: %.3f CPU-s per million, p99 %s", round+1, rounds, m.name,
				rep.ServerCPUPerMillion, rep.Latency.P99)
			if rep.Interrupted {
				return c, context.Cause(ctx)
			}
		}
	}
	c.summarize()
	return c, nil
}

// summarize computes the figures that both sides have.
func (c *Comparison) summarize() {
	lefts, rights := valuesOf(c.Lefts), valuesOf(c.Rights)
	for _, f := range c.Lefts[0].figures() {
		l, r := lefts[f.name], rights[f.name]
		if len(l) != len(c.Lefts) || len(r) != len(c.Rights) {
			continue
		}
		ratio := Ratio{Name: f.name}
		var ratios []float64
		for i := range l {
			ratios = append(ratios, l[i].value/r[i].value)
		}
		if slices.Min(ratios) <= 0 {
			continue // if memory shrank, there is no ratio
		}
		left, right := medianFigure(l), medianFigure(r)
		ratio.Left, ratio.leftText = left.value, left.text
		ratio.Right, ratio.rightText = right.value, right.text
		ratio.Ratio = left.value / right.value
		ratio.Lowest, ratio.Highest = slices.Min(ratios), slices.Max(ratios)
		c.Figures = append(c.Figures, ratio)
	}
}

// medianFigure returns the median.
func medianFigure(figures []figure) figure {
	sorted := slices.SortedFunc(slices.Values(figures), func(a, b figure) int { return cmp.Compare(a.value, b.value) })
	return sorted[len(sorted)/2]
}

func valuesOf(reports []Report) map[string][]figure {
	values := make(map[string][]figure)
	for i := range reports {
		for _, f := range reports[i].figures() {
			values[f.name] = append(values[f.name], f)
		}
	}
	return values
}

// ExitCode returns the worst of all reports.
func (c *Comparison) ExitCode() int {
	code := ExitOK
	for _, reports := range [][]Report{c.Lefts, c.Rights} {
		for i := range reports {
			code = max(code, reports[i].ExitCode())
		}
	}
	return code
}

// Table writes medians and ratios for people, and the full report of every run that has faults.
func (c *Comparison) Table(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "medians of %d interleaved rounds, ratios with the lowest and highest of any round\n", c.Rounds)
	var rows strings.Builder
	fmt.Fprintf(&rows, "%s\t%s\tratio\t\t\t\n", c.Left, c.Right)
	for _, f := range c.Figures {
		fmt.Fprintf(&rows, "%s\t%s\t%.3f\t%.3f–%.3f\t%s\t\n", f.leftText, f.rightText, f.Ratio, f.Lowest, f.Highest, f.Name)
	}
	if err := align(&b, rows.String()); err != nil {
		return err
	}
	for _, reports := range [][]Report{c.Lefts, c.Rights} {
		for i := range reports {
			if reports[i].ExitCode() == ExitOK {
				continue
			}
			if err := reports[i].Table(&b); err != nil {
				return err
			}
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
