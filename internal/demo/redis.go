package demo

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
	redisserver "github.com/alicebob/miniredis/v2/server"
)

// Redis is a Redis inside this process, on a port of 127.0.0.1 that the system chose. It loses its
// data when it is closed, and lacks sharded pub/sub. It is for trials, not for production.
type Redis struct {
	embedded *miniredis.Miniredis
}

// StartRedis starts a Redis inside this process. The caller closes it.
func StartRedis() (*Redis, error) {
	embedded := miniredis.NewMiniRedis()
	if err := embedded.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("start embedded redis: %w", err)
	}
	embedded.Server().SetPreHook(tellRole)
	return &Redis{embedded: embedded}, nil
}

// tellRole answers a subscriber that asks for the server's role, in one piece. The embedded server
// itself writes that answer in several pieces, and events could get in between.
func tellRole(c *redisserver.Peer, command string, args ...string) (answered bool) {
	if command != "HELLO" || len(args) != 1 || args[0] != "3" || !c.Resp3 {
		return false // the client is not a subscriber, but has just connected
	}
	c.Block(func(w *redisserver.Writer) {
		w.WriteMapLen(2)
		for _, text := range []string{"server", "miniredis", "role", "master"} {
			w.WriteBulk(text)
		}
	})
	return true
}

// Addr returns host and port.
func (r *Redis) Addr() string { return r.embedded.Addr() }

// Close ends the server and its connections and waits for them.
func (r *Redis) Close() { r.embedded.Close() }
