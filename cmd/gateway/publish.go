package main

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/config"
	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/pubsub"
)

const publishUsage = `
Publish an event to a group of an organisation:

  gateway publish [SETTINGS] ORGANIZATION GROUP JSON

The JSON is an object with a type. organization_id is added if it is not there, and refused if it
names another organisation. With - in place of JSON, one event is read from each line of standard
input. Example:

  gateway publish acme room.1 '{"type":"note","text":"hello"}'
`

// publishBatch is how many lines of standard input go in one round trip.
const publishBatch = 500

func publishCommand(ctx context.Context, p *process, args []string) error {
	s := new(settings)
	set := config.New("publish", publishUsage)
	s.declareRedis(set)
	set.Int(&s.maxEvent, "max-event", event.DefaultMaxSize, 128, "largest event, in bytes")
	rest, err := p.parse(set, args)
	if err != nil {
		return p.surplus(nil, err)
	}
	if len(rest) != 3 {
		set.Help(p.stderr)
		return errUsage
	}
	org, err := parseOrganization(rest[0])
	if err != nil {
		return err
	}
	group, err := event.NewGroup(org, rest[1])
	if err != nil {
		return err
	}
	options, err := s.redisOptions()
	if err != nil {
		return err
	}
	keys, err := keyspace.New(s.prefix)
	if err != nil {
		return err
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }() // all is published by then
	bus := pubsub.NewRedis(client, keys, pubsub.Options{MaxEventSize: s.maxEvent, PublishTimeout: 10 * time.Second})

	if rest[2] != "-" {
		payload, err := event.WithOrganization(org, []byte(rest[2]))
		if err != nil {
			return err
		}
		return bus.Publish(ctx, group, payload)
	}
	return p.publishLines(ctx, bus, group)
}

// publishLines publishes what stands in the lines of standard input, in batches. It stops at the
// first line that is refused and names it.
func (p *process) publishLines(ctx context.Context, bus *pubsub.Redis, group event.Group) error {
	lines := bufio.NewScanner(p.stdin)
	lines.Buffer(nil, 16<<20)
	var batch []pubsub.Outgoing
	sent := 0
	flush := func() error {
		for i, err := range bus.PublishAll(ctx, batch) {
			if err != nil {
				return fmt.Errorf("line %d: %w", sent+i+1, err)
			}
		}
		sent += len(batch)
		batch = batch[:0]
		return nil
	}
	for lines.Scan() {
		payload, err := event.WithOrganization(group.Organization(), append([]byte(nil), lines.Bytes()...))
		if err != nil {
			if flushErr := flush(); flushErr != nil {
				return flushErr
			}
			return fmt.Errorf("line %d: %w", sent+1, err)
		}
		if batch = append(batch, pubsub.Outgoing{Group: group, Payload: payload}); len(batch) == publishBatch {
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
