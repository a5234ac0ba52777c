//go:build !nodemo

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/app"
	"orgcast/internal/cli"
	"orgcast/internal/config"
	"orgcast/internal/demo"
	"orgcast/internal/demo/crowd"
	"orgcast/internal/demo/jobs"
	"orgcast/internal/demo/outage"
	"orgcast/internal/directory"
	"orgcast/internal/journal"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/task"
)

const demoUsage = `
Try Orgcast: one page with two people of different organizations side by side, an embedded Redis, and
the real gateway between them. Anyone can sign in without a password, so never expose it to others.
`

// demoCommands returns the subcommand that only this build has.
func demoCommands() []cli.Command {
	return []cli.Command{{
		Name: "demo", Summary: "try it: two organizations in one browser window, nothing to install", Run: demoCommand,
		Stays: true, Logs: true, First: true,
	}}
}

// demoCommand runs the demo until ctx ends.
func demoCommand(ctx context.Context, p *cli.Process, args []string) error {
	set := config.New("demo", demoUsage)
	var listen, redisURL, stateURL string
	var pace time.Duration
	set.String(&listen, "listen", "127.0.0.1:8080", "address of the page", cli.CheckAddress)
	set.URL(&redisURL, "redis", "", "Redis server to use instead of the embedded one", func(string) error { return nil })
	set.URL(&stateURL, "redis-state", "", "a second Redis server for sessions, revocations, directory and quotas; requires --redis", func(string) error { return nil })
	set.Duration(&pace, "pace", 700*time.Millisecond, 0, "pause between the steps of a job, so that viewers can follow")
	lone := func() error {
		if stateURL != "" && redisURL == "" {
			return errors.New("--redis-state: requires --redis")
		}
		return nil
	}
	if err := p.ParseAlone(set, args, lone); err != nil {
		return err
	}
	listener, err := app.Listen(ctx, "--listen", listen)
	if err != nil {
		return err
	}
	out := journal.NewWriter(p.Stdout, 0) // a slow reader must not hold up the demo
	defer cli.CloseJournal(out)
	_, _ = fmt.Fprintf(out, "\n  Orgcast demo: starting at %s\n%s", listener.Addr(), exposure(listener.Addr())) // it never fails
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	hosts := []string{net.JoinHostPort(host, port), net.JoinHostPort("localhost", port)}
	var plug *outage.Plug // nil in front of a Redis of others, from which the demo must not be cut off
	if redisURL == "" {
		embedded, err := demo.StartRedis()
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		defer embedded.Close()
		if plug, err = outage.Open(embedded.Addr()); err != nil {
			return errors.Join(err, listener.Close())
		}
		defer plug.Close()
		redisURL = "redis://" + plug.Addr() + "/0"
	}
	// All other settings are those of serve, with their defaults.
	o, err := cli.ServeOptions([]string{
		"--listen", listen, "--redis", redisURL, "--redis-state", stateURL, "--session-store", "redis", "--session-insecure", "--directory", "redis",
		"--origins", fmt.Sprintf("http://%s,http://%s,none", hosts[0], hosts[1]),
		"--presence-policy", "room.*=users", "--log-level", "warn", "--log-format", "console", "--drain-wait", "0s", "--drain", "0s",
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	log, err := p.NewLogger(o)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	fold := new(outage.Fold)
	n, err := app.New(ctx, o, log.WithOptions(zap.WrapCore(fold.Core)))
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	return runDemo(ctx, &demoNode{Node: n, plug: plug, fold: fold}, listener, hosts, pace, out)
}

// exposure returns a warning if others can reach the address.
func exposure(addr net.Addr) string {
	host, port, _ := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return ""
	}
	return fmt.Sprintf(`
    WARNING   anyone who can reach %s can sign in as anyone, because the demo asks for no passwords.
              To keep it to this machine, use --listen 127.0.0.1:%s
`, addr, port)
}

// demoNode is a node that serves the demo.
type demoNode struct {
	*app.Node

	plug *outage.Plug // in front of the embedded Redis, nil without one
	fold *outage.Fold // around the log
}

// runDemo serves the demo under the hosts given until ctx ends.
func runDemo(ctx context.Context, n *demoNode, listener net.Listener, hosts []string, pace time.Duration, stdout io.Writer) error {
	n.Start()
	site := &url.URL{Scheme: "http", Host: hosts[0]}
	live, err := n.shows(site, stdout)
	if err != nil {
		return errors.Join(err, listener.Close(), n.Close())
	}
	handler, err := n.handler(ctx, site, live)
	if err != nil {
		return errors.Join(err, listener.Close(), n.Close())
	}
	worker, err := n.worker(site, pace)
	if err != nil {
		return errors.Join(err, listener.Close(), n.Close())
	}
	server := app.NewHTTPServer(onlyHosts(handler, hosts), n.Log)
	n.Serves(server)
	servers, ctx := errgroup.WithContext(ctx)
	servers.Go(func() error { return app.Served(server.Serve(listener)) })
	// The worker and the shows need Redis to the end, so it goes on until they have stopped.
	var work errgroup.Group
	work.Go(func() error { return worker.Run(ctx) })
	work.Go(func() error { return live.crowd.Run(ctx) })
	if live.outages != nil {
		work.Go(func() error { return live.outages.Run(ctx) })
	}
	page := "http://" + hosts[0] + "/"
	_, _ = fmt.Fprintf(stdout, `
  Orgcast demo: two organizations in one window

    open      %s
    sign in   curl -c jar -d user=ada %sdemo/sign-in
    stop      Ctrl-C

`, page, page) // it never fails
	<-ctx.Done()
	err = work.Wait()
	return errors.Join(err, n.Close(), servers.Wait())
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

// handler fills Redis with the demo's people and returns its pages around the gateway.
func (n *demoNode) handler(ctx context.Context, site *url.URL, live *shows) (http.Handler, error) {
	if err := demo.Seed(ctx, n.Redis.State, n.Keys); err != nil {
		return nil, err
	}
	dispatcher, err := task.NewDispatcher(n.Redis.Events, n.Keys, task.DispatcherOptions{
		Limit: func(context.Context, orgctx.ID) task.Limit {
			return task.Limit{Tasks: demoBacklog, Bytes: task.DefaultWaitingBytes}
		},
	})
	if err != nil {
		return nil, err
	}
	authority := &demo.Authority{Announcer: lease.NewAnnouncer(n.Redis.Events, n.Keys)}
	if authority.Members, err = directory.NewRedis(n.Redis.State, n.Keys); err != nil {
		return nil, err
	}
	authority.Sessions, _ = app.Store[*session.RedisStore](n.Sessions) // as runDemo's settings say
	options := demo.Options{
		Authority: authority, Crowd: live.crowd,
		Gateway: n.Gateway, CookieName: n.Options.SessionCookies[0], Sessions: n.Resolver(), Membership: n.Directory, Publisher: n.Bus, Log: n.Log,
		Minter: n.Sessions, Dispatcher: dispatcher, Pictures: pictures{n}, Site: site,
		Status: func() demo.Status {
			return demo.Status{Violations: n.Gateway.Violations(), Connections: n.Gateway.Connections()}
		},
	}
	if live.outages != nil {
		options.Outages = live.outages
	}
	return demo.Handler(options)
}

// shows are what the page can start by itself.
type shows struct {
	crowd   *crowd.Crowd
	outages *outage.Outages // nil without a plug
}

// shows returns what the page can start. The crowd connects as everyone else does, and both publish
// as back ends do.
func (n *demoNode) shows(site *url.URL, stdout io.Writer) (*shows, error) {
	members, err := directory.NewRedis(n.Redis.State, n.Keys)
	if err != nil {
		return nil, err
	}
	sessions, _ := app.Store[*session.RedisStore](n.Sessions) // as runDemo's settings say
	s := &shows{crowd: crowd.New(crowd.Options{Site: site, Sessions: sessions, Members: members, Publisher: n.Bus, Log: n.Log})}
	if n.plug != nil {
		s.outages = outage.New(outage.Options{Plug: n.plug, Recorder: n.Bus, Out: stdout, Fold: n.fold, Healthy: n.Bus.Healthy})
	}
	return s, nil
}

const (
	// demoBacklog is how many jobs of a kind an organization may have waiting: more than people start, less than
	// would fill the memory of an embedded Redis.
	demoBacklog = 1000
	// demoConcurrency is how many jobs of a kind run at a time; most of theirs is spent on pauses.
	demoConcurrency = 16
	// demoTimeout is longer than a crew waits for a person.
	demoTimeout = 15 * time.Minute
)

// worker returns the worker that does the demo's jobs in this process. Its client is one of its
// own: a worker waits on its connections.
func (n *demoNode) worker(site *url.URL, pace time.Duration) (*demoWork, error) {
	asks, err := task.NewAsks(n.Redis.Events, n.Keys)
	if err != nil {
		return nil, err
	}
	kinds, err := jobs.Kinds(jobs.Options{Site: site, Asks: asks, Pace: pace})
	if err != nil {
		return nil, err
	}
	client, err := n.Redis.ConnectEvents(len(kinds) * (demoConcurrency + 2))
	if err != nil {
		return nil, err
	}
	w, err := task.NewWorker(client, n.Keys, n.Directory, kinds, task.Options{
		Concurrency: demoConcurrency, Timeout: demoTimeout, Drain: time.Nanosecond, MaxEvent: n.Options.MaxEvent,
		Tools: task.NewTools(client, n.Keys, n.Directory, jobs.Tools()), Log: n.Log,
	})
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &demoWork{worker: w, client: client}, nil
}

// demoWork is a worker with the client that it alone uses.
type demoWork struct {
	worker *task.Worker
	client redis.UniversalClient
}

// Run works until ctx ends.
func (w *demoWork) Run(ctx context.Context) error {
	return errors.Join(w.worker.Run(ctx), w.client.Close())
}

// pictures keeps what people upload in their organization's store.
type pictures struct{ *demoNode }

// KeepPicture implements [demo.Pictures].
func (p pictures) KeepPicture(ctx context.Context, name string, data []byte) error {
	store, err := task.NewStore(ctx, p.Redis.Events, p.Keys)
	if err != nil {
		return err
	}
	return store.Set(ctx, jobs.StoredPicture(name), data, jobs.PictureLife)
}

// Picture implements [demo.Pictures].
func (p pictures) Picture(ctx context.Context, name string) ([]byte, error) {
	store, err := task.NewStore(ctx, p.Redis.Events, p.Keys)
	if err != nil {
		return nil, err
	}
	return jobs.Picture(ctx, store, name)
}
