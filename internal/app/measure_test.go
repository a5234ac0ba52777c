package app

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/inventory"
)

// measured counts what a meter is asked for.
type measured struct {
	mu           sync.Mutex
	times, reset int
}

func (m *measured) Measure(_ time.Time, reset bool) []inventory.Usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.times++
	if reset {
		m.reset++
	}
	return nil
}

// TestMeasuresForRatesAndForgets: rates are those of the last 10 s, and each hour organizations that
// are gone are forgotten.
func TestMeasuresForRatesAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(measured)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go measure(ctx, m)
		time.Sleep(2*time.Hour + time.Second)
		synctest.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.times != 720 || m.reset != 2 {
			t.Errorf("got %d measurements and %d resets, want 720 and 2", m.times, m.reset)
		}
	})
}
