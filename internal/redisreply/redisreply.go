// Package redisreply interprets Redis replies where the client library does not: the result of each
// command of a pipeline, and whether Redis is up but refuses writes.
//
// All code runs pipelines with [Exec]. An empty value means "does not exist" only if its command
// has no error, and without Exec a command that was never sent has no error.
package redisreply

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Exec runs a pipeline or a transaction. Afterwards each of its commands has its own error. Exec
// returns the first of these, or the reason why nothing was sent.
//
// The library leaves the commands without an error if the server answers but refuses the connection
// itself: the password has changed, the user was deleted, there are too many clients. Then a
// session would count as ended, a user as not revoked, an event as published and a history as
// empty.
func Exec(ctx context.Context, pipe redis.Pipeliner) error {
	commands, err := pipe.Exec(ctx) //nolint:forbidigo // what this function is for
	if err == nil {
		return nil
	}
	for _, c := range commands {
		if c.Err() != nil {
			return err // Redis has answered them, and err is the first of their errors
		}
	}
	for _, c := range commands {
		c.SetErr(err)
	}
	return err
}

// WritesRefused reports whether an error means that Redis is up but refuses writes from everybody
// in its current state: its memory is full, its last snapshot failed, it is a read-only replica, it
// has too few replicas, or it is loading its data. It still accepts and delivers publications. It
// also refuses reads while it is loading, and as a replica that has lost its master and serves no
// stale data.
func WritesRefused(err error) bool {
	return slices.ContainsFunc(refusals(), func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}

// Error is a Redis error that a script has caught and returned as text. If it were returned as an
// error inside a list, the library would treat some as the error of the whole reply.
type Error string

// Error implements error.
func (e Error) Error() string { return string(e) }

// RedisError implements [redis.Error].
func (Error) RedisError() {}

var _ redis.Error = Error("")

// refusals returns the prefixes of the errors in these states.
func refusals() []string {
	return []string{"OOM ", "MISCONF ", "READONLY ", "NOREPLICAS ", "LOADING ", "MASTERDOWN "}
}
