package app

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"orgcast/internal/consumer"
)

// Route is a route with its name in --consumers.
type Route struct {
	Name string
	consumer.Route
}

// allRoutes returns all built-in routes. Add a new consumer here.
func allRoutes(o *Options, parts *Services, reloads *reloadSteps) ([]Route, error) {
	policy, err := consumer.ParsePolicy(o.Policy, []byte(o.SigningKey))
	if err != nil {
		return nil, err
	}
	reloads.add(func(next *Options) (func(), error) {
		changed, err := consumer.ParsePolicy(next.Policy, []byte(next.SigningKey))
		return func() { policy.Become(changed) }, err
	})
	presence, err := consumer.ParsePresencePolicy(o.PresencePolicy)
	if err != nil {
		return nil, err
	}
	reloads.add(func(next *Options) (func(), error) {
		changed, err := consumer.ParsePresencePolicy(next.PresencePolicy)
		return func() { presence.Become(changed) }, err
	})
	whenFull, _ := consumer.ParseWhenFull(o.WhenFull) // it was checked as a Choice
	events := consumer.Events{Policy: policy, Presence: presence}
	return []Route{
		{"events", consumer.Route{Pattern: "/ws/events", New: same(events), WhenFull: whenFull}},
		{"connection_test", consumer.Route{Pattern: "/ws/connection_test/", New: same(consumer.ConnectionTest{}), WithoutOrganization: true}},
		{"chat", job("/ws/chat/", func() consumer.OrganizationAwareConsumer {
			return consumer.JSON(&consumer.Chat{Dispatcher: parts, Recorder: parts, Inputs: parts, Owners: parts, Requests: parts})
		})},
		{"research", job("/ws/research/{id:int}/", same(consumer.Research{Dispatcher: parts, Requests: parts}))},
		{"meta_tags", job("/ws/meta-tags/task/{id:id}/", same(consumer.MetaTagsTask{}))},
		{"crew_execution", job("/ws/crew_execution/{id:id}/", same(consumer.CrewExecution{Inputs: parts, Requests: parts}))},
		{"seo_audit", job("/ws/seo_audit/{id:int}/", same(consumer.SEOAudit{}))},
		{"crew_kanban", job("/ws/crew/{id:id}/kanban/", func() consumer.OrganizationAwareConsumer {
			return consumer.JSON(&consumer.CrewKanban{Inputs: parts, Requests: parts})
		})},
		{"optimization", job("/ws/image-optimizer/{id:int}/", func() consumer.OrganizationAwareConsumer { return consumer.JSON(new(consumer.Optimization)) })},
		{"crawl", job("/ws/crawl/{id:id}/", same(consumer.Crawl{}))},
	}, nil
}

// same serves all connections with one consumer, which has no state.
func same(h consumer.MessageHandler) func() consumer.OrganizationAwareConsumer {
	c := consumer.JSON(h)
	return func() consumer.OrganizationAwareConsumer { return c }
}

// job returns the route of a consumer that pages watch for long. They need to know whether to
// reconnect.
func job(pattern string, fn func() consumer.OrganizationAwareConsumer) consumer.Route {
	return consumer.Route{Pattern: pattern, New: fn, Explain: true}
}

// EveryConsumer in --consumers means all of them.
const EveryConsumer = "all"

// CheckConsumers checks a value of --consumers: "all" or a list of names.
func CheckConsumers(list []string) error {
	routes, err := allRoutes(&Options{Policy: consumer.DefaultPolicy}, nil, new(reloadSteps))
	if err != nil {
		return err
	}
	known := []string{EveryConsumer}
	for _, r := range routes {
		known = append(known, r.Name)
	}
	for _, name := range list {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%q must be one of %s", name, strings.Join(known, ", "))
		}
	}
	if len(list) == 0 {
		return errors.New("must name at least one consumer")
	}
	return nil
}

// addRoutes adds the routes that the settings select, and the services that they need.
func (n *Node) addRoutes() (err error) {
	if n.services, err = NewServices(n); err != nil {
		return err
	}
	if n.routes, err = codedRoutes(n.Options, n.services, &n.reloads); err != nil {
		return err
	}
	return n.addDeclared(n.routes, n.services)
}

// codedRoutes returns the routes that are written in Go.
func codedRoutes(o *Options, parts *Services, reloads *reloadSteps) (*consumer.Registry, error) {
	all, err := allRoutes(o, parts, reloads)
	if err != nil {
		return nil, err
	}
	routes := new(consumer.Registry)
	for _, r := range all {
		if !slices.Contains(o.Consumers, EveryConsumer) && !slices.Contains(o.Consumers, r.Name) {
			continue
		}
		if err := routes.Add(r.Route); err != nil {
			return nil, err
		}
	}
	return routes, o.Extension.addRoutes(routes, parts)
}
