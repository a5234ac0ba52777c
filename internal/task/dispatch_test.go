package task_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"orgcast/internal/orgctx"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

func TestDispatchWritesTheDocumentedEntry(t *testing.T) {
	f := newFixture(t)
	id, err := f.dispatcher.Dispatch(as(t, "acme"), task.Task{
		Kind: "job", ID: "t-1", Idempotency: "click.9", Group: testkit.Group(t, "acme", "chat_1"), UserID: "7", Payload: json.RawMessage(`{"text":"é"}`),
	})
	if err != nil || id != "t-1" {
		t.Fatalf("Dispatch: got %q, %v", id, err)
	}
	want := map[string]any{
		"organization_id": "acme", "user_id": "7", "kind": "job", "id": "t-1", "idempotency_key": "click.9",
		"group": "chat_1", "payload": `{"text":"é"}`,
	}
	for where, entry := range map[string]map[string]any{"line": f.line(t, "acme", "job")[0], "stream": f.read(t, "job", "w")} {
		at, _ := entry["dispatched_at"].(string)
		if ms, err := strconv.ParseInt(at, 10, 64); err != nil || time.Since(time.UnixMilli(ms)).Abs() > testkit.Patience {
			t.Errorf("%s: dispatched_at: got %q, want the time", where, at)
		}
		delete(entry, "dispatched_at")
		delete(entry, "entry")
		if diff := cmp.Diff(want, entry); diff != "" {
			t.Errorf("%s: want (-), got (+):\n%s", where, diff)
		}
	}
}

func TestDispatchRefuses(t *testing.T) {
	f := newFixture(t)
	good := task.Task{Kind: "job", ID: "1", Group: testkit.Group(t, "acme", "jobs"), UserID: "7", Payload: json.RawMessage(`{}`)}
	with := func(change func(*task.Task)) task.Task {
		changed := good
		change(&changed)
		return changed
	}
	tests := map[string]struct {
		task task.Task
		want error
	}{
		"group of another organization": {with(func(t2 *task.Task) { t2.Group = testkit.Group(t, "globex", "jobs") }), task.ErrForeign},
		"no group":                      {task.Task{Kind: "job", ID: "1"}, task.ErrMalformed},
		"no kind":                       {with(func(t *task.Task) { t.Kind = "" }), task.ErrMalformed},
		"kind that is another key":      {with(func(t *task.Task) { t.Kind = "job:dead" }), task.ErrMalformed},
		"id with a colon":               {with(func(t *task.Task) { t.ID = "1:2" }), task.ErrMalformed},
		"key with a colon":              {with(func(t *task.Task) { t.Idempotency = "1:2" }), task.ErrMalformed},
		"user with a space":             {with(func(t *task.Task) { t.UserID = "7 " }), task.ErrMalformed},
		"payload no JSON":               {with(func(t *task.Task) { t.Payload = json.RawMessage(`{`) }), task.ErrMalformed},
		"payload no UTF-8":              {with(func(t *task.Task) { t.Payload = json.RawMessage("\"\xff\"") }), task.ErrMalformed},
		"payload too large": {with(func(t *task.Task) {
			t.Payload = json.RawMessage(`"` + strings.Repeat("a", task.MaxPayload) + `"`)
		}), task.ErrMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if id, err := f.dispatcher.Dispatch(as(t, "acme"), test.task); !errors.Is(err, test.want) || id != "" {
				t.Errorf("got %q, %v, want %v", id, err, test.want)
			}
		})
	}
	if _, err := f.dispatcher.Dispatch(t.Context(), good); !errors.Is(err, orgctx.ErrNoOrganization) {
		t.Errorf("without organization: got %v, want ErrNoOrganization", err)
	}
	if n := f.open(t, "job"); n != 0 {
		t.Error("a refused task waits")
	}
}

