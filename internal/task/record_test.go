package task_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"orgcast/clients/lua"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

// Events that a task publishes in its own group and in another one are in the histories as
// published, and in no other organization's.
func TestEventsAreRecorded(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		org, _ := orgctx.From(ctx)
		for n := range 2 {
			if err := job.Progress(ctx, object{"type": "step", "n": n, "says": org}); err != nil {
				return nil, err
			}
		}
		return object{"type": "done", "says": org}, job.Publish(ctx, "board.1", object{"type": "moved", "says": org})
	}), f.options())
	orgs := []string{"acme", "globex"}
	for _, org := range orgs {
		f.dispatch(t, org, "1", `null`)
	}
	f.expectDone(t)
	all := h.expect(t, 8)
	for _, org := range orgs {
		for name, types := range map[string][]string{"jobs": {"step", "step", "done"}, "board.1": {"moved"}} {
			group := testkit.Group(t, org, name)
			published := slices.DeleteFunc(slices.Clone(all), func(s said) bool { return s.channel != f.keys.GroupChannel(group) })
			recorded := f.history(t, group)
			if diff := cmp.Diff(published, recorded, cmp.AllowUnexported(said{}, event.Position{})); diff != "" {
				t.Errorf("%s: published (-), recorded (+):\n%s", group, diff)
			}
			var got []string
			for _, s := range recorded {
				got = append(got, s.fields["type"].(string))
				if s.position.IsZero() || s.fields["says"] != org {
					t.Errorf("%s: got %v at %v, want a position and what %s said", group, s.fields, s.position, org)
				}
			}
			if diff := cmp.Diff(types, got); diff != "" {
				t.Errorf("%s: types: want (-), got (+):\n%s", group, diff)
			}
			if ttl := f.client.PTTL(t.Context(), f.keys.History(group)).Val(); ttl <= 23*time.Hour || ttl > event.DefaultHistoryAge {
				t.Errorf("%s: its history expires in %v, want about %v", group, ttl, event.DefaultHistoryAge)
			}
		}
	}
}

// An endless job does not fill memory.
func TestHistoryIsBounded(t *testing.T) {
	f := newFixture(t)
	o := f.options()
	o.HistoryLength, o.HistoryAge = 10, 300*time.Millisecond
	group := testkit.Group(t, "acme", "jobs")
	many, proceed := make(chan struct{}), make(chan struct{})
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		for range 500 {
			if err := job.Progress(ctx, object{"type": "step"}); err != nil {
				return nil, err
			}
		}
		close(many)
		<-proceed
		return object{"type": "done"}, nil
	}), o)
	f.dispatch(t, "acme", "1", `null`)
	<-many
	if got := f.client.XLen(t.Context(), f.keys.History(group)).Val(); got > 110 { // Redis drops blocks of 100
		t.Errorf("history: got %d events, want about 10", got)
	}
	testkit.Eventually(t, "the history expires", func() bool {
		return f.client.Exists(t.Context(), f.keys.History(group)).Val() == 0
	})
	close(proceed)
	f.expectDone(t)
}

func TestPublishRefuses(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	kept := make(chan *task.Job, 1)
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		same := func(ctx context.Context) context.Context { return ctx }
		inGlobex := func(context.Context) context.Context { return as(t, "globex") }
		tests := map[string]struct {
			as    func(context.Context) context.Context
			group string
			event any
			want  error
		}{
			"no organization":      {orgctx.Without, "g", object{"type": "x"}, orgctx.ErrNoOrganization},
			"another organization": {inGlobex, "g", object{"type": "x"}, task.ErrForeign},
			"foreign event":        {same, "g", object{"type": "x", "organization_id": "globex"}, event.ErrForeign},
			"a foreign channel":    {same, "orgcast:{globex}:group:g", object{"type": "x"}, event.ErrInvalidGroup},
			"no group":             {same, "", object{"type": "x"}, event.ErrInvalidGroup},
			"no type":              {same, "g", object{}, event.ErrInvalidType},
			"no object":            {same, "g", "x", event.ErrNotObject},
			"too large":            {same, "g", object{"type": "x", "text": strings.Repeat("x", event.DefaultMaxSize)}, event.ErrTooLarge},
		}
		for name, test := range tests {
			if err := job.Publish(test.as(ctx), test.group, test.event); !errors.Is(err, test.want) {
				t.Errorf("%s: got %v, want %v", name, err, test.want)
			}
		}
		kept <- job
		return nil, nil
	}), f.options())
	f.dispatch(t, "acme", "1", `null`)
	f.expectDone(t)
	h.expect(t, 1)
	// A job that is kept after its end can no longer publish.
	job := <-kept
	for name, err := range map[string]error{
		"Progress": job.Progress(as(t, "acme"), object{"type": "late"}),
		"Publish":  job.Publish(as(t, "acme"), "g", object{"type": "late"}),
	} {
		if !errors.Is(err, task.ErrEnded) {
			t.Errorf("%s after the end: got %v, want ErrEnded", name, err)
		}
	}
	h.expect(t, 1)
	if got := f.names(t, "orgcast:*:history:*"); len(got) != 1 {
		t.Errorf("histories: got %v, want that of the group alone", got)
	}
}

