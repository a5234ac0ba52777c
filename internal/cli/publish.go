package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"orgcast/internal/config"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
)

const publishUsage = `
Publish an event to a group of an organization, or to a user's own group:

  gateway publish [SETTINGS] ORGANIZATION GROUP JSON
  gateway publish [SETTINGS] --user USER ORGANIZATION JSON

JSON is an object with a type. organization_id is added if it is missing; an event that names
another organization is refused. With - instead of JSON, each line of standard input is one event.
Examples:

  gateway publish acme room.1 '{"type":"note","text":"hello"}'
  gateway publish --user 'auth0|123' acme '{"type":"note","text":"hello"}'

With --record, the event is also kept in the history of the group, and its position there is printed,
one line for each event. Of several events with the same --idempotency-key, only the first is
recorded, and all print its position.

Standard error shows how many nodes the event reached: 0 if nobody has joined the group.
`

// publishBatch is how many lines of standard input go in one round trip.
const publishBatch = 500

func publishCommand(ctx context.Context, p *Process, args []string) error {
	s := new(settings)
	set := config.New("publish", publishUsage)
	s.declareRedis(set)
	set.Int(&s.MaxEvent, "max-event", event.DefaultMaxSize, 128, "largest event, in bytes")
	var record bool
	var key, user string
	set.Bool(&record, "record", false, "keep the event in the history of the group")
	set.String(&user, "user", "", "publish to this user's own group, instead of GROUP", checkUser)
	set.String(&key, "idempotency-key", "", "record only the first event with this key; requires --record", checkIdempotencyKey)
	rest, err := p.Parse(set, args, s.CheckRedis)
	if err != nil {
		return err
	}
	group, rest, ok := publishTarget(rest, user)
	if !ok {
		return p.misused(set, rest)
	}
	if key != "" && (!record || rest[1] == "-") {
		return misuse(errors.New("--idempotency-key: requires --record and a single event"))
	}
	org, err := parseOrganization(rest[0])
	if err != nil {
		return err
	}
	target, err := event.NewGroup(org, group)
	if err != nil {
		return misuse(err)
	}
	keys, err := s.Keyspace()
	if err != nil {
		return err
	}
	client, err := s.ConnectEvents()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // everything has been published by then
	publisher := pubsub.NewPublisher(client, keys, pubsub.Options{MaxEventSize: s.MaxEvent, PublishTimeout: 10 * time.Second})

	out := event.Publication{Group: target}
	if record {
		out.Record = &event.Recording{IdempotencyKey: key}
	}
	if rest[1] != "-" {
		if out.Payload, err = event.WithOrganization(org, []byte(rest[1])); err != nil {
			return misuse(err)
		}
		result := publisher.PublishAll(ctx, []event.Publication{out})[0]
		if err := p.published(result); err != nil {
			return err
		}
		r := new(reach)
		r.add(result)
		_, _ = fmt.Fprintln(p.Stderr, r.text(target, false)) // stderr may be closed
		return nil
	}
	return p.publishLines(ctx, publisher, out)
}

// reach sums up to how many nodes Redis passed the events.
type reach struct {
	published, repeated int
	least, most         int64
}

// add adds a receipt.
func (r *reach) add(result event.Receipt) {
	if result.Repeated {
		r.repeated++
		return
	}
	if r.published++; r.published == 1 {
		r.least = result.Nodes
	}
	r.least, r.most = min(r.least, result.Nodes), max(r.most, result.Nodes)
}

// text describes the sum for a group. lines says that the events were given as lines.
func (r *reach) text(g event.Group, lines bool) string {
	var text string
	switch {
	case r.published == 0 && r.repeated > 0:
		return "published nothing: the idempotency key has been used before"
	case r.published == 0:
		return "published nothing"
	case r.most == 1 && r.least == 1:
		text = "reached 1 node"
	case r.most == 0:
		text = fmt.Sprintf("reached 0 nodes: nobody has joined %s", g)
	case r.least == r.most:
		text = fmt.Sprintf("reached %d nodes", r.most)
	default:
		text = fmt.Sprintf("reached %d to %d nodes", r.least, r.most)
	}
	if lines {
		noun := "events"
		if r.published == 1 {
			noun = "event"
		}
		text = fmt.Sprintf("published %d %s, %s", r.published, noun, text)
	}
	return text
}

// publishTarget returns the name of the group to publish to, and the other arguments: ORGANIZATION
// and JSON.
func publishTarget(args []string, user string) (group string, rest []string, ok bool) {
	switch {
	case user != "" && len(args) == 2:
		return event.UserGroupName(user), args, true
	case user == "" && len(args) == 3:
		return args[1], []string{args[0], args[2]}, true
	default:
		return "", args, false
	}
}

// checkUser checks that a setting is a user id, or empty.
func checkUser(user string) error {
	if user != "" && !orgctx.ValidUserID(user) {
		return orgctx.ErrInvalidUserID
	}
	return nil
}

// checkIdempotencyKey checks that a setting is an idempotency key, or empty.
func checkIdempotencyKey(key string) error {
	if key != "" && !event.ValidIdempotencyKey(key) {
		return event.ErrInvalidIdempotencyKey
	}
	return nil
}

// published prints the position of a recorded event.
func (p *Process) published(r event.Receipt) error {
	if r.Err != nil || r.Position.IsZero() {
		return r.Err
	}
	_, err := fmt.Fprintln(p.Stdout, r.Position)
	return err
}

// publishLines publishes the lines of standard input, in batches, each with the group and recording
// of out. It skips blank lines, stops at the first refused line, and names it.
func (p *Process) publishLines(ctx context.Context, publisher *pubsub.Publisher, out event.Publication) error {
	lines := bufio.NewScanner(p.Stdin)
	lines.Buffer(nil, 16<<20)
	var batch []event.Publication
	var numbers []int // line numbers of the batch
	total := new(reach)
	defer func() { _, _ = fmt.Fprintln(p.Stderr, total.text(out.Group, true)) }() // stderr may be closed
	flush := func() error {
		for i, result := range publisher.PublishAll(ctx, batch) {
			if err := p.published(result); err != nil {
				return fmt.Errorf("line %d: %w", numbers[i], err)
			}
			total.add(result)
		}
		batch, numbers = batch[:0], numbers[:0]
		return nil
	}
	for number := 1; lines.Scan(); number++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var err error
		out.Payload, err = event.WithOrganization(out.Group.Organization(), append([]byte(nil), lines.Bytes()...))
		if err != nil {
			if flushErr := flush(); flushErr != nil {
				return flushErr
			}
			return fmt.Errorf("line %d: %w", number, err)
		}
		numbers = append(numbers, number)
		if batch = append(batch, out); len(batch) == publishBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return lines.Err()
}
