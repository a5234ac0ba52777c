package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/sync/errgroup"

	"orgcast/internal/config"
	"orgcast/internal/demo"
)

const demoUsage = `
Try Orgcast: a page with two people of different organisations side by side, an embedded Redis, and
the real gateway between them. Signing in asks for no password, so never let others reach it.
`

// demoCommand runs the demo until ctx ends.
func demoCommand(ctx context.Context, p *process, args []string) error {
	s, set := new(settings), config.New("demo", demoUsage)
	var redisURL string
	set.String(&s.listen, "listen", "127.0.0.1:8080", "address of the page", checkAddress)
	set.URL(&redisURL, "redis", "", "a real Redis in place of the embedded one", func(string) error { return nil })
	if rest, err := p.parse(set, args); err != nil || len(rest) > 0 {
		return p.surplus(rest, err)
	}
	listener, err := listen(ctx, s.listen)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	hosts := []string{net.JoinHostPort(host, port), net.JoinHostPort("localhost", port)}
	if redisURL == "" {
		embedded, err := demo.StartRedis()
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		defer embedded.Close()
		redisURL = "redis://" + embedded.Addr() + "/0"
	}
	// All other settings are those of serve, with their defaults.
	full := config.New("serve", serveUsage)
	s.declareServe(full)
	_, err = full.Parse([]string{
		"--listen", s.listen, "--redis", redisURL, "--session-store", "redis", "--session-insecure", "--directory", "redis",
		"--origins", fmt.Sprintf("http://%s,http://%s,none", hosts[0], hosts[1]),
		"--log-level", "warn", "--log-format", "console", "--drain-wait", "0s", "--drain", "0s",
	}, func(string) string { return "" }, s.checkServe)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	log, err := newLogger(s, p.stderr)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	n, err := newNode(ctx, s, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	return p.runDemo(ctx, n, listener, hosts)
}

// runDemo serves the demo under the hosts given until ctx ends.
func (p *process) runDemo(ctx context.Context, n *node, listener net.Listener, hosts []string) error {
	n.start(ctx)
	handler, err := n.demoHandler(ctx)
	if err != nil {
		return errors.Join(err, listener.Close(), n.close())
	}
	server := newHTTPServer(onlyHosts(handler, hosts), n.log)
	servers, ctx := errgroup.WithContext(ctx)
	servers.Go(func() error { return served(server.Serve(listener)) })
	page := "http://" + hosts[0] + "/"
	_, _ = fmt.Fprintf(p.stdout, `
  Orgcast demo: two organisations in one window

    open      %s
    sign in   curl -c jar -d user=ada %sdemo/sign-in
    stop      Ctrl-C

`, page, page) // stdout may be closed
	<-ctx.Done()
	err = n.stop(server)
	return errors.Join(err, servers.Wait())
}

// onlyHosts refuses requests for any other host. Signing in asks for no password, so a page whose
// name was made to lead here (DNS rebinding) must not be taken for the demo's own.
func onlyHosts(next http.Handler, hosts []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := (&url.URL{Host: r.Host}).Hostname() // whatever the port: it may have been forwarded
		if !slices.ContainsFunc(hosts, func(h string) bool { return (&url.URL{Host: h}).Hostname() == name }) {
			http.Error(w, "the demo is at http://"+hosts[0]+"/", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// demoHandler fills Redis with the demo's people and returns its pages around the gateway.
func (n *node) demoHandler(ctx context.Context) (http.Handler, error) {
	if err := demo.Seed(ctx, n.redis, n.keys); err != nil {
		return nil, err
	}
	return demo.Handler(demo.Options{
		Gateway: n.gateway, CookieName: n.settings.sessionCookie, Sessions: n.resolver(), Membership: n.directory, Publisher: n.bus, Logger: n.log,
		Minter: n.sessions,
		Status: func() demo.Status {
			return demo.Status{Violations: n.gateway.Violations(), Connections: n.gateway.Connections()}
		},
	})
}
