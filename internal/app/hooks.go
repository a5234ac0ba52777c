package app

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/hook"
	"orgcast/internal/outgoing"
	"orgcast/internal/routefile"
	"orgcast/internal/task"
)

// hooks are the programs that decide for declared routes.
type hooks struct {
	client *outgoing.Client
	log    *zap.Logger
	byPath atomic.Pointer[map[string]*hook.Hook] // of a worker, by the path of the route
}

// attach creates the hook of each route, and returns the hooks by the path of the route.
func (h *hooks) attach(list []routefile.Route) (map[string]*hook.Hook, error) {
	byPath := make(map[string]*hook.Hook)
	for i := range list {
		r := &list[i]
		if r.Hook == nil {
			continue
		}
		endpoint, err := h.client.Endpoint(outgoing.EndpointOptions{Purpose: "hook", URL: r.Hook.URL, Keys: r.Hook.Keys, Timeout: r.Hook.Timeout})
		if err != nil {
			return nil, fmt.Errorf("--routes-file: path %s: %w", r.Pattern, err)
		}
		own := hook.New(hook.Options{Path: r.Pattern, Endpoint: endpoint, On: r.Hook.On, Log: h.log})
		byPath[r.Pattern], r.Declaration.Hook = own, own
	}
	return byPath, nil
}

// prepare is a [reloadStep] of a worker, which tells hooks about ended connections of all nodes.
func (h *hooks) prepare(next *Options) (apply func(), err error) {
	if next.RoutesFile == "" {
		return nil, nil //nolint:nilnil // another step refuses it
	}
	list, err := loadRoutes(next)
	if err != nil {
		return nil, err
	}
	byPath, err := h.attach(list)
	return func() { h.byPath.Store(&byPath) }, err
}

// tellEnd is the handler of tasks that tell hooks about ended connections. If the route is no
// longer declared, there is no hook to tell.
func (h *hooks) tellEnd(ctx context.Context, job *task.Job) (any, error) {
	var ended consumer.HookEnded
	if err := json.Unmarshal(job.Payload, &ended); err != nil {
		return nil, task.Fail("bad_payload")
	}
	own := (*h.byPath.Load())[ended.Route]
	if own == nil || !own.Asks(consumer.HookDisconnect) {
		return nil, nil //nolint:nilnil // the standard terminal event
	}
	return nil, own.Tell(ctx, consumer.HookDisconnect+"_"+job.ID, ended.Question)
}

// addHooks adds the tasks of hooks to the kinds of a worker with a --routes-file.
func (o *Options) addHooks(kinds map[string]task.Kind, h *hooks, reloads *reloadSteps) error {
	reloads.add(func(next *Options) (func(), error) {
		if (o.RoutesFile == "") != (next.RoutesFile == "") { // the kinds of a worker are fixed
			return nil, &RestartError{[]string{"routes-file"}}
		}
		return nil, nil //nolint:nilnil // nothing to do
	})
	if o.RoutesFile == "" {
		return nil
	}
	apply, err := h.prepare(o)
	if err != nil {
		return err
	}
	apply()
	reloads.add(h.prepare)
	kinds[consumer.HookTask] = task.Kind{Run: h.tellEnd}
	return nil
}
