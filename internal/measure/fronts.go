package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"orgcast/internal/bench"
)

// front is one way to terminate TLS, with the CPU time and memory of gateway and proxy together.
type front struct {
	Name string `json:"name"`
	// FanOut and Single are CPU time per delivery in microseconds: 50 events per second to 500
	// browsers, and one event in flight.
	FanOut value `json:"fan_out_microseconds"`
	Single value `json:"one_in_flight_microseconds"`
	// SingleP50 and SingleP99 are the latencies of the latter, in milliseconds.
	SingleP50 value `json:"one_in_flight_p50_milliseconds"`
	SingleP99 value `json:"one_in_flight_p99_milliseconds"`
	// Arrival is CPU time in microseconds, with full handshakes, 16 at once.
	Arrival value `json:"arrival_microseconds"`
	// Memory is resident memory of an idle connection, in KiB.
	Memory value `json:"memory_kibibytes"`
}

// termination is a way to terminate TLS.
type termination struct {
	name string
	// file and config are the proxy's configuration. PORT, BACKEND, CERT, KEY and BOTH are replaced.
	file, config string
	command      []string // FILE is replaced
	secure       bool
}

var terminations = []termination{
	{name: "no TLS"},
	{name: "gateway", secure: true},
	{name: "nginx", secure: true, file: "nginx.conf", command: []string{"nginx", "-c", "FILE", "-p", ".", "-e", "stderr"}, config: `
daemon off; master_process off; pid nginx.pid; error_log stderr crit; worker_rlimit_nofile 20000;
events { worker_connections 19000; }
http {
  access_log off;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  server {
    listen 127.0.0.1:PORT ssl;
    ssl_certificate CERT; ssl_certificate_key KEY; ssl_protocols TLSv1.2 TLSv1.3;
    location / {
      proxy_pass http://127.0.0.1:BACKEND; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_read_timeout 90s; proxy_send_timeout 90s;
    }
  }
}
`},
	{name: "HAProxy", secure: true, file: "haproxy.cfg", command: []string{"haproxy", "-db", "-q", "-f", "FILE"}, config: `
global
  maxconn 8000
defaults
  mode http
  timeout connect 5s
  timeout client 90s
  timeout server 90s
  timeout tunnel 90s
frontend public
  bind 127.0.0.1:PORT ssl crt BOTH alpn http/1.1
  option forwardfor
  default_backend gateway
backend gateway
  server one 127.0.0.1:BACKEND
`},
	{name: "Caddy", secure: true, file: "Caddyfile", command: []string{"caddy", "run", "--config", "FILE", "--adapter", "caddyfile"}, config: `
{
	admin off
	auto_https off
	log {
		level ERROR
	}
}
https://127.0.0.1:PORT {
	tls CERT KEY
	reverse_proxy 127.0.0.1:BACKEND
}
`},
}

// front starts a gateway, and a proxy in front of it.
func (w *world) front(ctx context.Context, t termination) (*gateway, error) {
	var extra []string
	if t.secure && t.file == "" {
		extra = []string{"--tls-cert", w.cert, "--tls-key", w.key}
	} else if t.file != "" {
		extra = []string{"--trusted-proxies", "127.0.0.0/8"}
	}
	g, err := w.serve(ctx, nil, extra)
	if err != nil || t.file == "" {
		return g, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return g, err
	}
	cert, certErr := os.ReadFile(w.cert)
	key, keyErr := os.ReadFile(w.key)
	both, file := filepath.Join(w.dir, "both.pem"), filepath.Join(w.dir, t.file)
	config := strings.NewReplacer("PORT", port, "BACKEND", g.port, "CERT", w.cert, "KEY", w.key, "BOTH", both).Replace(t.config)
	err = errors.Join(certErr, keyErr, os.WriteFile(both, append(cert, key...), 0o600), os.WriteFile(file, []byte(config), 0o600))
	if err != nil {
		return g, err
	}
	command := strings.Fields(strings.ReplaceAll(strings.Join(t.command, " "), "FILE", file))
	p, err := w.start([]string{"HOME=" + w.dir}, command[0], command[1:]...)
	if err != nil {
		return g, err
	}
	g.processes = append(g.processes, p)
	g.url = "wss://127.0.0.1:" + port + "/ws/events"
	return g, p.await(ctx, func() bool { return listens(ctx, port) })
}

// measureFronts measures all ways in turn.
func measureFronts(ctx context.Context, w *world, f *figures) error {
	seen := make([]map[string][]float64, len(terminations))
	for round := range w.rounds(min(3, w.rowRounds)) {
		for i, t := range terminations {
			got, err := w.measureFront(ctx, t)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if seen[i] == nil {
				seen[i] = make(map[string][]float64)
			}
			for name, v := range got {
				seen[i][name] = append(seen[i][name], v)
			}
			w.say("round %d, %s: %s", round+1, t.name, inOrder(got))
		}
	}
	f.Fronts = nil
	for i, t := range terminations {
		s := seen[i]
		f.Fronts = append(f.Fronts, front{
			Name: t.name, FanOut: valueOf(s["fan-out"]), Single: valueOf(s["single"]), SingleP50: valueOf(s["p50"]), SingleP99: valueOf(s["p99"]),
			Arrival: valueOf(s["arrival"]), Memory: valueOf(s["memory"]),
		})
	}
	return nil
}

// measureFront is one round of one way.
func (w *world) measureFront(ctx context.Context, t termination) (map[string]float64, error) {
	g, err := w.front(ctx, t)
	if g != nil {
		defer g.stop()
	}
	if err != nil {
		return nil, err
	}
	measure := func(args string) (rep bench.Report, err error) {
		err = w.bench(ctx, g, &rep, strings.Fields(args)...)
		return rep, err
	}
	// Memory first: the processes keep what they had. The gateway gives back within 15 s what
	// handshakes no longer need.
	long := "17s"
	if w.quick {
		long = "2s"
	}
	idle, err := measure("--conns 2000 --orgs 10 --idle --parallel 16 --warmup 0s --duration " + long)
	if err != nil {
		return nil, err
	}
	fanOut, err := measure(w.timing() + " --conns 500 --rate 50")
	if err != nil {
		return nil, err
	}
	single, err := measure(w.timing() + " --conns 500 --in-flight 1")
	return map[string]float64{
		"fan-out": fanOut.ServerCPUPerMillion, "single": single.ServerCPUPerMillion,
		"p50": single.Latency.P50.Seconds() * 1e3, "p99": single.Latency.P99.Seconds() * 1e3,
		"arrival": idle.ServerCPUPerArrival, "memory": idle.RSSPerConn / 1024,
	}, err
}
