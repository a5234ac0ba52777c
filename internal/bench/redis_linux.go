package bench

import (
	"context"
	"regexp"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// redisCPULine is a line of INFO about all threads of a server, without its children.
var redisCPULine = regexp.MustCompile(`(?m)^used_cpu_(?:sys|user):([0-9.]+)`)

// redisCPU returns how much CPU time Redis has used, in seconds, or 0 if it does not say.
func (t *target) redisCPU(ctx context.Context) (sum float64) {
	if t.redis == nil {
		return 0
	}
	var mu sync.Mutex
	add := func(ctx context.Context, server *redis.Client) error {
		info, err := server.Info(ctx, "cpu").Result()
		mu.Lock()
		defer mu.Unlock()
		for _, line := range redisCPULine.FindAllStringSubmatch(info, -1) {
			seconds, _ := strconv.ParseFloat(line[1], 64) // digits
			sum += seconds
		}
		return err
	}
	var err error
	switch client := t.redis.(type) {
	case *redis.ClusterClient:
		err = client.ForEachMaster(ctx, add)
	case *redis.Client:
		err = add(ctx, client)
	}
	if err != nil {
		return 0 // a user without the right to ask
	}
	return sum
}
