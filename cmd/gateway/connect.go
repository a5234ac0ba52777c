package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/event"
)

const (
	// connectTimeout bounds each part of check --connect: longer than a dial, or a master that is being replaced.
	connectTimeout = 5 * time.Second
	// connectPause is how often it looks whether a subscription is there.
	connectPause = 20 * time.Millisecond
)

// trial is one thing that the gateway needs from others.
type trial struct {
	name string
	try  func(ctx context.Context) error
	// note says in place of a result why nothing is tried.
	note string
}

// quietRedis silences what the client library says by itself: the trials report each error once.
var quietRedis = sync.OnceFunc(func() { redis.SetLogger(redisLog{zap.NewNop()}) }) //nolint:gochecknoglobals // as is the library's logger

// checkConnections tries everything that a node of these settings would ask, and prints what comes of it.
func (p *process) checkConnections(ctx context.Context, s *settings) error {
	quietRedis()
	last := &lastWarning{LevelEnabler: zapcore.WarnLevel, errors: make(map[string]error)}
	n, err := newNode(ctx, s, zap.New(last))
	if err != nil {
		return err
	}
	listening, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.stopBus, n.running = stop, new(errgroup.Group)
	n.running.Go(func() error { return n.bus.Run(listening, n.hub) })
	n.running.Go(func() error { return n.control.Run(listening) })

	trials, err := n.trials(last)
	failed := 0
	for _, t := range trials {
		result := t.note
		if t.try != nil {
			result = "ok"
			bounded, cancel := context.WithTimeout(ctx, connectTimeout)
			if err := t.try(bounded); err != nil {
				failed++
				result = err.Error()
			}
			cancel()
		}
		_, _ = fmt.Fprintf(p.stdout, "  %-16s %s\n", t.name, result) // best effort: the exit code tells it too
	}
	if failed == 0 && err == nil && s.state.url != "" {
		_, _ = fmt.Fprint(p.stdout, n.redis.compareServers(ctx))
	}
	if err = errors.Join(err, n.close()); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("check --connect: %d of %d did not answer", failed, len(trials))
	}
	return nil
}

// trials lists what is tried, each as the node does it, with its clients and rights.
func (n *node) trials(last *lastWarning) ([]trial, error) {
	s, a := n.settings, n.admission
	unknown, err := newStrangers(a.tries)
	if err != nil {
		return nil, err
	}
	nowhere, err := event.NewGroup(unknown.orgs[0], "nowhere")
	if err != nil {
		return nil, err
	}
	list := []trial{
		{name: "--redis", try: func(ctx context.Context) error { return ping(ctx, n.redis.events) }},
		{name: "subscriptions", try: func(ctx context.Context) error { return last.eventually(ctx, "pubsub", n.bus.Healthy) }},
		{name: "control channel", try: func(ctx context.Context) error { return last.eventually(ctx, "lease.control", n.controlled) }},
		{name: "histories", try: func(ctx context.Context) error { _, err := n.bus.History(ctx, nowhere, 1); return err }},
	}
	if s.state.url != "" {
		list = append(list, trial{name: "--redis-state", try: func(ctx context.Context) error { return ping(ctx, n.redis.state) }})
	}
	sessions := trial{name: "session store", try: func(ctx context.Context) error { return a.askSessions(ctx, unknown) }}
	if s.sessionStore == "cookie" {
		sessions = trial{name: sessions.name, note: "not needed: signed cookies"}
	}
	members := trial{name: "directory", try: func(ctx context.Context) error { return a.askDirectory(ctx, unknown) }}
	if s.directory == "session" {
		members = trial{name: members.name, note: "not needed: the session names the organization"}
	}
	return append(list, sessions,
		trial{name: "revocations", try: func(ctx context.Context) error { return a.askRevocations(ctx, unknown) }}, members,
		trial{name: "quotas", try: func(ctx context.Context) error { return a.quota.Check(ctx, unknown.orgs) }},
	), nil
}

func ping(ctx context.Context, client redis.UniversalClient) error { return client.Ping(ctx).Err() }

// controlled returns nil while the node hears the control channel.
func (n *node) controlled() error {
	if !n.control.Listening() {
		return errors.New("no connection")
	}
	return nil
}

// lastWarning is a log that keeps the error of the last warning of each logger: the parts of a node that try
// again by themselves tell nobody else what is wrong. It is safe for concurrent use.
type lastWarning struct {
	zapcore.LevelEnabler

	mu     sync.Mutex
	errors map[string]error // by the name of the logger
}

var _ zapcore.Core = (*lastWarning)(nil)

// With implements [zapcore.Core]. Fields bound to a logger are not needed.
func (l *lastWarning) With([]zapcore.Field) zapcore.Core { return l }

// Check implements [zapcore.Core].
func (l *lastWarning) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if l.Enabled(e.Level) {
		return checked.AddCore(e, l)
	}
	return checked
}

// Write implements [zapcore.Core].
func (l *lastWarning) Write(e zapcore.Entry, fields []zapcore.Field) error {
	for i := range fields {
		if err, ok := fields[i].Interface.(error); ok {
			l.mu.Lock()
			l.errors[e.LoggerName] = err
			l.mu.Unlock()
		}
	}
	return nil
}

// Sync implements [zapcore.Core].
func (*lastWarning) Sync() error { return nil }

// eventually waits until healthy returns nil. If ctx ends first, the error says what the logger has said last.
func (l *lastWarning) eventually(ctx context.Context, logger string, healthy func() error) error {
	tick := time.NewTicker(connectPause)
	defer tick.Stop()
	for {
		err := healthy()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			if why := l.errors[logger]; why != nil {
				return fmt.Errorf("%w: %w", err, why)
			}
			return err
		}
	}
}
