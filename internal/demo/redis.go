package demo

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
)

// Redis is a Redis inside this process, on a port of 127.0.0.1 that the system chose. It keeps
// nothing when it is closed, and it lacks sharded pub/sub: it is for trying things, not for work.
type Redis struct {
	server *miniredis.Miniredis
}

// StartRedis starts a Redis inside this process. The caller closes it.
func StartRedis() (*Redis, error) {
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start embedded redis: %w", err)
	}
	return &Redis{server: server}, nil
}

// Addr returns host and port.
func (r *Redis) Addr() string { return r.server.Addr() }

// Close ends the server and its connections and waits for them.
func (r *Redis) Close() { r.server.Close() }
