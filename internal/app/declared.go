package app

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"orgcast/internal/consumer"
	"orgcast/internal/routefile"
)

// declaredRoutes are the routes of --routes-file, which may be replaced while the node serves.
type declaredRoutes struct {
	registry *consumer.Registry
	services consumer.DeclaredServices
	hooks    *hooks
}

// addDeclared adds the routes of --routes-file, if there is one, and their reload, which may bring
// one or take it away.
func (n *Node) addDeclared(registry *consumer.Registry, parts *Services) error {
	d := &declaredRoutes{
		registry: registry, hooks: &hooks{client: n.calls, log: n.Log},
		services: consumer.DeclaredServices{Dispatcher: parts, Inputs: parts, Owners: parts, Requests: parts},
	}
	apply, err := d.prepare(n.Options)
	if err != nil {
		return err
	}
	apply()
	n.reloads.add(d.prepare)
	return nil
}

// prepare is a [reloadStep].
func (d *declaredRoutes) prepare(next *Options) (apply func(), err error) {
	var list []routefile.Route
	if next.RoutesFile != "" {
		if list, err = loadRoutes(next); err != nil {
			return nil, err
		}
	}
	if _, err := d.hooks.attach(list); err != nil {
		return nil, err
	}
	var routes []consumer.Route
	for i := range list {
		routes = append(routes, list[i].Route(d.services))
	}
	apply, err = d.registry.PrepareDeclared(routes)
	return apply, lines("--routes-file", err)
}

// loadRoutes reads the file of declared routes.
func loadRoutes(o *Options) ([]routefile.Route, error) {
	list, err := routefile.Load(o.RoutesFile)
	return list, lines("--routes-file", err)
}

// lines prefixes each line of an error with the name of a setting.
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

// checkRoutes checks the routes of an extension and the file of declared routes, also against the
// other routes.
func (o *Options) checkRoutes() error {
	policy := *o
	policy.Policy, policy.PresencePolicy, policy.SigningKey = consumer.DefaultPolicy, "", "" // their errors are reported elsewhere
	registry, err := codedRoutes(&policy, nil, new(reloadSteps))
	if err != nil || o.RoutesFile == "" {
		return err
	}
	list, err := loadRoutes(o)
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
