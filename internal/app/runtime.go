package app

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

const (
	// gcPercent keeps little garbage between collections. Delivering an event makes next to none,
	// so collections stay rare; what many idle connections would otherwise cost is as much garbage
	// as they have live data. Measured in docs/performance.md.
	gcPercent = 50
	// memoryShare of a container's limit is for the Go runtime; the rest is for the binary and
	// what the kernel counts as ours.
	memoryShare = 0.9
	// trimInterval is how often memory that nothing uses is looked at, trimShare the share of what
	// is used from which on it is given back, and trimLeast an amount that is not worth it.
	trimInterval = 15 * time.Second
	trimShare    = 0.1
	trimLeast    = 4 << 20
)

// tuneRuntime sets the garbage collector up, except what the operator has set with GOGC or
// GOMEMLIMIT.
func tuneRuntime(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if limit := containerMemory("/sys/fs/cgroup/memory.max"); limit > 0 && getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(float64(limit) * memoryShare))
	}
}

// containerMemory returns the limit of the control group (version 2), 0 if there is none.
func containerMemory(file string) int64 {
	b, err := os.ReadFile(file) //nolint:gosec // a constant but in tests
	if err != nil {
		return 0
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0 // "max"
	}
	return limit
}

// trimMemory gives memory back that a burst has left, such as everyone coming back after a deploy,
// and what became garbage since. The runtime by itself keeps as much as the last collection allows
// it to grow to again, and a node whose connections are idle may wait minutes for the next one.
func trimMemory(ctx context.Context) {
	ticker := time.NewTicker(trimInterval)
	defer ticker.Stop()
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"},
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			metrics.Read(samples)
			free, objects, live := samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64()
			if unused := float64(free+objects) - float64(live); unused > trimLeast && unused > trimShare*float64(live) {
				debug.FreeOSMemory()
			}
		}
	}
}
