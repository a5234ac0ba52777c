package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"orgcast/internal/config"
	"orgcast/internal/event"
	"orgcast/internal/tail"
)

const tailUsage = `
Show the events of an organization as they pass, until you stop it:

  gateway tail acme               in all groups that have members, on whichever node
  gateway tail acme room.1        in one group, even if it has no members
  gateway tail acme --payloads    with their content

Each line has the time, the group, the type, the size, and for a recorded event its id. What is not an
event is shown too, with the reason why nodes drop it. Of an organization, the first 1,000 groups are
followed, and a group with its first member within 2 s.

--payloads needs the gateway's --admin-key. The gateway logs who saw the payloads of which organization.

If you read more slowly than events come, some are skipped, and a line says how many. Nothing waits for
you. The gateway at --admin hears the events from Redis; the others are only asked for their groups.
`

func tailCommand(ctx context.Context, p *Process, args []string) error {
	var a adminSettings
	set := config.New("tail", tailUsage)
	a.declare(set)
	set.FlagsOnly()
	var payloads, raw bool
	set.Bool(&payloads, "payloads", false, "show the content of events; leaves a line in the gateway's log")
	set.Bool(&raw, "json", false, "print lines of JSON, as GET /v1/tail does")
	rest, err := p.Parse(set, args)
	if err != nil {
		return err
	}
	if len(rest) == 0 || len(rest) > 2 {
		return p.misused(set, rest)
	}
	if _, err := parseOrganization(rest[0]); err != nil {
		return misuse(err)
	}
	query := url.Values{"organization_id": {rest[0]}, "payloads": {strconv.FormatBool(payloads)}}
	if len(rest) == 2 {
		if !event.ValidGroupName(rest[1]) {
			return misuse(fmt.Errorf("group %q: must be 1 to 100 characters of A-Z a-z 0-9 _ . -", rest[1]))
		}
		query.Set("group", rest[1])
	}
	answer, err := a.open(ctx, "/v1/tail", query)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }() // nothing can be lost
	err = p.showTail(answer, raw)
	switch {
	case ctx.Err() != nil: // the user has seen enough
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("ask %s: the gateway ended the tail: it stops, or its --admin-key has changed", a.url)
	default:
		return fmt.Errorf("ask %s: %w", a.url, err)
	}
}

// showTail prints lines until there are no more, and returns why.
func (p *Process) showTail(answer io.Reader, raw bool) error {
	for decoder := json.NewDecoder(answer); ; {
		var text json.RawMessage
		if err := decoder.Decode(&text); err != nil {
			return err
		}
		var line tail.Line
		if err := json.Unmarshal(text, &line); err != nil {
			return err
		}
		out, shown := p.Stdout, plain(string(text))
		if !raw {
			shown = tailLine(line)
			if line.Kind != tail.KindEvent && line.Kind != tail.KindRefused {
				out = p.Stderr
			}
		}
		if _, err := fmt.Fprintln(out, shown); err != nil {
			return err
		}
	}
}

// tailLine returns a line for people.
func tailLine(l tail.Line) string {
	at := l.Time.UTC().Format("15:04:05.000")
	switch l.Kind {
	case tail.KindFollowing:
		more := ""
		if l.More {
			more = ", the first of more"
		}
		return fmt.Sprintf("%s  following %d groups%s", at, l.Groups, more)
	case tail.KindMissed:
		return fmt.Sprintf("%s  %d events skipped: you read too slowly", at, l.Events)
	case tail.KindInterrupted:
		return fmt.Sprintf("%s  interrupted, events may be missing: %s", at, plain(l.Reason))
	case tail.KindRefused:
		return fmt.Sprintf("%s  %s  dropped by nodes: %s  %d B", at, l.Group, l.Reason, l.Bytes)
	}
	parts := []string{at, l.Group, l.Type, strconv.Itoa(l.Bytes) + " B"}
	if l.ID != "" {
		parts = append(parts, l.ID)
	}
	if len(l.Payload) > 0 {
		var compact bytes.Buffer
		if json.Compact(&compact, l.Payload) == nil {
			parts = append(parts, plain(compact.String()))
		}
	}
	return strings.Join(parts, "  ")
}
