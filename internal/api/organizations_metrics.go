package api

import (
	"github.com/prometheus/client_golang/prometheus"

	"orgcast/internal/inventory"
)

// series is one metric of a row.
type series[R any] struct {
	description *prometheus.Desc
	kind        prometheus.ValueType
	value       func(row R) float64
}

// organizationSeries returns the metrics of each organization.
func organizationSeries() []series[inventory.Organization] {
	of := func(name, help string, kind prometheus.ValueType, value func(o inventory.Organization) float64) series[inventory.Organization] {
		return series[inventory.Organization]{prometheus.NewDesc(name, help, []string{"organization_id"}, nil), kind, value}
	}
	return []series[inventory.Organization]{
		of("orgcast_organization_connections", "Open connections of the organization.", prometheus.GaugeValue,
			func(o inventory.Organization) float64 { return float64(o.Connections) }),
		of("orgcast_organization_queued_bytes", "Bytes that wait for browsers of the organization.", prometheus.GaugeValue,
			func(o inventory.Organization) float64 { return float64(o.QueuedBytes) }),
		of("orgcast_organization_lag_seconds", "How long the organization's slowest browser has kept a write waiting.", prometheus.GaugeValue,
			func(o inventory.Organization) float64 { return o.LagSeconds }),
		of("orgcast_organization_deliveries_total", "Events written to connections of the organization.", prometheus.CounterValue,
			func(o inventory.Organization) float64 { return float64(o.Deliveries) }),
		of("orgcast_organization_delivered_bytes_total", "Bytes written to connections of the organization, before compression.", prometheus.CounterValue,
			func(o inventory.Organization) float64 { return float64(o.DeliveredBytes) }),
	}
}

// totalSeries returns the metrics of all organizations together.
func totalSeries() []series[inventory.Total] {
	of := func(name, help string, value func(t inventory.Total) float64) series[inventory.Total] {
		return series[inventory.Total]{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, value}
	}
	return []series[inventory.Total]{
		of("orgcast_organizations", "Organizations with open connections.", func(t inventory.Total) float64 { return float64(t.Organizations) }),
		of("orgcast_organizations_connections", "Open connections of all organizations.", func(t inventory.Total) float64 { return float64(t.Connections) }),
		of("orgcast_organizations_queued_bytes", "Bytes that wait for browsers of all organizations.", func(t inventory.Total) float64 { return float64(t.QueuedBytes) }),
		of("orgcast_organizations_lag_seconds", "How long the slowest browser of all organizations has kept a write waiting.", func(t inventory.Total) float64 { return t.LagSeconds }),
		of("orgcast_organizations_deliveries_per_second", "Events written to connections of all organizations, as the average of the last 10 s.", func(t inventory.Total) float64 { return t.DeliveriesPerSecond }),
	}
}
