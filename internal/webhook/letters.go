package webhook

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// idOf returns the ID of an entry's text, whatever else it contains.
func idOf(text string) string {
	id, _, _ := strings.Cut(text, "\n")
	return id
}

// Counts are the numbers of an organization, or of all.
type Counts struct {
	Waiting, WaitingBytes, Dead int64
}

// Letter is a webhook that could not be delivered.
type Letter struct {
	Entry

	// Position is its place among the dead letters of its organization.
	Position string
	// Line is the line to which it belongs: user:USER or group:GROUP.
	Line string
	// Reason says why the last attempt failed, and Tries how many there were.
	Reason string
	Tries  int
}

// Letters are the dead letters, for operators. They are safe for concurrent use.
type Letters struct {
	client  redis.Cmdable
	keys    keyspace.Keyspace
	scripts scripts
}

// NewLetters returns the dead letters.
func NewLetters(client redis.Cmdable, keys keyspace.Keyspace) *Letters {
	return &Letters{client: client, keys: keys, scripts: newScripts()}
}

// Count counts what waits and what is dead, of all organizations.
func (l *Letters) Count(ctx context.Context) (Counts, error) {
	return count(ctx, l.scripts.counts, l.client, l.keys.WebhookRing())
}

// CountOf counts what waits and what is dead of one organization.
func (l *Letters) CountOf(ctx context.Context, org orgctx.ID) (Counts, error) {
	return count(ctx, l.scripts.counts, l.client, l.keys.WebhookRing(), org.String())
}

func count(ctx context.Context, script *redis.Script, client redis.Cmdable, ring string, args ...any) (Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	n, err := script.Run(ctx, client, []string{ring}, args...).Int64Slice()
	if err == nil && len(n) != 3 {
		err = errMalformed
	}
	if err != nil {
		return Counts{}, fmt.Errorf("count webhooks: %w", err)
	}
	return Counts{Waiting: n[0], WaitingBytes: n[1], Dead: n[2]}, nil
}

// Organizations returns the organizations that have dead letters, in alphabetical order.
func (l *Letters) Organizations(ctx context.Context) (orgs []orgctx.ID, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	names, err := l.client.SMembers(ctx, l.keys.WebhookDeadOrganizations()).Result()
	if err != nil {
		return nil, fmt.Errorf("list organizations: %w", err)
	}
	slices.Sort(names)
	for _, name := range names {
		if org, err := orgctx.ParseID(name); err == nil {
			orgs = append(orgs, org)
		}
	}
	return orgs, nil
}

// List returns dead letters of an organization, oldest first, after a position that may be empty.
func (l *Letters) List(ctx context.Context, org orgctx.ID, after string, most int) (list []Letter, err error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	messages, err := l.client.XRangeN(ctx, l.keys.WebhookDead(org), cmp.Or(after, "-"), "+", int64(most)+1).Result()
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	if len(messages) > 0 && messages[0].ID == after {
		messages = messages[1:]
	}
	for _, m := range messages[:min(most, len(messages))] {
		text := func(name string) string { s, _ := m.Values[name].(string); return s }
		one := Letter{Position: m.ID, Line: text("line"), Reason: text("reason")}
		one.Tries, _ = strconv.Atoi(text("tries"))
		if one.Entry, err = parseEntry(text("entry")); err != nil {
			one.Entry = Entry{ID: idOf(text("entry"))}
		}
		list = append(list, one)
	}
	return list, nil
}

// Retry puts a dead letter back into its line, behind what waits there, and reports whether it was
// still there. It keeps its ID. It is tried at least once more.
func (l *Letters) Retry(ctx context.Context, org orgctx.ID, one Letter) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	n, err := l.scripts.retry.Run(ctx, l.client, []string{l.keys.WebhookRing()}, org.String(), one.Position).Int()
	if err != nil {
		return false, fmt.Errorf("retry %s: %w", one.ID, err)
	}
	return n == 1, nil
}

// RetryID is [Letters.Retry] for the dead letter with an ID.
func (l *Letters) RetryID(ctx context.Context, org orgctx.ID, id string) (found bool, err error) {
	err = l.each(ctx, org, func(one Letter) (bool, error) {
		if one.ID != id {
			return true, nil
		}
		found, err = l.Retry(ctx, org, one)
		return false, err
	})
	return found, err
}

// RetryAll is [Letters.Retry] for all dead letters of an organization that there are now: one may soon
// be a dead letter again. It returns how many it has put back, also with an error, and calls retried,
// unless that is nil, after each.
func (l *Letters) RetryAll(ctx context.Context, org orgctx.ID, retried func(Letter)) (n int, err error) {
	err = l.each(ctx, org, func(one Letter) (bool, error) {
		ok, err := l.Retry(ctx, org, one)
		if ok {
			n++
			if retried != nil {
				retried(one)
			}
		}
		return true, err
	})
	return n, err
}

// letterPage is how many dead letters are read at once, about 100 KiB.
const letterPage = 200

// each calls f with the dead letters of an organization that there are now, oldest first, until it
// returns false or an error.
func (l *Letters) each(ctx context.Context, org orgctx.ID, f func(Letter) (more bool, err error)) error {
	counts, err := l.CountOf(ctx, org)
	if err != nil {
		return err
	}
	after := ""
	for left := int(counts.Dead); left > 0; {
		list, err := l.List(ctx, org, after, min(left, letterPage))
		if err != nil || len(list) == 0 {
			return err
		}
		for _, one := range list {
			if more, err := f(one); err != nil || !more {
				return err
			}
		}
		left -= len(list)
		after = list[len(list)-1].Position
	}
	return nil
}