func TestDispatchOnce(t *testing.T) {
	f := newFixture(t)
	// A hundred clicks in two organizations, all with the same key.
	var wg sync.WaitGroup
	ids := make([]string, 100)
	for i := range ids {
		org := []string{"acme", "globex"}[i%2]
		ctx, group := as(t, org), testkit.Group(t, org, "jobs")
		wg.Go(func() {
			var err error
			ids[i], err = f.dispatcher.Dispatch(ctx, task.Task{Kind: "job", ID: fmt.Sprintf("t-%d", i), Idempotency: "click", Group: group})
			if err != nil {
				t.Errorf("Dispatch: %v", err)
			}
		})
	}
	wg.Wait()
	for i := range ids {
		if ids[i] != ids[i%2] {
			t.Errorf("click %d: got task %s, want %s", i, ids[i], ids[i%2])
		}
	}
	if n := f.open(t, "job"); n != 2 || ids[0] == ids[1] {
		t.Errorf("got %d entries, tasks %s and %s, want one for each organization", n, ids[0], ids[1])
	}
	if got := f.counter(t, "orgcast_tasks_dispatched_total", "repeated"); got != 98 {
		t.Errorf("repeated: got %v, want 98", got)
	}
	// Without ids and keys, each is a separate task.
	one, err1 := f.dispatcher.Dispatch(as(t, "acme"), task.Task{Kind: "job", Group: testkit.Group(t, "acme", "jobs")})
	two, err2 := f.dispatcher.Dispatch(as(t, "acme"), task.Task{Kind: "job", Group: testkit.Group(t, "acme", "jobs")})
	if err := errors.Join(err1, err2); err != nil || one == two || one == "" {
		t.Errorf("got %q and %q, %v, want two new ids", one, two, err)
	}
}

// TestWithdrawnTaskIsNotHandedOver: the first of a dispatch and a withdrawal with one key counts.
func TestWithdrawnTaskIsNotHandedOver(t *testing.T) {
	f := newFixture(t)
	ctx, group := as(t, "acme"), testkit.Group(t, "acme", "jobs")
	dispatch := func(id string) error {
		_, err := f.dispatcher.Dispatch(ctx, task.Task{Kind: "job", ID: id, Group: group})
		return err
	}
	if err := dispatch("first"); err != nil {
		t.Fatal(err)
	}
	if withdrawn, err := f.dispatcher.Withdraw(ctx, "job", "first"); withdrawn || err != nil {
		t.Errorf("Withdraw after Dispatch: got %v, %v, want false", withdrawn, err)
	}
	for range 2 {
		if withdrawn, err := f.dispatcher.Withdraw(ctx, "job", "never"); !withdrawn || err != nil {
			t.Errorf("Withdraw: got %v, %v, want true", withdrawn, err)
		}
		if err := dispatch("never"); !errors.Is(err, task.ErrBacklog) {
			t.Errorf("Dispatch after Withdraw: got %v, want ErrBacklog", err)
		}
	}
	if _, err := f.dispatcher.Dispatch(as(t, "globex"), task.Task{Kind: "job", ID: "never", Group: testkit.Group(t, "globex", "jobs")}); err != nil {
		t.Errorf("another organization: got %v", err)
	}
	for i := range 50 {
		id := fmt.Sprint("race-", i)
		var wg sync.WaitGroup
		var err1, err2 error
		withdrawn := false
		wg.Go(func() { err1 = dispatch(id) })
		wg.Go(func() { withdrawn, err2 = f.dispatcher.Withdraw(ctx, "job", id) })
		wg.Wait()
		if err2 != nil || withdrawn != errors.Is(err1, task.ErrBacklog) {
			t.Errorf("%s: dispatch %v, withdrawn %v, %v, want one of the two", id, err1, withdrawn, err2)
		}
	}
	if _, err := f.dispatcher.Withdraw(t.Context(), "job", "x"); !errors.Is(err, orgctx.ErrNoOrganization) {
		t.Errorf("without an organization: got %v", err)
	}
	if _, err := f.dispatcher.Withdraw(ctx, "job", "a:b"); !errors.Is(err, task.ErrMalformed) {
		t.Errorf("malformed key: got %v", err)
	}
}

