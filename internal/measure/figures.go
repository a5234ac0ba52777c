package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// figuresFile holds the figures, from the root of the repository.
const figuresFile = "docs/performance/figures.json"

// figures is all that was measured.
type figures struct {
	Machine machine `json:"machine"`
	// Comparisons are the rows of tables, by the name of the table.
	Comparisons map[string][]comparison `json:"comparisons"`
	// Curves are by their name.
	Curves map[string]curve `json:"curves"`
	// Fronts are ways to terminate TLS, in the order of the table.
	Fronts []front `json:"fronts"`
}

// machine is where it was measured.
type machine struct {
	Processors int    `json:"processors"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	Redis      string `json:"redis"`
	Proxies    string `json:"proxies"`
}

// value is a figure of some rounds.
type value struct {
	Median float64 `json:"median"`
	Lowest float64 `json:"lowest"`
	Most   float64 `json:"highest"`
}

// ratio compares two sides: the medians of both, and of the rounds' own ratios.
type ratio struct {
	Left  float64 `json:"left"`
	Right float64 `json:"right"`
	value
}

// comparison is one row of a table.
type comparison struct {
	Load    string `json:"load"`
	Against string `json:"against"`
	Args    string `json:"args"`
	Rounds  int    `json:"rounds"`
	// CPU is that of the server in seconds per million deliveries, P50 and P99 are latencies in
	// seconds.
	CPU        ratio `json:"cpu_seconds_per_million"`
	P50        ratio `json:"p50_seconds"`
	P99        ratio `json:"p99_seconds"`
	Deliveries ratio `json:"deliveries_per_second"`
}

// curve is how figures change with one number.
type curve struct {
	Points []point `json:"points"`
}

// point is one place on a curve.
type point struct {
	X float64 `json:"x"`
	// Figures are by their name.
	Figures map[string]value `json:"figures"`
}

// valueOf summarizes rounds.
func valueOf(rounds []float64) value {
	if len(rounds) == 0 {
		return value{}
	}
	sorted := slices.Sorted(slices.Values(rounds))
	return value{Median: sorted[len(sorted)/2], Lowest: sorted[0], Most: sorted[len(sorted)-1]}
}

// at returns a figure at a place of a curve.
func (f *figures) at(name string, x float64, figure string) (value, error) {
	for _, p := range f.Curves[name].Points {
		if v, ok := p.Figures[figure]; ok && p.X == x {
			return v, nil
		}
	}
	return value{}, fmt.Errorf("no figure %q at %v of %s", figure, x, name)
}

func readFigures(root string) (*figures, error) {
	f := &figures{Comparisons: make(map[string][]comparison), Curves: make(map[string]curve)}
	content, err := os.ReadFile(filepath.Join(root, figuresFile))
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	} else if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, f); err != nil {
		return nil, fmt.Errorf("%s: %w", figuresFile, err)
	}
	return f, nil
}

func (f *figures) encode(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(f)
}

func (f *figures) write(root string) (err error) {
	path := filepath.Join(root, figuresFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.encode(file), file.Close())
}