// If a terminal event cannot be published, it is not recorded either, and the task has not ended.
func TestEndIsAllOrNothing(t *testing.T) {
	f := newFixture(t)
	group, board := testkit.Group(t, "acme", "jobs"), testkit.Group(t, "acme", "board.1")
	mayPublish := func(rule string) { f.everywhere(t, "ACL", "SETUSER", "default", "resetchannels", rule) }
	mayPublish("&nothing")
	f.work(t, only(func(context.Context, *task.Job) (any, error) {
		return task.End{Event: object{"type": "done"}, Also: []task.Notice{{Group: "board.1", Event: object{"type": "moved"}}}}, nil
	}), f.options())
	f.dispatch(t, "acme", "1", `null`)
	testkit.Eventually(t, "the end fails", func() bool { return strings.Contains(f.log.String(), "terminal event not published") })
	for _, g := range []event.Group{group, board} {
		if recorded := f.history(t, g); len(recorded) != 0 {
			t.Errorf("%s: recorded: got %v, want nothing", g, recorded)
		}
	}
	if n := f.client.Exists(t.Context(), f.keys.TaskEnd(testkit.Org(t, "acme"), "job", "1")).Val(); n != 0 {
		t.Error("the task has ended, though nobody learned of it")
	}
	mayPublish("allchannels")
	f.expectDone(t)
	if recorded := f.history(t, group); len(recorded) != 1 || recorded[0].fields["type"] != "done" {
		t.Errorf("recorded: got %v, want the end, once", recorded)
	}
	if recorded := f.history(t, board); len(recorded) != 1 || recorded[0].fields["type"] != "moved" {
		t.Errorf("recorded for the board: got %v, want its event, once", recorded)
	}
}

// However a task ends, the board that lists it gets the notice exactly once, together with the
// task's own group. Other organizations get nothing.
func TestOthersHearOfTheEnd(t *testing.T) {
	also := func(status string) []task.Notice {
		return []task.Notice{
			{Group: "board.1", Event: object{"type": "moved", "status": status}},
			{Group: "chat", Event: object{"type": "said", "status": status}},
			{Group: "chat", Event: object{"type": "said", "status": "twice"}},
		}
	}
	failed := func(_ *task.Job, code string) any { return task.End{Event: object{"type": "over"}, Also: also(code)} }
	tests := map[string]struct {
		kind   task.Kind
		status string
	}{
		"complete": {task.Kind{Run: func(context.Context, *task.Job) (any, error) {
			return task.End{Event: object{"type": "over"}, Also: also("done")}, nil
		}}, "done"},
		"given up": {task.Kind{Run: func(context.Context, *task.Job) (any, error) { return nil, task.Fail("no_luck") }, Failed: failed}, "no_luck"},
		"error":    {task.Kind{Run: func(context.Context, *task.Job) (any, error) { return nil, errors.New("no") }, Failed: failed}, "failed"},
		"panic":    {task.Kind{Run: func(context.Context, *task.Job) (any, error) { panic("always") }, Failed: failed}, "panic"},
		"no event": {task.Kind{Run: func(context.Context, *task.Job) (any, error) { return task.End{Event: 1}, nil }, Failed: failed}, "bad_result"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			h := f.listen(t)
			f.dispatch(t, "acme", "1", `null`)
			entry := f.line(t, "acme", "job")[0]
			f.work(t, map[string]task.Kind{"job": test.kind}, f.options())
			f.expectDone(t)
			h.expect(t, 4)
			// As if the worker had died before it could acknowledge.
			if err := f.client.XAdd(t.Context(), &redis.XAddArgs{Stream: f.keys.Tasks("job"), Values: entry}).Err(); err != nil {
				t.Fatal(err)
			}
			f.expectDone(t)
			all := h.expect(t, 4)
			for group, want := range map[string][]any{"jobs": {nil}, "board.1": {test.status}, "chat": {test.status, "twice"}} {
				g := testkit.Group(t, "acme", group)
				published := slices.DeleteFunc(slices.Clone(all), func(s said) bool { return s.channel != f.keys.GroupChannel(g) })
				recorded := f.history(t, g)
				if diff := cmp.Diff(published, recorded, cmp.AllowUnexported(said{}, event.Position{})); diff != "" {
					t.Errorf("%s: published (-), recorded (+):\n%s", group, diff)
				}
				var got []any
				for _, s := range recorded {
					got = append(got, s.fields["status"])
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: want (-), got (+):\n%s", group, diff)
				}
			}
		})
	}
}

