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
	// gcPercent keeps garbage small between collections as long as these are rare. With the
	// default, many idle connections would cost as much garbage as they have live data. Measured
	// in docs/performance.md.
	gcPercent = 50
	// gcHeadroom is how much garbage there may always be between collections, because a node with
	// few connections would otherwise collect all the time while many come in. Handshakes create
	// some 11 kB each. With more of it, what stays is spread over more memory.
	gcHeadroom = 8 << 20
	// gcInterval is how rare collections are to be on a busy node. Each one looks at everything
	// that idle connections hold, too.
	gcInterval = 10 * time.Second
	// gcRush is the share of the live memory that a node allocates in a second when many connections
	// arrive. Then collections are not made rare if more than gcRushLive is alive, so that what stays of
	// handshakes lies close together.
	gcRush     = 0.5
	gcRushLive = 16 << 20
	// gcMostPercent bounds what gcHeadroom and gcInterval allow. The runtime collects no sooner than
	// when the heap has this share of 4 MiB, which is gcHeadroom.
	gcMostPercent = 200
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
		start := look()
		start.percent = gcPercent
		tuneAfterEach(start)
	}
	if limit := containerMemory("/sys/fs/cgroup/memory.max"); limit > 0 && getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(float64(limit) * memoryShare))
	}
}

// pace is what the next collection is planned from.
type pace struct {
	percent   int       // in effect
	at        time.Time // of the last collection
	allocated uint64    // bytes since the start of the process
	live      float64   // bytes that it left
}

// tuneAfterEach sets the percentage again after each collection, see [percentFor]. The runtime has
// no setting for it.
func tuneAfterEach(last pace) {
	now := look()
	perSecond := float64(now.allocated-last.allocated) / max(now.at.Sub(last.at).Seconds(), 1e-3)
	now.percent = percentFor(now.live, perSecond)
	if now.percent != last.percent {
		debug.SetGCPercent(now.percent)
	}
	// The next collection finds this object unused.
	runtime.AddCleanup(new([64]byte), tuneAfterEach, now)
}

// look returns the state of the heap.
func look() pace {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	return pace{at: time.Now(), allocated: samples[0].Value.Uint64(), live: float64(samples[1].Value.Uint64())}
}

// percentFor returns how much garbage there may be, in percent of the live memory: gcPercent, or more
// if gcHeadroom is more, or what is allocated in gcInterval unless that is a rush, but at most
// gcMostPercent.
func percentFor(live, perSecond float64) int {
	garbage := float64(gcHeadroom)
	if live <= gcRushLive || perSecond <= live*gcRush {
		garbage = max(garbage, perSecond*gcInterval.Seconds())
	}
	return int(min(max(garbage*100/max(live, 1), gcPercent), gcMostPercent))
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
