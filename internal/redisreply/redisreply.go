// Package redisreply says what the replies of Redis mean where the client library leaves it open: what
// became of each command of a pipeline, and whether Redis refuses to write although it is there.
//
// Everything that runs a pipeline runs it with [Exec]. An empty value says "there is no such thing" only
// if its command has no error, and without Exec a command that was never sent has none.
package redisreply

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Exec runs a pipeline or a transaction, after which each of its commands has its own error. It returns
// the first of them, or why nothing was sent.
//
// The library leaves the commands without an error if the server answers but refuses the connection
// itself: the password has changed, the user was deleted, there are too many clients. Then a session
// would count as ended, a user as not revoked, an event as published and a history as empty.
func Exec(ctx context.Context, pipe redis.Pipeliner) error {
	commands, err := pipe.Exec(ctx) //nolint:forbidigo // what this function is for
	if err == nil {
		return nil
	}
	for _, c := range commands {
		if c.Err() != nil {
			return err // they have been answered, and err is the first error of them
		}
	}
	for _, c := range commands {
		c.SetErr(err)
	}
	return err
}

// WritesRefused reports whether an error says that Redis is there but does not write in its present
// state, whoever asks: its memory is full, its last snapshot failed, it is a read-only replica, it has
// too few replicas, or it is loading its data. It still takes and delivers what is published. In the last
// state, and as a replica without a master that does not serve stale data, it refuses to read, too.
func WritesRefused(err error) bool {
	return slices.ContainsFunc(refusals(), func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
}

// Error is an error of Redis that a script has caught and returned as text. Returned as an error inside a
// list, the library would take some for the error of the whole reply.
type Error string

// Error implements error.
func (e Error) Error() string { return string(e) }

// RedisError implements [redis.Error].
func (Error) RedisError() {}

var _ redis.Error = Error("")

// refusals are how the errors of these states begin.
func refusals() []string {
	return []string{"OOM ", "MISCONF ", "READONLY ", "NOREPLICAS ", "LOADING ", "MASTERDOWN "}
}
