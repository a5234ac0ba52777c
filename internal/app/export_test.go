package app

import (
	"orgcast/internal/consumer"
	"orgcast/internal/hub"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

// Patterns returns the patterns of all built-in routes, by their names.
func Patterns() (map[string]string, error) {
	routes, err := allRoutes(&Options{Policy: consumer.DefaultPolicy}, nil, new(reloadSteps))
	patterns := make(map[string]string)
	for _, r := range routes {
		patterns[r.Name] = r.Pattern
	}
	return patterns, err
}

// Sources are several places that events come from.
type Sources = sources

// NewSources returns them in an order.
func NewSources(list ...hub.Bus) Sources { return list }

// CommandsOfRights returns all commands that check --connect asks about.
func CommandsOfRights(o *Options, k keyspace.Keyspace, org orgctx.ID) (list [][]string, err error) {
	all, err := neededRights(o, k, org)
	for _, r := range all {
		list = append(list, r.commands...)
	}
	return list, err
}
