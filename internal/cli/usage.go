package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"slices"
	"text/tabwriter"
	"time"

	"orgcast/internal/config"
	"orgcast/internal/usage"
)

const usageUsage = `
Show what organizations used of all nodes, in whole hours (UTC):

  gateway usage                     each organization in the last 24 hours
  gateway usage acme                one organization, hour by hour
  gateway usage acme --since 720h --json

DELIVERIES are events written to connections, and BYTES what they took before compression. PEAK is the
most connections at a time: the sum of the nodes' peaks, so at most so many. LAG is the longest time
from an event's arrival at a node to its write.

Nodes write what they count every 10 s, so the current hour is that old. Hours are kept for the
gateway's --usage-retention.
`

func usageCommand(ctx context.Context, p *Process, args []string) error {
	var a adminSettings
	set := config.New("usage", usageUsage)
	a.declare(set)
	set.FlagsOnly()
	var since, until string
	var raw bool
	set.String(&since, "since", "24h", "begin of the period: a duration such as 24h before now, or a time such as 2026-11-29T04:00:00Z", checkMoment)
	set.String(&until, "until", "0s", "end of the period, in the same form", checkMoment)
	set.Bool(&raw, "json", false, "print every hour as JSON, as GET /v1/usage does")
	rest, err := p.Parse(set, args)
	if err != nil {
		return err
	}
	if len(rest) > 1 {
		return p.misused(set, rest)
	}
	org, err := optionalOrganization(rest)
	if err != nil {
		return err
	}
	now := time.Now()
	all := usageList{rows: []usage.Row{}} // or JSON would show null
	if err := all.read(ctx, &a, org, momentOf(since, now), momentOf(until, now)); err != nil {
		return err
	}
	switch {
	case raw:
		return p.printJSON(map[string]any{"usage": all.rows})
	case org == "":
		return all.printOrganizations(p.Stdout)
	default:
		return all.printHours(p.Stdout)
	}
}

func checkMoment(text string) error {
	if _, err := time.Parse(time.RFC3339, text); err == nil {
		return nil
	}
	if ago, err := time.ParseDuration(text); err != nil || ago < 0 {
		return errors.New("must be a duration such as 24h, or a time such as 2026-11-29T04:00:00Z")
	}
	return nil
}

// momentOf returns a checked moment as a time. A duration before now begins with the hour that it
// falls into, because usage has whole hours.
func momentOf(text string, now time.Time) time.Time {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at
	}
	ago, _ := time.ParseDuration(text) // as checked
	at := now.Add(-ago).UTC()
	if ago > 0 {
		at = at.Truncate(time.Hour)
	}
	return at
}

// usageList is the rows that are read so far, ordered by hour and organization.
type usageList struct{ rows []usage.Row }

// read reads a period. The gateway answers about [usage.MaxHours] at a time.
func (l *usageList) read(ctx context.Context, a *adminSettings, org string, from, to time.Time) error {
	for begin := from; ; {
		end := begin.Add(usage.MaxHours * time.Hour)
		if end.After(to) {
			end = to
		}
		query := url.Values{"organization_id": {org}, "from": {begin.Format(time.RFC3339Nano)}, "to": {end.Format(time.RFC3339Nano)}}
		if _, err := a.readPages(ctx, "/v1/usage", query, math.MaxInt, l.page); err != nil {
			return err
		}
		if begin = end; !begin.Before(to) {
			return nil
		}
	}
}

func (l *usageList) page() (into any, read func() (next string, rows int)) {
	next := new(struct {
		Usage []usage.Row
		Next  string
	})
	return next, func() (string, int) {
		l.rows = append(l.rows, next.Usage...)
		return next.Next, len(l.rows)
	}
}

// printHours prints a row for each hour, and their sum.
func (l *usageList) printHours(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "HOUR\tPEAK\tDELIVERIES\tBYTES\tLAG") // Flush has the error
	var sum usage.Row
	for _, row := range l.rows {
		printUsage(out, row.Hour.UTC().Format("2006-01-02 15:04"), row)
		sum = plus(sum, row)
	}
	printUsage(out, "all", sum)
	return out.Flush()
}

// printOrganizations prints a row for each organization, those with most deliveries first.
func (l *usageList) printOrganizations(w io.Writer) error {
	sums := make(map[string]usage.Row)
	var all usage.Row
	for _, row := range l.rows {
		sum := plus(sums[row.Organization], row)
		sum.Organization = row.Organization
		sums[row.Organization], all = sum, plus(all, row)
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "ORGANIZATION\tPEAK\tDELIVERIES\tBYTES\tLAG") // Flush has the error
	for _, row := range slices.SortedFunc(maps.Values(sums), func(a, b usage.Row) int {
		return cmp.Or(cmp.Compare(b.Deliveries, a.Deliveries), cmp.Compare(a.Organization, b.Organization))
	}) {
		printUsage(out, nameOrNone(row.Organization), row)
	}
	all.PeakConnections = 0 // organizations have their peaks at different times
	printUsage(out, "all", all)
	return out.Flush()
}

// plus returns two rows as one.
func plus(a, b usage.Row) usage.Row {
	a.PeakConnections, a.LagSeconds = max(a.PeakConnections, b.PeakConnections), max(a.LagSeconds, b.LagSeconds)
	a.Deliveries += b.Deliveries
	a.DeliveredBytes += b.DeliveredBytes
	return a
}

func printUsage(w io.Writer, name string, row usage.Row) {
	peak := "-"
	if row.PeakConnections > 0 {
		peak = fmt.Sprint(row.PeakConnections)
	}
	_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", name, peak, row.Deliveries, inBytes(row.DeliveredBytes), inSeconds(row.LagSeconds)) // Flush has the error
}
