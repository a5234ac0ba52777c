package redisreply_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/redisreply"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestConnectionRefused: after a connection that Redis refused, each command of a pipeline has the
// error of the refusal, however Redis came to refuse.
func TestConnectionRefused(t *testing.T) {
	for name, refusal := range redistest.Refusals() {
		t.Run(name, func(t *testing.T) {
			s := redistest.StartServer(t)
			client := s.NewRefusedClient(refusal)
			for name, pipe := range map[string]redis.Pipeliner{"pipeline": client.Pipeline(), "transaction": client.TxPipeline()} {
				commands := []redis.Cmder{
					pipe.GetRange(t.Context(), "k", 0, -1),
					pipe.Exists(t.Context(), "k"),
					pipe.HMGet(t.Context(), "k", "f"),
					pipe.Publish(t.Context(), "k", "v"),
				}
				err := redisreply.Exec(t.Context(), pipe)
				if err == nil || !strings.Contains(err.Error(), refusal.Error) {
					t.Errorf("%s: got %v, want %s", name, err, refusal.Error)
				}
				for _, c := range commands {
					if c.Err() == nil || !strings.Contains(c.Err().Error(), refusal.Error) {
						t.Errorf("%s, %s: got %v, want %s", name, c.Name(), c.Err(), refusal.Error)
					}
				}
			}
		})
	}
}

// TestEachCommandKeepsItsOwn: what was answered stays as it was answered.
func TestEachCommandKeepsItsOwn(t *testing.T) {
	client := redistest.NewClient(t, redistest.Start(t))
	ctx := t.Context()
	pipe := client.Pipeline()
	set, wrong, missing, get := pipe.Set(ctx, "k", "v", 0), pipe.HGet(ctx, "k", "f"), pipe.Get(ctx, "nothing"), pipe.Get(ctx, "k")
	if err := redisreply.Exec(ctx, pipe); !redis.HasErrorPrefix(err, "WRONGTYPE") {
		t.Errorf("got %v, want the first error", err)
	}
	if set.Err() != nil || !redis.HasErrorPrefix(wrong.Err(), "WRONGTYPE") || !errors.Is(missing.Err(), redis.Nil) || get.Val() != "v" || get.Err() != nil {
		t.Errorf("got %v, %v, %v, %v", set, wrong, missing, get)
	}
	if err := redisreply.Exec(ctx, client.Pipeline()); err != nil {
		t.Errorf("without commands: got %v, want nil", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	pipe = client.Pipeline()
	get = pipe.Get(canceled, "k")
	if err := redisreply.Exec(canceled, pipe); !errors.Is(err, context.Canceled) || !errors.Is(get.Err(), context.Canceled) {
		t.Errorf("canceled: got %v and %v", err, get.Err())
	}
}

// TestWritesRefused: the errors by which real servers refuse to write, directly and inside a
// script.
func TestWritesRefused(t *testing.T) {
	for _, state := range redistest.States() {
		t.Run(string(state), func(t *testing.T) {
			s := redistest.StartServer(t)
			client := redistest.NewClient(t, s.Addr)
			s.RefuseWrites(state)
			for name, err := range map[string]error{
				"SET":    client.Set(t.Context(), "k", "v", 0).Err(),
				"script": client.Eval(t.Context(), "return redis.call('SET', KEYS[1], 'v')", []string{"k"}).Err(),
			} {
				if !redisreply.WritesRefused(err) || !redisreply.WritesRefused(redisreply.Error(err.Error())) || !redisreply.WritesRefused(fmt.Errorf("wrapped: %w", err)) {
					t.Errorf("%s: got %v, want it among the refusals", name, err)
				}
			}
		})
	}
	for name, err := range map[string]error{
		"nil": nil, "nothing": redis.Nil, "context": context.DeadlineExceeded, "text": errors.New("OOM command not allowed"),
	} {
		if redisreply.WritesRefused(err) {
			t.Errorf("%s: got a refusal, want none", name)
		}
	}
	refused := redis.NewClient(&redis.Options{Addr: redistest.Start(t), Password: "wrong", Username: "nobody", MaxRetries: -1})
	defer refused.Close()
	if err := refused.Ping(t.Context()).Err(); err == nil || redisreply.WritesRefused(err) {
		t.Errorf("wrong password: got %v, want an error that is no refusal to write", err)
	}
}
