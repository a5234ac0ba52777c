package loglimit_test

import (
	"testing"
	"time"

	"orgcast/internal/loglimit"
)

func TestLimiter(t *testing.T) {
	start := time.Unix(1700000000, 0)
	for name, test := range map[string]struct{ set, interval time.Duration }{
		"default": {0, loglimit.Interval}, "own": {time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			l := loglimit.Limiter{Interval: test.set}
			for i, step := range []struct {
				after      time.Duration
				ok         bool
				suppressed int
			}{
				{0, true, 0},
				{0, false, 0},
				{test.interval - 1, false, 0},
				{test.interval, true, 2},
				{2*test.interval - 1, false, 0},
				{5 * test.interval, true, 1},
				{6 * test.interval, true, 0},
			} {
				if suppressed, ok := l.Allow(start.Add(step.after)); ok != step.ok || suppressed != step.suppressed {
					t.Errorf("step %d: got %d, %t, want %d, %t", i, suppressed, ok, step.suppressed, step.ok)
				}
			}
		})
	}
}
