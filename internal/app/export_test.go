package app

import (
	"orgcast/internal/consumer"
	"orgcast/internal/hub"
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