// Notices must satisfy the same rules as events that a task publishes while it runs. An invalid one
// stops the others too, and the task still ends.
func TestNoticesThatMayNotGoOut(t *testing.T) {
	fine := task.Notice{Group: "board.1", Event: object{"type": "moved"}}
	many := make([]task.Notice, task.MaxNotices+1)
	for i := range many {
		many[i] = fine
	}
	for name, notices := range map[string][]task.Notice{
		"foreign event":     {fine, {Group: "board.1", Event: object{"type": "x", "organization_id": "globex"}}},
		"a foreign channel": {fine, {Group: "orgcast:{globex}:group:g", Event: object{"type": "x"}}},
		"no group":          {fine, {Event: object{"type": "x"}}},
		"no event":          {fine, {Group: "board.1"}},
		"too large":         {fine, {Group: "board.1", Event: object{"type": "x", "text": strings.Repeat("x", event.DefaultMaxSize)}}},
		"too many":          many,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			h := f.listen(t)
			end := task.End{Event: object{"type": "over"}, Also: notices}
			f.work(t, map[string]task.Kind{"job": {
				Run:    func(context.Context, *task.Job) (any, error) { return end, nil },
				Failed: func(*task.Job, string) any { return end },
			}}, f.options())
			f.dispatch(t, "acme", "1", `null`)
			f.expectDone(t)
			if got := h.expect(t, 1)[0]; got.fields["type"] != "task_failed" || got.fields["code"] != "bad_result" {
				t.Errorf("got %v, want task_failed with bad_result", got)
			}
			if got := f.names(t, "orgcast:*:history:*"); len(got) != 1 {
				t.Errorf("histories: got %v, want that of the group alone", got)
			}
		})
	}
}

// If the ACL does not let a script find out whether the server is a Cluster, the script fails
// before it has any effect. Otherwise it might publish on a channel without subscribers.
func TestScriptsHaveToKnowWhereTheyAre(t *testing.T) {
	f := newFixture(t)
	f.everywhere(t, "ACL", "SETUSER", "default", "-info")
	defer f.everywhere(t, "ACL", "SETUSER", "default", "+info")
	group := testkit.Group(t, "acme", "jobs")
	end, history, channel := f.keys.TaskEnd(testkit.Org(t, "acme"), "job", "1"), f.keys.History(group), f.keys.GroupChannel(group)
	const payload = `{"type":"x","organization_id":"acme"}`
	for name, script := range map[string]struct {
		text string
		keys []string
		args []any
	}{
		"record":   {lua.Text("record.v1"), []string{history}, nil},
		"progress": {lua.Text("progress.v1"), []string{end, history}, nil},
		"finish":   {lua.Text("finish.v1"), []string{end, history}, []any{"complete", 1000}},
	} {
		err := f.client.Eval(t.Context(), script.text, script.keys, append([]any{channel, payload, 10, 1000}, script.args...)...).Err()
		if err == nil || !strings.Contains(err.Error(), "can't run this command") {
			t.Errorf("%s: got %v, want that it may not ask", name, err)
		}
	}
	if names := f.names(t, "orgcast:*:jobs"); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
	if n := f.client.Exists(t.Context(), end).Val(); n != 0 {
		t.Error("the task has ended, though nobody learned of it")
	}
}

