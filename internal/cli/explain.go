package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"orgcast/internal/config"
)

const explainUsage = `
Tell why an event did not reach browsers, or whom it reached and how fast:

  gateway explain ORGANIZATION POSITION              a recorded event, as far as nodes remember it
  gateway explain ORGANIZATION POSITION --group G    also if no node received it
  gateway explain ORGANIZATION --group G --since 5m  everything since, for transient events and refusals

POSITION is the id of a recorded event: "gateway publish --record" prints it, the answer of POST
/v1/publish has it, and so does the envelope that browsers get. With --user, the answer is about the
connections of one user.

The command asks the gateway at --admin, which asks all nodes. Each remembers what it decided for a
while, in --explain-bytes-per-organization bytes. The answer says how far back that reaches, and
which nodes do not answer. "Got" and "written" mean that the node's system took the bytes.

Settings may stand before or after the arguments.
`

func explainCommand(ctx context.Context, p *Process, args []string) error {
	var a adminSettings
	set := config.New("explain", explainUsage)
	a.declare(set)
	var group, user, since string
	var raw bool
	set.String(&group, "group", "", "name of the group", nil)
	set.String(&user, "user", "", "tell only about connections of this user", checkUser)
	set.String(&since, "since", "", "tell everything since then: a duration such as 5m, or a time such as 2026-11-29T12:00:00Z", nil)
	set.Bool(&raw, "json", false, "print everything that the nodes know, as JSON")
	rest, err := p.Parse(set, args)
	if err != nil {
		return err
	}
	if len(rest) == 0 || len(rest) > 2 || (len(rest) == 2) == (since != "") {
		return p.misused(set, rest)
	}
	if _, err := parseOrganization(rest[0]); err != nil {
		return err
	}
	query := url.Values{"organization_id": {rest[0]}}
	if len(rest) == 2 {
		query.Set("position", rest[1])
	}
	for name, value := range map[string]string{"group": group, "user_id": user, "since": since} {
		if value != "" {
			query.Set(name, value)
		}
	}
	body, err := a.get(ctx, "/v1/explain", query)
	if err != nil {
		return err
	}
	if raw {
		_, err = fmt.Fprintln(p.Stdout, string(body))
		return err
	}
	var answer struct{ Sentences []string }
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("answer of %s: %w", a.url, err)
	}
	for _, sentence := range answer.Sentences {
		if _, err := fmt.Fprintln(p.Stdout, sentence); err != nil {
			return err
		}
	}
	return nil
}
