package app

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
)

const (
	// gcPercent keeps garbage small between collections. Delivering an event creates almost none,
	// so collections stay rare. With the default, many idle connections would cost as much garbage
	// as they have live data. Measured in docs/performance.md.
	gcPercent = 50
	// gcHeadroom is how much garbage there may always be between collections. Handshakes create
	// some 15 kB each, and a node with few connections would otherwise collect all the time while
	// many come in.
	gcHeadroom = 16 << 20
	// mostPercent bounds what a tiny heap makes of gcHeadroom.
	mostPercent = 1000
	// memoryShare is the share of a container's limit for the Go runtime. The rest is for the
	// binary and for kernel memory that counts as the process's.
	memoryShare = 0.9
	// trimInterval is how often unused memory is checked. It is returned to the system if it
	// exceeds trimShare of the live memory, and trimLeast.
	trimInterval = 15 * time.Second
	trimShare    = 0.1
	trimLeast    = 1 << 20
)

// tuneRuntime configures the garbage collector, except what the operator has set with GOGC or
// GOMEMLIMIT.
func tuneRuntime(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
		tuneAfterEach(gcPercent)
	}
	if limit := containerMemory("/sys/fs/cgroup/memory.max"); limit > 0 && getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(float64(limit) * memoryShare))
	}
}

// tuneAfterEach sets the percentage again after each collection, so that the next one comes when
// there is gcHeadroom of garbage, or gcPercent of the live memory if that is more. The runtime has
// no setting for it. last is the percentage that is in effect.
func tuneAfterEach(last int) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	next := percentFor(samples[0].Value.Uint64())
	if next != last {
		debug.SetGCPercent(next)
	}
	// The next collection finds this object unused.
	runtime.AddCleanup(new([64]byte), tuneAfterEach, next)
}

// percentFor returns how much garbage there may be, in percent of the live memory.
func percentFor(live uint64) int {
	return int(min(max(gcPercent, gcHeadroom*100/max(live, 1)), mostPercent))
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

// trimMemory returns memory to the system that was used in a burst, such as all clients
// reconnecting after a deploy, and what has become garbage since. The runtime by itself keeps as
// much as the last collection allows, and an idle node may wait minutes for the next one.
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
