package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"

	"orgcast/internal/directory"
	"orgcast/internal/orgctx"
	"orgcast/internal/task"
	"orgcast/internal/testkit"
)

// TestToolAsksTheDirectory: a tool runs only while the organization is active and the user is a
// member.
func TestToolAsksTheDirectory(t *testing.T) {
	f := newFixture(t)
	for org, users := range map[string]map[string]directory.Status{
		"acme":   {"ada": directory.Active, "alan": directory.Suspended},
		"closed": {"carl": directory.Active},
	} {
		for user, status := range users {
			if err := f.directory.PutMember(t.Context(), testkit.Org(t, org), user, status, directory.Member{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	tools := newTools(f, map[string]task.Tool{
		"who": func(ctx context.Context, _ *task.Store, _ json.RawMessage) (json.RawMessage, error) {
			user, _ := orgctx.UserFrom(ctx)
			return json.Marshal(user)
		},
	})
	for name, test := range map[string]struct {
		org  string
		user orgctx.User
		want string
		err  error
	}{
		"member":                         {"acme", "ada", `"ada"`, nil},
		"nobody asked":                   {"acme", "", `""`, nil},
		"suspended member":               {"acme", "alan", "", directory.ErrNotMember},
		"member of another organization": {"acme", "carl", "", directory.ErrNotMember},
		"suspended organization":         {"closed", "carl", "", directory.ErrOrganizationSuspended},
		"the same, nobody asked":         {"closed", "", "", directory.ErrOrganizationSuspended},
		"unknown organization":           {"nowhere", "ada", "", directory.ErrOrganizationUnknown},
	} {
		ctx := as(t, test.org)
		if test.user != "" {
			ctx = orgctx.WithUser(ctx, test.user)
		}
		got, err := tools.RunTool(ctx, "who", json.RawMessage(`null`))
		if string(got) != test.want || !errors.Is(err, test.err) || (err != nil) != (test.err != nil) {
			t.Errorf("%s: got %s, %v, want %s, %v", name, got, err, test.want, test.err)
		}
	}
}

// TestHandlerHasTheCurrentUser: a handler runs as the user who requested its task. If no user did, it
// runs without one, and not as the user of the previous task.
func TestHandlerHasTheCurrentUser(t *testing.T) {
	f := newFixture(t)
	var users atomic.Pointer[map[string]string]
	o := f.options()
	o.Concurrency = 1
	seen := make(map[string]string)
	f.work(t, only(func(ctx context.Context, job *task.Job) (any, error) {
		user, ok := orgctx.UserFrom(ctx)
		if ok != (user != "") {
			t.Errorf("UserFrom: got %v of %q", ok, user)
		}
		seen[job.ID] = string(user)
		if len(seen) == 2 {
			users.Store(&seen)
		}
		return nil, nil
	}), o)
	f.dispatch(t, "acme", "1", `null`)
	f.add(t, "organization_id", "acme", "kind", "job", "id", "2", "group", "jobs")
	testkit.Eventually(t, "both have run", func() bool { return users.Load() != nil })
	if got := *users.Load(); got["1"] != "7" || got["2"] != "" {
		t.Errorf("got %v, want 7 and none", got)
	}
}

// TestRemovedMemberRunsNoTool: a task of a member who has been removed meanwhile cannot use tools,
// and is not tried again.
func TestRemovedMemberRunsNoTool(t *testing.T) {
	f := newFixture(t)
	h := f.listen(t)
	ran := make(chan error, 10)
	o := f.options()
	o.Tools = newTools(f, map[string]task.Tool{
		"touch": func(context.Context, *task.Store, json.RawMessage) (json.RawMessage, error) {
			return json.RawMessage(`null`), nil
		},
	})
	f.work(t, only(func(ctx context.Context, _ *task.Job) (any, error) {
		_, err := task.RunTool(ctx, "touch", json.RawMessage(`null`))
		ran <- err
		return nil, err
	}), o)
	if err := f.directory.PutMember(t.Context(), testkit.Org(t, "acme"), "7", directory.Suspended, directory.Member{}); err != nil {
		t.Fatal(err)
	}
	f.dispatch(t, "acme", "1", `null`)
	if err := <-ran; !errors.Is(err, directory.ErrNotMember) {
		t.Errorf("got %v, want ErrNotMember", err)
	}
	f.expectDone(t)
	if end := h.expect(t, 1)[0].fields; end["type"] != "task_failed" || end["code"] != task.CodeRefused || len(ran) > 0 {
		t.Errorf("got %v after %d more attempts, want task_failed with %s and no more", end, len(ran), task.CodeRefused)
	}
}
