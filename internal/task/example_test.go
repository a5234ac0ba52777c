package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
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
	client = newClient(server.Addr())
	return client, keys, func() {
		_ = client.Close()
		server.Close()
	}
}

func ExampleTools_RunTool() {
	client, keys, end := exampleRedis()
	defer end()
	count := func(ctx context.Context, store *task.Store, _ json.RawMessage) (json.RawMessage, error) {
		seen, err := store.Get(ctx, "seen")
		if err != nil && !errors.Is(err, task.ErrNotStored) {
			return nil, err
		}
		seen = append(seen, 'x')
		return json.RawMessage(fmt.Sprint(len(seen))), store.Set(ctx, "seen", seen, 0)
	}
	tools := task.NewTools(client, keys, directory.TrustSession{}, map[string]task.Tool{"count": count})

	acme, _ := orgctx.ParseID("acme")
	globex, _ := orgctx.ParseID("globex")
	for _, org := range []orgctx.ID{acme, acme, globex} {
		ctx := orgctx.With(context.Background(), org)
		output, err := tools.RunTool(ctx, "count", json.RawMessage(`{}`))
		fmt.Printf("%s: %s %v\n", org, output, err)
	}
	_, err := tools.RunTool(context.Background(), "count", json.RawMessage(`{}`))
	fmt.Println(err)
	// Output:
	// acme: 1 <nil>
	// acme: 2 <nil>
	// globex: 1 <nil>
	// orgctx: no organization in context
}

func ExampleAsks() {
	client, keys, end := exampleRedis()
	defer end()
	asks, err := task.NewAsks(client, keys)
	if err != nil {
		fmt.Println(err)
		return
	}
	acme, _ := orgctx.ParseID("acme")
	globex, _ := orgctx.ParseID("globex")
	ctx, foreign := orgctx.With(context.Background(), acme), orgctx.With(context.Background(), globex)

	// The task asks.
	_, err = asks.Open(ctx, "execution-7", 0, json.RawMessage(`"May I send it?"`), 0)
	fmt.Println("open:", err)
	// People answer.
	fmt.Println("foreign:", asks.Answer(foreign, "execution-7", 0, "no"))
	fmt.Println("first:", asks.Answer(ctx, "execution-7", 0, "yes"))
	fmt.Println("second:", asks.Answer(ctx, "execution-7", 0, "no"))
	// The task continues.
	input, err := asks.Wait(ctx, "execution-7", 0)
	fmt.Println("answer:", input, err)
	// Output:
	// open: <nil>
	// foreign: task: no such request for input
	// first: <nil>
	// second: task: request for input has been answered
	// answer: yes <nil>
}
