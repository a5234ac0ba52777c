package admin

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// registerReady registers whether the process is ready, which is found out when the metrics are
// read, with the same checks as /readyz.
func registerReady(reg prometheus.Registerer, checks map[string]Check) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "orgcast_ready", Help: "1 while the process is ready, as /readyz says, otherwise 0.",
	}, func() float64 {
		ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
		defer cancel()
		for _, check := range checks {
			if check(ctx) != nil {
				return 0
			}
		}
		return 1
	})
}
