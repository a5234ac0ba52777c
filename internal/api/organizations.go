package api

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"orgcast/internal/inventory"
)

// Census is what the organizations of one node have to carry.
type Census interface {
	// ReportLargest returns a page of organizations, and what all of them have together.
	ReportLargest(q inventory.Query) (inventory.Page[inventory.Organization], inventory.Total, error)
}

// organizationMetrics returns GET /metrics/organizations. It is a path of its own, so that /metrics
// does not grow with the number of organizations, and needs the admin key, because it names them.
func organizationMetrics(c Census, limit int) view {
	limit = min(limit, inventory.MaxLimit)
	return view{
		path: "/metrics/organizations", parameters: []string{parameterSort, parameterLimit},
		stream: func(_ *viewer, w http.ResponseWriter, r *http.Request, parameters map[string]string) error {
			q := inventory.Query{Limit: limit, Sort: inventory.ByConnections}
			if text, given := parameters[parameterSort]; given {
				q.Sort = text
			}
			if text, given := parameters[parameterLimit]; given {
				n, err := strconv.Atoi(text)
				if err != nil || n < 1 {
					return inventory.ErrLimit
				}
				q.Limit = min(n, limit)
			}
			if err := q.Check(); err != nil {
				return err
			}
			page, total, err := c.ReportLargest(q)
			if err != nil {
				return err
			}
			registry := prometheus.NewRegistry()
			if err := registry.Register(&organizationCollector{page.Rows[:min(len(page.Rows), q.Limit)], total}); err != nil {
				return err
			}
			promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, r)
			return nil
		},
	}
}

// organizationCollector shows the organizations of one scrape.
type organizationCollector struct {
	rows  []inventory.Organization
	total inventory.Total
}

var _ prometheus.Collector = (*organizationCollector)(nil)

// Describe implements [prometheus.Collector].
func (c *organizationCollector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, m := range organizationSeries() {
		descriptions <- m.description
	}
	for _, m := range totalSeries() {
		descriptions <- m.description
	}
}

// Collect implements [prometheus.Collector].
func (c *organizationCollector) Collect(metrics chan<- prometheus.Metric) {
	for _, m := range totalSeries() {
		metrics <- prometheus.MustNewConstMetric(m.description, prometheus.GaugeValue, m.value(c.total))
	}
	for _, m := range organizationSeries() {
		for _, row := range c.rows {
			metrics <- prometheus.MustNewConstMetric(m.description, m.kind, m.value(row), row.ID)
		}
	}
}
