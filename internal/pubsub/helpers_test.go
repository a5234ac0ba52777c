package pubsub_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// counter returns the sum of a metric over its labels.
func counter(tb testing.TB, reg *prometheus.Registry, name string) (sum float64) {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// commandCalls returns how many calls of a command the server has counted.
func commandCalls(tb testing.TB, client *redis.Client, command string) int {
	tb.Helper()
	text, err := client.Info(tb.Context(), "commandstats").Result()
	if err != nil {
		tb.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^cmdstat_` + command + `:calls=(\d+)`).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	calls, err := strconv.Atoi(m[1])
	if err != nil {
		tb.Fatal(err)
	}
	return calls
}

func containsAny(s string, parts ...string) bool {
	for _, part := range parts {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
}
