package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/orgctx"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestTasksCommand follows what its help says, with tasks of two organizations that share ids.
func TestTasksCommand(t *testing.T) {
	addr := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer client.Close()
	keys := testkit.Keys(t)
	d, err := task.NewDispatcher(client, keys, task.DispatcherOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"acme", "globex"} {
		group := testkit.Group(t, name, "jobs")
		for _, id := range []string{"t1", "t2", "t3"} {
			if _, err := d.Dispatch(orgctx.With(t.Context(), group.Organization()), task.Task{Kind: "crew", ID: id, Group: group, UserID: "ada", Payload: json.RawMessage(`{"n":1}`)}); err != nil {
				t.Fatal(err)
			}
		}
		err = client.XAdd(t.Context(), &redis.XAddArgs{Stream: keys.DeadTasks("crew"), Values: []any{
			"organization_id", name, "kind", "crew", "id", "d1", "group", "jobs", "payload", `{"n":2}`, "dead_reason", "timeout", "dead_deliveries", "5",
		}}).Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	env := environment{"ORGCAST_REDIS": "redis://" + addr + "/0"}
	for _, step := range []struct {
		args []string
		want string // a pattern of the output, or of the error
		err  bool
	}{
		{args: []string{"list", "crew"}, want: `(?s)waiting 6 \(\d+ bytes\), unread 0, held 0, dead 2\n.*acme +3 +\d+ +1\nglobex +3 +\d+ +1\n$`},
		{args: []string{"list", "crew", "acme"}, want: `(?s)^STATE.*waiting +t1 +ada +jobs +20\S+Z +0.*waiting +t2.*waiting +t3.*dead +d1 +jobs +- +5 +timeout\n$`},
		{args: []string{"list", "crew", "acme", "--limit", "2"}, want: `(?s)t1.*t2.*There may be more`},
		{args: []string{"list", "nothing"}, want: `^waiting 0 \(0 bytes\), unread 0, held 0, dead 0\n$`},
		{args: []string{"show", "crew", "acme", "t2"}, want: `(?s)state +waiting\n.*user +ada\n.*payload +\{"n":1\}\n$`},
		{args: []string{"show", "crew", "acme", "none"}, want: `no such task`, err: true},
		{args: []string{"retry", "crew", "acme", "t1"}, want: `retry t1: task: is not a dead letter`, err: true},
		{args: []string{"retry", "crew", "acme", "d1"}, want: `^retried d1 as \S+\n$`},
		{args: []string{"retry", "crew", "acme", "d1"}, want: `no such task`, err: true},
		{args: []string{"drop", "crew", "acme", "t2"}, want: `^dropped t2\n$`},
		{args: []string{"drop", "crew", "acme", "--all"}, want: `^dropped t1\ndropped t3\ndropped \S+\n$`},
		{args: []string{"drop", "--all", "crew", "acme"}, want: `^$`},
		{args: []string{"drop", "crew", "globex", "d1"}, want: `^dropped d1\n$`},
		{args: []string{"list", "crew"}, want: `(?s)waiting 3 \(\d+ bytes\), unread 0, held 0, dead 0\n.*globex +3`},
		{args: []string{"drop", "crew", "acme"}, want: `wrong arguments`, err: true},
		{args: []string{"drop", "crew", "acme", "t1", "--all"}, want: `wrong arguments`, err: true},
		{args: []string{"list", "--all", "crew"}, want: `wrong arguments`, err: true},
		{args: []string{"purge", "crew"}, want: `wrong arguments`, err: true},
		{args: []string{"show", "crew", "a}:b", "t1"}, want: `organization`, err: true},
		{args: []string{"list", "a:b"}, want: `kind`, err: true},
	} {
		stdout, stderr, err := execute(t, env, "", append([]string{"tasks"}, step.args...)...)
		out := stdout
		if step.err {
			out = stderr
		}
		if (err != nil) != step.err || !regexp.MustCompile(step.want).MatchString(out) {
			t.Errorf("tasks %s: got %v and %q, want %q", strings.Join(step.args, " "), err, stdout+stderr, step.want)
		}
	}
	history, err := client.XRange(t.Context(), "orgcast:{acme}:history:jobs", "-", "+").Result()
	if err != nil || len(history) != 4 || !strings.Contains(history[0].Values["event"].(string), `"code":"dropped"`) {
		t.Errorf("history of acme: got %v, %v, want the ends of four tasks", history, err)
	}
	if n := client.Exists(t.Context(), "orgcast:{globex}:history:jobs").Val(); n != 0 {
		t.Error("globex heard of it")
	}
}
