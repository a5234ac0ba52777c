package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"orgcast/internal/config"
	"orgcast/internal/inventory"
)

const topUsage = `
Show the largest organizations of all nodes, again and again:

  gateway top                          by their connections
  gateway top --sort lag_seconds       those whose browsers are slow
  gateway top --once                   one table, as without a terminal

On a terminal, a key changes the order: c connections, d deliveries per second, b queued bytes, l lag.
q quits. QUEUED is what waits for browsers, LAG for how long the slowest has kept a write waiting.

The command asks the gateway at --admin, which asks all nodes, and says which do not answer.
`

// top is one call of gateway top.
type top struct {
	admin    adminSettings
	sort     string
	limit    int
	interval time.Duration
}

func topCommand(ctx context.Context, p *Process, args []string) error {
	var t top
	set := config.New("top", topUsage)
	t.admin.declare(set)
	set.FlagsOnly()
	var once bool
	set.Choice(&t.sort, "sort", inventory.ByConnections, inventory.Measures(), "the largest first")
	set.Int(&t.limit, "limit", 20, 1, "how many organizations to list; on a terminal, what fits")
	set.Duration(&t.interval, "interval", 2*time.Second, 200*time.Millisecond, "time between two looks")
	set.Bool(&once, "once", false, "print one table")
	if err := p.ParseAlone(set, args); err != nil {
		return err
	}
	t.limit = min(t.limit, inventory.MaxLimit)
	screen, ok := newScreen(p.Stdin, p.Stdout)
	if !ok || once {
		text, err := t.look(ctx, t.limit)
		if err != nil {
			return err
		}
		_, err = io.WriteString(p.Stdout, text)
		return err
	}
	return t.stay(ctx, screen)
}

// stay looks and draws until ctx ends or the user quits.
func (t *top) stay(ctx context.Context, s *screen) error {
	text, err := t.look(ctx, s.rows()-topHead)
	if err != nil {
		return err // before the screen is cleared
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys := s.open(ctx)
	defer s.close()
	defer cancel() // before close waits for the reader of keys
	for {
		if err := s.draw("Keys: c connections, d deliveries/s, b queued bytes, l lag, q quit\n" + text); err != nil {
			return err
		}
		select {
		case <-time.After(t.interval):
		case key := <-keys:
			if key == 'q' {
				return nil
			}
			t.sort = sortOf(key, t.sort)
		case <-ctx.Done():
			return nil
		}
		next, err := t.look(ctx, s.rows()-topHead)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil: // the gateway may come back
			text = time.Now().UTC().Format(time.TimeOnly) + "  no answer\n\n" + strings.ReplaceAll(plain(err.Error()), ": ", ":\n  ") + "\n"
		default:
			text = next
		}
	}
}

// topHead is how many lines of a screen are not organizations.
const topHead = 6

// sortOf returns the order that a key stands for.
func sortOf(key byte, otherwise string) string {
	switch key {
	case 'c':
		return inventory.ByConnections
	case 'd':
		return inventory.ByDeliveries
	case 'b':
		return inventory.ByQueued
	case 'l':
		return inventory.ByLag
	default:
		return otherwise
	}
}

// look asks all nodes and returns a table.
func (t *top) look(ctx context.Context, limit int) (string, error) {
	var load struct {
		Nodes []struct {
			Node, State string
			inventory.Load
		}
	}
	if err := t.admin.readJSON(ctx, "/v1/nodes", url.Values{}, &load); err != nil {
		return "", err
	}
	var largest struct {
		answered

		Organizations []inventory.Organization
	}
	query := url.Values{"sort": {t.sort}, "limit": {strconv.Itoa(max(limit, 1))}}
	if err := t.admin.readJSON(ctx, "/v1/organizations", query, &largest); err != nil {
		return "", err
	}
	var b bytes.Buffer
	connections, ready := 0, 0
	for _, n := range load.Nodes {
		connections += n.Connections
		if n.Ready {
			ready++
		}
	}
	fmt.Fprintf(&b, "%s  nodes %d (ready %d)  connections %d  by %s\n", time.Now().UTC().Format(time.TimeOnly), len(load.Nodes), ready, connections, t.sort)
	if missing := largest.missing(); missing != "" {
		fmt.Fprintln(&b, missing)
	}
	fmt.Fprintln(&b)
	out := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "ORGANIZATION\tNODES\tCONNECTIONS\tDELIVERIES/S\tQUEUED\tLAG\tDELIVERIES\tBYTES") // a buffer takes all
	for _, o := range largest.Organizations {
		_, _ = fmt.Fprintf(out, "%s\t%d\t%d\t%.1f\t%s\t%s\t%d\t%s\n", nameOrNone(o.ID), o.Nodes, o.Connections, o.DeliveriesPerSecond,
			inBytes(o.QueuedBytes), inSeconds(o.LagSeconds), o.Deliveries, inBytes(o.DeliveredBytes)) // likewise
	}
	_ = out.Flush() // likewise
	return b.String(), nil
}

// fit cuts text to the size of a screen.
func fit(text string, rows, columns int) []string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	lines = lines[:min(len(lines), rows)]
	for i, line := range lines {
		if runes := []rune(line); len(runes) > columns {
			lines[i] = string(runes[:columns])
		}
	}
	return lines
}
