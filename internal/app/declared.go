package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"orgcast/internal/consumer"
	"orgcast/internal/hook"
	"orgcast/internal/outgoing"
	"orgcast/internal/routefile"
	"orgcast/internal/task"
)

// hookAttempts is how often a hook is told of the end of a connection before it is given up: for half an hour, with
// the pauses of a worker.
const hookAttempts = 60

// declaredRoutes are the routes of --routes-file, which may be replaced while the node serves.
type declaredRoutes struct {
	registry *consumer.Registry
	services consumer.DeclaredServices
	client   *outgoing.Client
	node     *Node
	hooks    atomic.Pointer[map[string]*hook.Hook] // by the path of the route
}

// addDeclared adds the routes of --routes-file, if there is one, and what reads it again.
func (n *Node) addDeclared(registry *consumer.Registry, parts *Services) error {
	if n.Options.RoutesFile == "" {
		return nil
	}
	d := &declaredRoutes{
		registry: registry, node: n, client: outgoing.New(outgoing.Options{Registerer: n.Metrics}),
		services: consumer.DeclaredServices{Dispatcher: parts, Inputs: parts, Owners: parts, Requests: parts},
	}
	n.undo.add("calls to hooks", undoTimeout, func(context.Context) error { d.client.Close(); return nil })
	apply, err := d.prepare(n.Options)
	if err != nil {
		return err
	}
	apply()
	n.reloads.add(d.prepare)
	n.hooks, err = d.newWorker()
	return err
}

// prepare is a [reloadStep].
func (d *declaredRoutes) prepare(next *Options) (apply func(), err error) {
	list, err := loadRoutes(next)
	if err != nil {
		return nil, err
	}
	hooks := make(map[string]*hook.Hook)
	var routes []consumer.Route
	for i := range list {
		r := &list[i]
		if r.Hook != nil {
			endpoint, err := d.client.Endpoint(outgoing.EndpointOptions{Purpose: "hook", URL: r.Hook.URL, Keys: r.Hook.Keys, Timeout: r.Hook.Timeout})
			if err != nil {
				return nil, fmt.Errorf("--routes-file: path %s: %w", r.Pattern, err)
			}
			h := hook.New(hook.Options{Path: r.Pattern, Endpoint: endpoint, On: r.Hook.On, Log: d.node.Log})
			hooks[r.Pattern], r.Declaration.Hook = h, h
		}
		routes = append(routes, r.Route(d.services))
	}
	replace, err := d.registry.PrepareDeclared(routes)
	if err != nil {
		return nil, lines("--routes-file", err)
	}
	return func() { d.hooks.Store(&hooks); replace() }, nil
}

// newWorker returns the worker that tells hooks of ended connections, whichever node they were on.
func (d *declaredRoutes) newWorker() (*task.Worker, error) {
	n := d.node
	return task.NewWorker(n.Redis.Events, n.Keys, n.Directory, map[string]task.Kind{consumer.HookTask: {Run: d.tellEnd}}, task.Options{
		Attempts: hookAttempts, MaxEvent: n.Options.MaxEvent, Log: n.Log, Registerer: n.Metrics,
	})
}

// tellEnd is the handler of that work. A route that is not declared any more has no hook to be told.
func (d *declaredRoutes) tellEnd(ctx context.Context, job *task.Job) (any, error) {
	var ended consumer.HookEnded
	if err := json.Unmarshal(job.Payload, &ended); err != nil {
		return nil, task.Fail("bad_payload")
	}
	h := (*d.hooks.Load())[ended.Route]
	if h == nil || !h.Asks(consumer.HookDisconnect) {
		return nil, nil //nolint:nilnil // the standard terminal event
	}
	return nil, h.Tell(ctx, consumer.HookDisconnect+"_"+job.ID, ended.Question)
}

// loadRoutes reads the file of declared routes.
func loadRoutes(o *Options) ([]routefile.Route, error) {
	list, err := routefile.Load(o.RoutesFile)
	return list, lines("--routes-file", err)
}

// lines puts the name of a setting before each line of an error.
func lines(setting string, err error) error {
	if err == nil {
		return nil
	}
	var errs []error
	for line := range strings.SplitSeq(err.Error(), "\n") {
		errs = append(errs, fmt.Errorf("%s: %s", setting, line))
	}
	return errors.Join(errs...)
}

// checkRoutesFile reports what is wrong with the file of declared routes, also beside the others.
func (o *Options) checkRoutesFile() error {
	if o.RoutesFile == "" {
		return nil
	}
	list, err := loadRoutes(o)
	if err != nil {
		return err
	}
	policy := *o
	policy.Policy, policy.SigningKey = consumer.DefaultPolicy, "" // what is wrong with these is told elsewhere
	registry, err := codedRoutes(&policy, nil, new(reloadSteps))
	if err != nil {
		return err
	}
	var routes []consumer.Route
	for i := range list {
		routes = append(routes, list[i].Route(consumer.DeclaredServices{}))
	}
	_, err = registry.PrepareDeclared(routes)
	return lines("--routes-file", err)
}

// DescribeRoutes writes what the file of declared routes allows, if there is one.
func (o *Options) DescribeRoutes(w io.Writer) error {
	if o.RoutesFile == "" {
		return nil
	}
	list, err := loadRoutes(o)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(w, "\nRoutes of %s:\n", o.RoutesFile) // best effort: w is a terminal
	routefile.Describe(w, list)
	return nil
}