func TestClientMustKeepDeadlines(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer client.Close()
	f := newFixture(t)
	if _, err := task.NewDispatcher(client, f.keys, task.DispatcherOptions{}); err == nil {
		t.Error("NewDispatcher: got no error, want one")
	}
	if _, err := task.NewWorker(client, f.keys, f.directory, only(nil), task.Options{}); err == nil {
		t.Error("NewWorker: got no error, want one")
	}
	if _, err := task.NewAsks(client, f.keys); err == nil {
		t.Error("NewAsks: got no error, want one")
	}
}

func TestDecode(t *testing.T) {
	good := func() map[string]string {
		return map[string]string{"organization_id": "acme", "user_id": "7", "kind": "job", "id": "1", "idempotency_key": "k", "group": "jobs", "payload": "{}"}
	}
	tests := map[string]struct {
		field, value string
		want         error
	}{
		"whole":                 {"user_id", "7", nil},
		"no user":               {"user_id", "", nil},
		"no key":                {"idempotency_key", "", nil},
		"no payload":            {"payload", "", nil},
		"unknown field":         {"more", "x", nil},
		"no organization":       {"organization_id", "", task.ErrNoOrganization},
		"organization with }":   {"organization_id", "a}:group:b", task.ErrNoOrganization},
		"organization with end": {"organization_id", "acme\n", task.ErrNoOrganization},
		"no id":                 {"id", "", task.ErrMalformed},
		"no group":              {"group", "", task.ErrMalformed},
		"group with a colon":    {"group", "a:b", task.ErrMalformed},
		"another kind":          {"kind", "other", task.ErrMalformed},
		"no kind":               {"kind", "", task.ErrMalformed},
		"payload of two values": {"payload", "{}{}", task.ErrMalformed},
		"hostile key":           {"idempotency_key", "a:b", task.ErrMalformed},
		"user with a bar":       {"user_id", "auth0|1", nil},
		"hostile user":          {"user_id", "a\n", task.ErrMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fields := good()
			fields[test.field] = test.value
			if _, err := task.Decode("job", fields); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("acme", "7", "job", "1", "k", "jobs", `{"a":1}`)
	f.Add("", "", "", "", "", "", "")
	f.Add("a}:x", "*", "job", "1:2", "\x00", "a/b", `{`)
	f.Add("acme", "", "job", "1", "", "jobs", "")
	f.Add("acme", "ü..|%7C", "job", "1", "k", "user..47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU", "1")
	f.Add("acme", "a\u202e", "job", "1", "k", "jobs", "1")
	f.Add("acme", "7", "other", "1", "k", "jobs", "\xff")
	f.Fuzz(func(t *testing.T, org, user, kind, id, key, group, payload string) {
		got, err := task.Decode("job", map[string]string{
			"organization_id": org, "user_id": user, "kind": kind, "id": id, "idempotency_key": key, "group": group, "payload": payload,
		})
		if err != nil {
			if !errors.Is(err, task.ErrMalformed) && !errors.Is(err, task.ErrNoOrganization) {
				t.Errorf("got %v, want one of the two errors", err)
			}
			return
		}
		if got.Organization().String() != org || got.Group.Name() != group || got.Kind != "job" || got.ID != id {
			t.Fatalf("got %+v of %q %q %q", got, org, group, id)
		}
		// A decoded task encodes to the same entry.
		flat := got.Fields()
		fields := make(map[string]string)
		for i := 0; i < len(flat); i += 2 {
			fields[flat[i].(string)] = flat[i+1].(string)
		}
		again, err := task.Decode("job", fields)
		if err != nil {
			t.Fatalf("second time: %v", err)
		}
		if diff := cmp.Diff(got, again, cmp.Comparer(func(a, b task.Task) bool { return fmt.Sprint(a.Fields()...) == fmt.Sprint(b.Fields()...) })); diff != "" {
			t.Errorf("second time differs:\n%s", diff)
		}
	})
}
