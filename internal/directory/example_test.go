package directory_test

import (
	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/keyspace"
)

// exampleRedis returns a client of a Redis inside this process, and a function that ends both.
func exampleRedis() (client *redis.Client, keys keyspace.Keyspace, end func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	if keys, err = keyspace.New(keyspace.DefaultPrefix); err != nil {
		panic(err)
	}
	client = redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	return client, keys, func() {
		_ = client.Close()
		server.Close()
	}
}
