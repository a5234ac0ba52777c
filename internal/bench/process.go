package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what a process has used, and holds now.
type usage struct {
	cpu                             time.Duration // user and system
	rss                             int64         // bytes
	heap, stacks, goroutines, files float64       // 0 if nobody told
}

// observer reads what the server uses.
type observer struct {
	pid   int
	admin string
	http  *http.Client
}

// adminTimeout bounds a question to the private listener.
const adminTimeout = 5 * time.Second

func newObserver(pid int, admin string) *observer {
	return &observer{pid: pid, admin: strings.TrimSuffix(admin, "/"), http: &http.Client{
		Timeout: adminTimeout,
		// One connection per question: one kept open would count among what the server holds.
		Transport: &http.Transport{DisableKeepAlives: true},
	}}
}

// cpu returns the CPU time that the server has used so far.
func (o *observer) cpu(ctx context.Context) (time.Duration, error) {
	if o.pid > 0 {
		return cpuOf(o.pid)
	}
	u, err := o.read(ctx)
	return u.cpu, err
}

// read returns everything that can be known.
func (o *observer) read(ctx context.Context) (u usage, err error) {
	if o.admin != "" {
		if u, err = o.metrics(ctx); err != nil {
			return u, fmt.Errorf("admin: %w", err)
		}
	}
	if o.pid > 0 {
		if u.cpu, err = cpuOf(o.pid); err != nil {
			return u, err
		}
		if u.rss, err = rssOf(o.pid); err != nil {
			return u, err
		}
	}
	return u, nil
}

// collect has the server collect its garbage, so that heap and goroutines show what is in use.
func (o *observer) collect(ctx context.Context) error {
	if o.admin == "" {
		return nil
	}
	for range 2 { // what a sync.Pool holds outlives the first time
		body, err := o.get(ctx, "/debug/pprof/heap?gc=1")
		if err != nil {
			return fmt.Errorf("admin: %w", err)
		}
		if err := body.Close(); err != nil {
			return fmt.Errorf("admin: %w", err)
		}
	}
	return nil
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
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, parseErr := strconv.ParseFloat(text, 64)
		if parseErr != nil {
			continue // a comment, or a metric with labels
		}
		switch name {
		case "process_cpu_seconds_total":
			u.cpu = time.Duration(value * float64(time.Second))
		case "process_resident_memory_bytes":
			u.rss = int64(value)
		case "go_memstats_heap_alloc_bytes":
			u.heap = value
		case "go_memstats_stack_inuse_bytes":
			u.stacks = value
		case "process_open_fds":
			u.files = value
		case "go_goroutines":
			u.goroutines = value
		}
	}
	return u, lines.Err()
}

// clockTicks is the unit of CPU times in /proc: a hundredth of a second on every platform that Go
// supports (sysconf(_SC_CLK_TCK)).
const clockTicks = 100

// cpuOf returns the CPU time of a process from /proc/PID/stat, right to 10 ms.
func cpuOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("CPU time of the server: %w", err)
	}
	// The second field is the name in parentheses and may hold anything; utime and stime are the
	// 14th and 15th.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("CPU time of the server: %d fields in stat", len(fields))
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("CPU time of the server: %w", err)
	}
	return time.Duration(user+system) * (time.Second / clockTicks), nil
}

// rssOf returns the memory of a process that is in RAM, in bytes.
func rssOf(pid int) (int64, error) {
	n, err := kibibytes("/proc/"+strconv.Itoa(pid)+"/status", "VmRSS:")
	if err != nil {
		return 0, fmt.Errorf("memory of the server: %w", err)
	}
	return n, nil
}

// kernelMemory returns what the kernel of this machine holds in its own structures, in bytes:
// sockets are part of it, and of no process's RSS.
func kernelMemory() int64 {
	n, err := kibibytes("/proc/meminfo", "Slab:")
	if err != nil {
		return 0
	}
	return n
}

// kibibytes reads the line "NAME: 123 kB" of a file in /proc.
func kibibytes(file, name string) (int64, error) {
	b, err := os.ReadFile(file) //nolint:gosec // a path in /proc, made from a number
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == name {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s: no %s", file, name)
}
