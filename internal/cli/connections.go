package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"

	"orgcast/internal/config"
	"orgcast/internal/inventory"
)

const connectionsUsage = `
List the open connections of all nodes, or those of one organization:

  gateway connections                  by their ids, up to --limit
  gateway connections acme --user ada  those of one user
  gateway connections --sort lag_seconds --limit 20

QUEUED is what waits for the browser, LAG for how long it has kept a write waiting. The connection id
is the one in the log and in the "welcome" frame, so a page can say which is its own.
To close connections, see gateway revoke.

The command asks the gateway at --admin, which asks all nodes, and says which do not answer.
`

func connectionsCommand(ctx context.Context, p *Process, args []string) error {
	var a adminSettings
	set := config.New("connections", connectionsUsage)
	a.declare(set)
	set.FlagsOnly()
	var user, group, sort string
	var limit int
	var raw bool
	set.String(&user, "user", "", "only connections of this user", checkUser)
	set.String(&group, "group", "", "only connections that have joined this group", nil)
	set.String(&sort, "sort", "", "the largest first: deliveries, queued_bytes or lag_seconds", checkConnectionSort)
	set.Int(&limit, "limit", inventory.DefaultLimit, 1, "how many connections to list")
	set.Bool(&raw, "json", false, "print JSON, as GET /v1/connections does")
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
	query := url.Values{"organization_id": {org}, "user_id": {user}, "group": {group}, "sort": {sort}}
	if sort == sortDeliveries {
		query.Set("sort", inventory.ByDeliveries)
	}
	if sort != "" {
		limit = min(limit, inventory.MaxLimit) // the largest have one page
	}
	all := connectionList{rows: []inventory.Connection{}} // or JSON would show null
	more, err := a.readPages(ctx, "/v1/connections", query, limit, all.page)
	if err != nil {
		return err
	}
	if raw {
		return p.printJSON(map[string]any{"connections": all.rows, "complete": all.last.Complete, "nodes": all.last.Nodes})
	}
	return all.print(p.Stdout, more)
}

// sortDeliveries sorts connections by all their deliveries, because they have no rate of their own.
const sortDeliveries = "deliveries"

func checkConnectionSort(text string) error {
	switch text {
	case "", sortDeliveries, inventory.ByQueued, inventory.ByLag:
		return nil
	default:
		return errors.New("must be deliveries, queued_bytes or lag_seconds")
	}
}

// connectionList is the connections that are read so far.
type connectionList struct {
	rows []inventory.Connection
	last answered
}

func (l *connectionList) page() (into any, read func() (next string, rows int)) {
	type page struct {
		answered

		Connections []inventory.Connection
	}
	next := new(page)
	return next, func() (string, int) {
		l.rows, l.last = append(l.rows, next.Connections...), next.answered
		return next.Next, len(l.rows)
	}
}

func (l *connectionList) print(w io.Writer, more bool) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "CONNECTION\tORGANIZATION\tUSER\tNODE\tROUTE\tTRANSPORT\tCLIENT\tCONNECTED\tGROUPS\tQUEUED\tLAG\tDELIVERIES") // Flush has the error
	for _, c := range l.rows {
		_, _ = fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%d\n", c.ID, nameOrNone(c.Organization), plain(c.User), c.Node, plain(c.Route),
			c.Transport, c.Client, moment(c.ConnectedAt), c.Groups, inBytes(c.QueuedBytes), inSeconds(c.LagSeconds), c.Deliveries) // likewise
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if more {
		if err := note(w, "There are more; see --limit."); err != nil {
			return err
		}
	}
	return note(w, l.last.missing())
}
