package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long a server may take to start.
const patience = 30 * time.Second

// world is where it is measured: a folder, a Redis, and processes that end with it.
type world struct {
	binary, dir string
	quick       bool
	rowRounds   int
	began       time.Time
	redis       *process
	redisURL    string
	cert, key   string
	clusterAt   string // see cluster
	running     []*process
}

// process is a server.
type process struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	over chan struct{}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// newWorld starts a Redis and makes a certificate.
func newWorld(ctx context.Context, o *options) (*world, error) {
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "measure-")
	if err != nil {
		return nil, err
	}
	w := &world{binary: binary, dir: dir, quick: o.quick, rowRounds: o.rounds, began: time.Now(), cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	if err := errors.Join(writeCertificate(w.cert, w.key), w.startRedis(ctx)); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// close ends all processes and removes the folder.
func (w *world) close() error {
	for _, p := range slices.Backward(w.running) {
		p.stop()
	}
	return os.RemoveAll(w.dir)
}

// say shows progress.
func (w *world) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6s  %s\n", time.Since(w.began).Round(time.Second), fmt.Sprintf(format, args...))
}

// inOrder writes figures for people.
func inOrder(figures map[string]float64) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		list = append(list, fmt.Sprintf("%s %.3g", name, figures[name]))
	}
	return strings.Join(list, "; ")
}

// rounds returns how often to measure.
func (w *world) rounds(usual int) int {
	if w.quick {
		return 1
	}
	return usual
}

// timing returns the flags for how long to measure.
func (w *world) timing() string {
	if w.quick {
		return "--warmup 300ms --duration 1s"
	}
	return "--warmup 1s --duration 3s"
}

// freePort returns a port of the loopback that nobody uses.
func freePort(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

// start runs a server until the world ends.
func (w *world) start(env []string, name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), over: make(chan struct{})} //nolint:noctx // stop ends it
	p.cmd.Dir, p.cmd.Env = w.dir, append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.over)
		_ = p.cmd.Wait() // it is killed
	}()
	w.running = append(w.running, p)
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.over:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.over
	}
}

