package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/procfs"
)

// usage is what a process has used, and currently holds.
type usage struct {
	cpu                             time.Duration // user and system
	rss                             int64         // bytes
	heap, stacks, goroutines, files float64       // 0 if nobody told
	live                            float64       // of heap, what is no garbage; only of [observer.settled]
}

// observer reads the server's usage.
type observer struct {
	pids  []int
	admin string
	http  *http.Client
}

// adminTimeout bounds a request to the private listener.
const adminTimeout = 5 * time.Second

func newObserver(pids []int, admin string) *observer {
	return &observer{pids: pids, admin: strings.TrimSuffix(admin, "/"), http: &http.Client{
		Timeout: adminTimeout,
		// One connection per request: an open one would count among what the server holds.
		Transport: &http.Transport{DisableKeepAlives: true},
	}}
}

// cpu returns the CPU time that the server has used so far.
func (o *observer) cpu(ctx context.Context) (time.Duration, error) {
	if len(o.pids) > 0 {
		return sumOf(o.pids, cpuOf)
	}
	u, err := o.read(ctx)
	return u.cpu, err
}

// read returns everything that is available.
func (o *observer) read(ctx context.Context) (u usage, err error) {
	if o.admin != "" {
		if u, err = o.metrics(ctx); err != nil {
			return u, fmt.Errorf("admin: %w", err)
		}
	}
	if len(o.pids) > 0 {
		if u.cpu, err = sumOf(o.pids, cpuOf); err != nil {
			return u, err
		}
		if u.rss, err = sumOf(o.pids, rssOf); err != nil {
			return u, err
		}
	}
	return u, nil
}

// liveHeap matches the line of a heap profile that says how much is in use. It was counted right after
// the garbage collection, before the profile itself was written.
var liveHeap = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

// maxProfile bounds what is read of a heap profile.
const maxProfile = 64 << 20

// settled has the server collect its garbage and returns what it then holds.
func (o *observer) settled(ctx context.Context) (u usage, err error) {
	var live float64
	for range 2 { // what a sync.Pool holds outlives the first time
		if live, err = o.collect(ctx); err != nil {
			return u, err
		}
	}
	u, err = o.read(ctx)
	u.live = live
	return u, err
}

// collect has the server collect its garbage, and returns the bytes of its heap that are in use.
func (o *observer) collect(ctx context.Context) (live float64, err error) {
	if o.admin == "" {
		return 0, nil
	}
	body, err := o.get(ctx, "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		return 0, fmt.Errorf("admin: %w", err)
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	profile, err := io.ReadAll(io.LimitReader(body, maxProfile))
	if err != nil {
		return 0, fmt.Errorf("admin: %w", err)
	}
	m := liveHeap.FindSubmatch(profile)
	if m == nil {
		return 0, errors.New("admin: the heap profile does not say how much is in use")
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

func (o *observer) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.admin+path, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	resp, err := o.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("get %s: %s", path, resp.Status), resp.Body.Close())
	}
	return resp.Body, nil
}

func (o *observer) metrics(ctx context.Context) (u usage, err error) {
	body, err := o.get(ctx, "/metrics")
	if err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(body)
	if err != nil {
		return u, fmt.Errorf("get /metrics: %w", err)
	}
	u.cpu = seconds(valueOf(families, "process_cpu_seconds_total"))
	u.rss = int64(valueOf(families, "process_resident_memory_bytes"))
	u.heap = valueOf(families, "go_memstats_heap_alloc_bytes")
	u.stacks = valueOf(families, "go_memstats_stack_inuse_bytes")
	u.files = valueOf(families, "process_open_fds")
	u.goroutines = valueOf(families, "go_goroutines")
	return u, nil
}

// valueOf returns the value of a counter or gauge without labels, and 0 if there is none.
func valueOf(families map[string]*dto.MetricFamily, name string) float64 {
	for _, m := range families[name].GetMetric() {
		if len(m.GetLabel()) == 0 {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them is not there
		}
	}
	return 0
}

// sumOf adds up what several processes have used or hold.
func sumOf[T ~int64](pids []int, of func(pid int) (T, error)) (sum T, err error) {
	for _, pid := range pids {
		n, err := of(pid)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// cpuOf returns the CPU time of a process, to the nearest 10 ms.
func cpuOf(pid int) (time.Duration, error) {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	stat, err := proc.Stat()
	if err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return seconds(stat.CPUTime()), nil
}

// rssOf returns the memory of a process that is in RAM, in bytes.
func rssOf(pid int) (int64, error) {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	status, err := proc.NewStatus() // stat has it, too, but only roughly
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	return int64(status.VmRSS), nil //nolint:gosec // no machine has as much
}

// kernelMemory returns what the kernel of this machine holds in its own structures, in bytes:
// sockets are part of it, and of no process's RSS. It is 0 where that cannot be read.
func kernelMemory() int64 {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0
	}
	memory, err := fs.Meminfo()
	if err != nil || memory.SlabBytes == nil {
		return 0
	}
	return int64(*memory.SlabBytes) //nolint:gosec // no machine has as much
}