// If a server gets to a command after its latest moment, the sender has given up, so nothing is
// done. Before that moment, and without one, scripts work as usual.
func TestScriptsRefuseWhatIsLate(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	group, board := testkit.Group(t, "acme", "jobs"), testkit.Group(t, "acme", "board.1")
	end, once := f.keys.TaskEnd(testkit.Org(t, "acme"), "job", "1"), f.keys.Once(group, "k")
	const payload = `{"type":"x","organization_id":"acme"}`
	first := []any{f.keys.GroupChannel(group), payload, 10, 100000}
	scripts := map[string]struct {
		text   string
		keys   []string
		args   []any
		events int
	}{
		"record":             {lua.Text("record.v1"), []string{f.keys.History(group)}, first, 1},
		"record once":        {lua.Text("record.v1"), []string{f.keys.History(group), once}, first, 1},
		"progress":           {lua.Text("progress.v1"), []string{end, f.keys.History(group)}, first, 1},
		"finish":             {lua.Text("finish.v1"), []string{end, f.keys.History(group)}, append(slices.Clip(first), "complete", 100000), 1},
		"finish of a notice": {lua.Text("finish.v1"), []string{end, f.keys.History(group), f.keys.History(board)}, append(slices.Clip(first), "complete", 100000, f.keys.GroupChannel(board), payload), 2},
	}
	count := 0
	for name, s := range scripts {
		now := serverTime(t, f, end)
		for _, late := range []int64{now.UnixMilli() - 1, now.Add(-time.Hour).UnixMilli(), 0} {
			err := f.client.Eval(t.Context(), s.text, s.keys, append(slices.Clip(s.args), late)...).Err()
			if err == nil || !redis.HasErrorPrefix(err, "LATE") {
				t.Errorf("%s, latest moment %d at %d: got %v, want LATE", name, late, now.UnixMilli(), err)
			}
		}
		if n := f.client.Exists(t.Context(), append(slices.Clone(s.keys), once)...).Val(); n != 0 {
			t.Errorf("%s: %d keys are left behind", name, n)
		}
		h.expect(t, count)
		for _, good := range [][]any{{now.Add(time.Hour).UnixMilli()}, {""}, {}} {
			if err := f.client.Eval(t.Context(), s.text, s.keys, append(slices.Clip(s.args), good...)...).Err(); err != nil {
				t.Errorf("%s, latest moment %v: %v", name, good, err)
			}
			count += s.events
			h.expect(t, count)
			if err := f.client.Del(t.Context(), append(slices.Clone(s.keys), once)...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// serverTime asks the server that has a key for its time.
func serverTime(t *testing.T, f *fixture, key string) time.Time {
	t.Helper()
	var server redis.Cmdable = f.client
	if cluster, ok := f.client.(*redis.ClusterClient); ok {
		node, err := cluster.MasterForKey(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		server = node
	}
	now, err := server.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// The end of a task has a key with which a node recognizes it: always the same for one task, and
// different for another task.
func TestEndIsKnownAgain(t *testing.T) {
	f := newFixture(t)
	group := testkit.Group(t, "acme", "jobs")
	seen := make(map[string]string)
	for range 2 {
		for _, id := range []string{"1", "2"} {
			keys := []string{f.keys.TaskEnd(testkit.Org(t, "acme"), "job", id), f.keys.History(group)}
			args := []any{f.keys.GroupChannel(group), `{"type":"x","organization_id":"acme"}`, 10, 100000, "complete", 100000}
			if err := f.client.Eval(t.Context(), lua.Text("finish.v1"), keys, args...).Err(); err != nil {
				t.Fatal(err)
			}
			entries, err := f.client.XRevRangeN(t.Context(), keys[1], "+", "-", 1).Result()
			if err != nil {
				t.Fatal(err)
			}
			key, _ := entries[0].Values["key"].(string)
			if _, ok := event.ParseKeyHash(key); !ok || seen[id] != "" && seen[id] != key {
				t.Errorf("task %s: got %q, had %q", id, key, seen[id])
			}
			seen[id] = key
			if err := f.client.Del(t.Context(), keys[0]).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if seen["1"] == seen["2"] {
		t.Errorf("two tasks have the same key, %s", seen["1"])
	}
}
