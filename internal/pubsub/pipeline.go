package pubsub

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// execute runs a pipeline, after which each command has its own error. The client leaves them without any
// if the server answers, but refuses the connection itself: for its password, say, or because it has as many
// as it takes. Then what was never sent would count as published, and a history as one without events.
func execute(ctx context.Context, pipe redis.Pipeliner) {
	commands, err := pipe.Exec(ctx)
	if err == nil {
		return
	}
	for _, c := range commands {
		if c.Err() != nil {
			return // they have been answered, and err is the first error of them
		}
	}
	for _, c := range commands {
		c.SetErr(err)
	}
}
