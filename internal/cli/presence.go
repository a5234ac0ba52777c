package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"text/tabwriter"
	"time"

	"orgcast/internal/config"
	"orgcast/internal/event"
	"orgcast/internal/presence"
)

const presenceUsage = `
Show the users who are in a group, on all nodes, as its members see them:

  gateway presence acme room.1

CONNECTIONS is how many connections of the user have joined the group, and SINCE when the user came.
Of more than 1,000 users, only the number is known. Groups that --presence-policy does not name, and
routes without presence, have none.
`

func presenceCommand(ctx context.Context, p *Process, args []string) error {
	var a adminSettings
	set := config.New("presence", presenceUsage)
	a.declare(set)
	set.FlagsOnly()
	var raw bool
	set.Bool(&raw, "json", false, "print JSON, as GET /v1/presence does")
	rest, err := p.Parse(set, args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return p.misused(set, rest)
	}
	if _, err := parseOrganization(rest[0]); err != nil {
		return misuse(err)
	}
	if !event.ValidGroupName(rest[1]) {
		return misuse(fmt.Errorf("group %q: must be 1 to 100 characters of A-Z a-z 0-9 _ . -", rest[1]))
	}
	body, err := a.get(ctx, "/v1/presence", url.Values{"organization_id": {rest[0]}, "group": {rest[1]}})
	if err != nil {
		return err
	}
	if raw {
		_, err = fmt.Fprintln(p.Stdout, string(body))
		return err
	}
	var who presence.Snapshot
	if err := json.Unmarshal(body, &who); err != nil {
		return fmt.Errorf("answer of %s: %w", a.url, err)
	}
	return printPresence(p.Stdout, who)
}

// printPresence prints users as a table, and their number.
func printPresence(w io.Writer, who presence.Snapshot) error {
	if len(who.Users) > 0 {
		out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(out, "USER\tCONNECTIONS\tSINCE\tSTATE") // Flush has the error
		for _, u := range who.Users {
			_, _ = fmt.Fprintf(out, "%s\t%d\t%s\t%s\n", plain(u.UserID), u.Connections, u.Since.UTC().Format(time.RFC3339), plain(string(u.State))) // likewise
		}
		if err := out.Flush(); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w)
		return err
	}
	_, err := fmt.Fprintln(w, who.Count, "users")
	return err
}
