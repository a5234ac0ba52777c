package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"orgcast/internal/event"
)

const (
	// connectTimeout bounds each trial of check --connect. It is longer than a dial, and than the
	// replacement of a master.
	connectTimeout = 5 * time.Second
	// connectPause is how often a trial checks whether a subscription works.
	connectPause = 20 * time.Millisecond
)

// trial tries one thing that the gateway needs from other programs.
type trial struct {
	name string
	try  func(ctx context.Context) error
	// note, if set, is shown instead of a result, and says why nothing is tried.
	note string
}

// quietRedis silences the client library's own log, because the trials report each error once.
var quietRedis = sync.OnceFunc(func() { redis.SetLogger(redisLog{zap.NewNop()}) }) //nolint:gochecknoglobals // as is the library's logger

// CheckConnections tries everything that a node with these options would ask of others, and writes
// the results.
func CheckConnections(ctx context.Context, o *Options, out io.Writer) error {
	quietRedis()
	last := &lastWarning{LevelEnabler: zapcore.WarnLevel, errors: make(map[string]error)}
	n, err := New(ctx, o, zap.New(last))
	if err != nil {
		return err
	}
	n.runEvents()
	n.background(n.control.Run)

	trials, err := n.trials(last)
	failed := 0
	for _, t := range trials {
		result := t.note
		if t.try != nil {
			result = "ok"
			bounded, cancel := context.WithTimeout(ctx, connectTimeout)
			if err := t.try(bounded); err != nil {
				result = err.Error()
				if !errors.Is(err, errCannotTell) {
					failed++
				}
			}
			cancel()
		}
		_, _ = fmt.Fprintf(out, "  %-17s %s\n", t.name, result) // best effort: the exit code reports failure too
	}
	if failed == 0 && err == nil && n.Options.secondServer() {
		_, _ = fmt.Fprint(out, n.Redis.compareServers(ctx))
	}
	if err = errors.Join(err, n.Close()); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("check --connect: %d of %d failed", failed, len(trials))
	}
	return nil
}

// trials lists the trials. Each works as the node does, with the same clients and permissions.
func (n *Node) trials(last *lastWarning) ([]trial, error) {
	o, a := n.Options, n.admission
	unknown, err := newStrangers(a.tries)
	if err != nil {
		return nil, err
	}
	nowhere, err := event.NewGroup(unknown.orgs[0], "nowhere")
	if err != nil {
		return nil, err
	}
	list := []trial{
		{name: "--redis", try: func(ctx context.Context) error { return ping(ctx, n.Redis.Events) }},
		{name: "subscriptions", try: func(ctx context.Context) error { return last.eventually(ctx, "pubsub", n.Bus.Healthy) }},
		{name: "control channel", try: func(ctx context.Context) error { return last.eventually(ctx, "lease.control", n.controlled) }},
		{name: "histories", try: func(ctx context.Context) error { _, err := n.Bus.History(ctx, nowhere, 1); return err }},
	}
	if n.Options.secondServer() {
		list = append(list, trial{name: "--redis-state", try: func(ctx context.Context) error { return ping(ctx, n.Redis.State) }})
	}
	if n.layer != nil {
		list = append(list, trial{name: "channel layer", try: func(ctx context.Context) error { return n.tryChannelLayer(ctx, last) }})
	}
	for i, kind := range o.SessionStores {
		sessions := trial{name: "session store", try: func(ctx context.Context) error { return askStore(ctx, a.sessions[i], unknown) }}
		if kind == StoreCookie || kind == StoreDjangoSigned {
			sessions = trial{name: sessions.name, note: "not needed: signed cookies"}
		}
		list = append(list, sessions)
	}
	members := trial{name: "directory", try: func(ctx context.Context) error { return a.askDirectory(ctx, unknown) }}
	if o.DirectoryKind() == DirectorySession {
		members = trial{name: members.name, note: "not needed: the session names the organization"}
	}
	hooks, err := n.hookTrials(unknown.orgs[0])
	if err != nil {
		return nil, err
	}
	list = append(list,
		trial{name: "revocations", try: func(ctx context.Context) error { return a.askRevocations(ctx, unknown) }}, members,
		trial{name: "quotas", try: func(ctx context.Context) error { return a.quota.Check(ctx, unknown.orgs) }},
	)
	if o.PublishKey != "" {
		list = append(list, trial{name: "publishing", try: func(ctx context.Context) error { return n.tryPublishing(ctx, nowhere) }})
	}
	needed, err := n.rightTrials(unknown.orgs[0])
	if err != nil {
		return nil, err
	}
	return append(append(list, needed...), hooks...), nil
}

// tryPublishing tries what POST /v1/publish does, without leaving anything: a publication that
// nobody hears, and an entry for a history that does not exist and is not created.
func (n *Node) tryPublishing(ctx context.Context, g event.Group) error {
	payload, err := event.WithOrganization(g.Organization(), []byte(`{"type":"check"}`))
	if err != nil {
		return err
	}
	err = n.Bus.Publish(ctx, g, payload)
	if err == nil {
		err = n.Redis.Events.XAdd(ctx, &redis.XAddArgs{Stream: n.Keys.History(g), NoMkStream: true, Values: []string{"e", ""}}).Err()
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("%w: with --publish-key, the Redis user needs the rights of a back end, too (deploy/README.md)", err)
	}
	return nil
}

func ping(ctx context.Context, client redis.UniversalClient) error { return client.Ping(ctx).Err() }

// controlled returns nil while the node listens to the control channel.
func (n *Node) controlled() error {
	if !n.control.Listening() {
		return errors.New("no connection")
	}
	return nil
}

// lastWarning is a log that keeps the error of each logger's last warning, because parts of a node
// that retry by themselves report errors only to the log. It is safe for concurrent use.
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

// eventually waits until healthy returns nil. If ctx ends first, the error includes the logger's
// last warning.
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