// await waits until a server is ready.
func (p *process) await(ctx context.Context, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !ready() {
		select {
		case <-p.over:
			return fmt.Errorf("%s ended: %s", p.cmd.Path, p.log.String())
		case <-ctx.Done():
			return fmt.Errorf("%s: not ready: %w", p.cmd.Path, context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

func listens(ctx context.Context, port string) bool {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", "127.0.0.1:"+port)
	return err == nil && c.Close() == nil
}

// startRedis starts the Redis of all measurements except those of a Cluster.
func (w *world) startRedis(ctx context.Context) error {
	p, port, err := w.redisServer(ctx)
	w.redis, w.redisURL = p, "redis://127.0.0.1:"+port
	return err
}

func (w *world) redisServer(ctx context.Context, args ...string) (p *process, port string, err error) {
	if port, err = freePort(ctx); err != nil {
		return nil, "", err
	}
	p, err = w.start(nil, "redis-server", append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"}, args...)...)
	if err != nil {
		return nil, "", err
	}
	return p, port, p.await(ctx, func() bool { return listens(ctx, port) })
}

// cluster returns the address of one of three members of a Redis Cluster, which the first call starts.
func (w *world) cluster(ctx context.Context) (first string, err error) {
	if w.clusterAt == "" {
		w.clusterAt, err = w.startCluster(ctx)
	}
	return w.clusterAt, err
}

func (w *world) startCluster(ctx context.Context) (string, error) {
	create := []string{"--cluster", "create"}
	for i := range 3 {
		bus, err := freePort(ctx)
		if err != nil {
			return "", err
		}
		_, port, err := w.redisServer(ctx, "--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-config-file", fmt.Sprintf("nodes-%d.conf", i))
		if err != nil {
			return "", err
		}
		create = append(create, "127.0.0.1:"+port)
	}
	first := create[2]
	if out, err := exec.CommandContext(ctx, "redis-cli", append(create, "--cluster-yes")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("redis-cli --cluster create: %w: %s", err, out)
	}
	host, port, _ := strings.Cut(first, ":")
	for range 100 {
		out, err := exec.CommandContext(ctx, "redis-cli", "-h", host, "-p", port, "cluster", "info").Output()
		if err == nil && bytes.Contains(out, []byte("cluster_state:ok")) {
			return first, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return "", errors.New("the Cluster did not become ready")
}

// gateway is a running gateway, or a proxy in front of one.
type gateway struct {
	url, admin, port string
	flags            []string // that bench needs, too
	processes        []*process
}

// sessionKey signs sessions of gateways and bench.
var sessionKey = "ORGCAST_SESSION_KEYS=" + strings.Repeat("6b", 32)

// origin is that of the page whose browsers bench plays.
const origin = "http://measure.test"

// serve starts a gateway. flags are for it and bench, extra for it alone.
func (w *world) serve(ctx context.Context, flags, extra []string) (*gateway, error) {
	public, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	private, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	if len(flags) == 0 {
		flags = []string{"--redis", w.redisURL}
	}
	g := &gateway{port: public, url: "ws://127.0.0.1:" + public + "/ws/events", admin: "http://127.0.0.1:" + private, flags: flags}
	args := append(append([]string{
		"serve", "--listen", "127.0.0.1:" + public, "--admin-listen", "127.0.0.1:" + private,
		"--directory", "session", "--session-insecure", "--origins", origin, "--max-per-organization", "100000", "--handshakes-per-second", "100000", "--log-level", "error",
	}, flags...), extra...)
	if slices.Contains(extra, "--tls-cert") {
		g.url = "wss" + strings.TrimPrefix(g.url, "ws")
	}
	p, err := w.start([]string{sessionKey}, w.binary, args...)
	if err != nil {
		return nil, err
	}
	g.processes = []*process{p}
	return g, p.await(ctx, func() bool { return isReady(ctx, g.admin+"/readyz") })
}

// isReady reports whether a server answers 200.
func isReady(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := (&http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

func (g *gateway) stop() {
	for _, p := range slices.Backward(g.processes) {
		p.stop()
	}
}

// pids returns the process IDs, as --pid takes them.
func (g *gateway) pids() string {
	var pids []string
	for _, p := range g.processes {
		pids = append(pids, strconv.Itoa(p.pid()))
	}
	return strings.Join(pids, ",")
}

// bench runs `gateway bench` against a gateway and reads its report into v. Faults of the gateway are
// errors.
func (w *world) bench(ctx context.Context, g *gateway, v any, args ...string) error {
	all := append(append(append([]string{"bench"}, args...), "--json", "--url", g.url, "--insecure", "--origin", origin, "--pid", g.pids()), g.flags...)
	cmd := exec.CommandContext(ctx, w.binary, all...)
	cmd.Env = append(os.Environ(), sessionKey)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("bench %s: %w: %s", strings.Join(args, " "), err, log.String())
	}
	return json.Unmarshal(out.Bytes(), v)
}

// machine describes where it is measured.
func (w *world) machine(ctx context.Context) (machine, error) {
	m := machine{Processors: runtime.NumCPU(), Go: strings.TrimPrefix(runtime.Version(), "go")}
	number := regexp.MustCompile(`[0-9]+(\.[0-9]+)+`)
	ask := func(name string, args ...string) string {
		out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
		if err != nil {
			return ""
		}
		return number.FindString(string(out))
	}
	m.Kernel, m.Redis = ask("uname", "-r"), ask("redis-server", "--version")
	m.Proxies = fmt.Sprintf("nginx %s, HAProxy %s, Caddy %s", ask("nginx", "-v"), ask("haproxy", "-v"), ask("caddy", "version"))
	if m.Kernel == "" || m.Redis == "" {
		return m, errors.New("uname and redis-server must be installed")
	}
	return m, nil
}
