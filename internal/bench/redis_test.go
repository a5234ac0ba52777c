package bench_test

import (
	"testing"

	"orgcast/internal/bench"
	"orgcast/internal/redisclient"
	"orgcast/internal/testkit/redistest"
)

// TestPublishesWhereTheGatewayListens: the load reaches a gateway whose Redis is a Cluster, or wants a
// password and certificates.
func TestPublishesWhereTheGatewayListens(t *testing.T) {
	t.Parallel()
	tests := map[string]func(*testing.T) redisclient.Options{
		"Cluster": func(t *testing.T) redisclient.Options {
			t.Helper()
			cluster := redistest.StartCluster(t, redistest.ClusterOptions{})
			return redisclient.Options{Name: "redis", URL: "redis://" + cluster.Masters[0].Addr, Cluster: cluster.Addrs()[:1]}
		},
		"password, TLS": func(t *testing.T) redisclient.Options {
			t.Helper()
			server := redistest.StartTLS(t)
			if err := redistest.NewClient(t, server.Addr).ConfigSet(t.Context(), "requirepass", "open").Err(); err != nil {
				t.Fatal(err)
			}
			return redisclient.Options{
				Name: "redis", URL: "rediss://" + server.TLSAddr, Password: "open", CA: server.CA, Cert: server.Cert, Key: server.Key,
			}
		},
	}
	for name, start := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStubAt(t, start(t), nil)
			for _, inFlight := range []int{0, 50} {
				opts := s.options()
				if inFlight > 0 {
					opts.Rate, opts.InFlight = 0, inFlight
				}
				rep := runLongEnough(t, bench.Run, opts, func(rep bench.Report) bool { return rep.Deliveries > 0 && rep.RedisCPUSeconds > 0 })
				if got := rep.ExitCode(); got != bench.ExitOK || rep.Deliveries == 0 || rep.RedisCPUSeconds == 0 {
					t.Errorf("exit code: got %d, want %d; report: %+v", got, bench.ExitOK, rep)
				}
			}
		})
	}
}
