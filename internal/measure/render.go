package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// generated is a part of a page that is made of the figures, between two comments.
var generated = regexp.MustCompile(`(?s)<!-- figures: ([a-z-]+) -->\n.*?<!-- end of figures -->`)

// pages are the pages with generated parts, from the root.
var pages = []string{"docs/performance.md", "docs/deploy.md", "docs/capacity.md"}

// sections make the parts, by their name.
var sections = map[string]func(*figures) (string, error){
	"machine":       func(f *figures) (string, error) { return f.Machine.text(), nil },
	"delivery":      func(f *figures) (string, error) { return comparisonTable(f.Comparisons["delivery"], false), nil },
	"small":         func(f *figures) (string, error) { return comparisonTable(f.Comparisons["small"], true), nil },
	"tls":           func(f *figures) (string, error) { return comparisonTable(f.Comparisons["tls"], false), nil },
	"rates":         func(f *figures) (string, error) { return f.rates(), nil },
	"growth":        func(f *figures) (string, error) { return f.growthSection(), nil },
	"fronts":        func(f *figures) (string, error) { return f.frontTable(), nil },
	"constants":     func(f *figures) (string, error) { return f.constantsTable() },
	"examples":      func(f *figures) (string, error) { return f.examplesTable() },
	"first-to-fail": func(f *figures) (string, error) { return f.largestTable() },
}

// renderAll writes the generated parts of all pages, and the plots.
func renderAll(root string, f *figures) error {
	for _, page := range pages {
		path := filepath.Join(root, page)
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rendered, err := renderPage(string(content), f)
		if err != nil {
			return fmt.Errorf("%s: %w", page, err)
		}
		if err := os.WriteFile(path, []byte(rendered), 0o644); err != nil {
			return err
		}
	}
	for name, svg := range f.plots() {
		path := filepath.Join(root, "docs/performance", name)
		if err := os.WriteFile(path, []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// renderPage replaces the generated parts of a page.
func renderPage(page string, f *figures) (string, error) {
	var errs []error
	page = generated.ReplaceAllStringFunc(page, func(old string) string {
		name := generated.FindStringSubmatch(old)[1]
		section := sections[name]
		if section == nil {
			errs = append(errs, fmt.Errorf("no figures are called %q", name))
			return old
		}
		text, err := section(f)
		errs = append(errs, err)
		return fmt.Sprintf("<!-- figures: %s -->\n%s<!-- end of figures -->", name, text)
	})
	return page, errors.Join(errs...)
}

func (m machine) text() string {
	return fmt.Sprintf("Machine: %d virtual cores, Linux %s, Go %s, Redis %s; client, gateway and Redis share the cores.\n", m.Processors, m.Kernel, m.Go, m.Redis)
}

// short writes a number with two digits that count, and never in powers of ten.
func short(v float64) string {
	switch {
	case v >= 100:
		return grouped(fmt.Sprintf("%.0f", v))
	case v >= 10:
		return fmt.Sprintf("%.0f", v)
	case v >= 0.95:
		return fmt.Sprintf("%.1f", v)
	case v == 0:
		return "0"
	default:
		text := strconv.FormatFloat(v, 'g', 2, 64)
		if strings.Contains(text, "e") {
			return fmt.Sprintf("%.6f", v)
		}
		return text
	}
}

// grouped puts commas into a whole number.
func grouped(digits string) string {
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// text writes a ratio; two digits are needed where it is about 1.
func (r ratio) text() string {
	one := func(v float64) string {
		if v >= 0.095 && v < 2 {
			return fmt.Sprintf("%.2f", v)
		}
		return short(v)
	}
	return fmt.Sprintf("%s (%s–%s)", one(r.Median), one(r.Lowest), one(r.Most))
}

// text writes the median, with the lowest and highest.
func (v value) text() string {
	return fmt.Sprintf("%s (%s–%s)", short(v.Median), short(v.Lowest), short(v.Most))
}

// comparisonTable writes rows. absolute adds columns with the figures of the gateway itself.
func comparisonTable(rows []comparison, absolute bool) string {
	var b strings.Builder
	head, line := "| load | compared with | CPU per delivery |", "| --- | --- | --- |"
	if absolute {
		head, line = head+" CPU-s per million | p50 | p50, ms |", line+" --- | --- | --- |"
	}
	head, line = head+" p99 |", line+" --- |"
	if absolute {
		head, line = head+" p99, ms |", line+" --- |"
	}
	fmt.Fprintf(&b, "%s `gateway bench compare --pid $pid` … |\n%s --- |\n", head, line)
	for _, c := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s |", c.Load, c.Against, c.CPU.text())
		if absolute {
			fmt.Fprintf(&b, " %s, %s | %s | %s, %s |", short(c.CPU.Left), short(c.CPU.Right), c.P50.text(), short(c.P50.Left*1e3), short(c.P50.Right*1e3))
		}
		fmt.Fprintf(&b, " %s |", c.P99.text())
		if absolute {
			fmt.Fprintf(&b, " %s, %s |", short(c.P99.Left*1e3), short(c.P99.Right*1e3))
		}
		fmt.Fprintf(&b, " `%s` |\n", c.flags())
	}
	return b.String()
}

// flags returns the flags of the comparison for people.
func (c comparison) flags() string {
	for _, r := range rows {
		if r.load != c.Load || r.args != c.Args || r.against == "limit" {
			continue
		}
		if r.against == c.Against || r.shown == c.Against {
			against := r.against
			if strings.Contains(against, " ") || strings.HasPrefix(against, "-") {
				against = `"` + against + `"`
			}
			return c.Args + " --against " + against
		}
	}
	return c.Args
}

// rates says what the first row means in deliveries per second.
func (f *figures) rates() string {
	for _, c := range f.Comparisons["delivery"] {
		if c.Args == "--in-flight 64" {
			return fmt.Sprintf("- With 64 events in flight the gateway made %s deliveries per second at %s CPU-seconds per million. The limit made %s at %s.\n",
				short(c.Deliveries.Left), short(c.CPU.Left), short(c.Deliveries.Right), short(c.CPU.Right))
		}
	}
	return ""
}

// growthSection shows each curve: a plot and what it tells.
func (f *figures) growthSection() string {
	var b strings.Builder
	for _, p := range plotted {
		fmt.Fprintf(&b, "### %s\n\n%s\n\n![%s](performance/%s.svg)\n\n", p.title, p.load, p.title, p.curve)
		c := f.Curves[p.curve]
		head, line := "| "+p.unit+" |", "| --- |"
		for _, figure := range p.figures {
			head, line = head+" "+figure+" |", line+" --- |"
		}
		b.WriteString(head + "\n" + line + "\n")
		for _, at := range c.Points {
			fmt.Fprintf(&b, "| %s |", grouped(strconv.Itoa(int(at.X))))
			for _, figure := range p.figures {
				if v, ok := at.Figures[figure]; ok {
					fmt.Fprintf(&b, " %s |", v.text())
				} else {
					b.WriteString(" – |")
				}
			}
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\n%s\n\n", p.reading)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// frontTable compares ways to terminate TLS.
func (f *figures) frontTable() string {
	var b strings.Builder
	b.WriteString("| TLS ends in | fan-out, CPU µs per delivery | one in flight, CPU µs per delivery | one in flight, p50 ms | arrival, CPU µs | idle connection, KiB |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, t := range f.Fronts {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", t.Name, t.FanOut.text(), t.Single.text(), t.SingleP50.text(), t.Arrival.text(), t.Memory.text())
	}
	fmt.Fprintf(&b, "\nMeasured with %s.\n", f.Machine.Proxies)
	return b.String()
}
