package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"orgcast/internal/config"
	"orgcast/internal/journal"
	"orgcast/internal/keyspace"
	"orgcast/internal/subconn"
)

// redisSettings say how to reach one Redis: a server, the master that Sentinels watch, or a Cluster. They
// are declared in one place and used twice, for --redis and --redis-state, with different prefixes.
type redisSettings struct {
	name string // of the setting with the URL; the names of the others begin with it

	url, password                                  string
	cluster, sentinels                             []string
	sentinelMaster, sentinelUser, sentinelPassword string
	ca, cert, key                                  string

	access *redisAccess // shared by all clients, made with the first one
}

// declareRedis declares how to reach Redis.
func (s *settings) declareRedis(set *config.Set) {
	s.redis.declare(set, "redis", "redis://127.0.0.1:6379/0", "Redis URL, redis://USER:PASSWORD@HOST:PORT/DATABASE, with the password percent-encoded; rediss:// for TLS")
	s.onReload(func(next *settings) (func(), error) { return s.redis.reload(&next.redis) })
	set.String(&s.prefix, "prefix", keyspace.DefaultPrefix, "first part of every name in Redis", func(text string) error {
		_, err := keyspace.New(text)
		return err
	})
}

// declareState declares the server of sessions, revocations, directory and quotas, for subcommands that
// use it.
func (s *settings) declareState(set *config.Set) {
	s.state.declare(set, "redis-state", "", "a second Redis server for sessions, revocations, directory and quotas, so that they keep working when events fill --redis; default: --redis")
	s.onReload(func(next *settings) (func(), error) { return s.state.reload(&next.state) })
}

// declare declares the settings of one Redis.
func (r *redisSettings) declare(set *config.Set, name, fallback, help string) {
	r.name = name
	set.URL(&r.url, name, fallback, help, func(text string) error {
		if text == "" && fallback == "" {
			return nil
		}
		_, err := parseRedisURL(name, text)
		return err
	})
	set.Secret(&r.password, name+"-password", "Redis password, not percent-encoded; use it instead of a password in --"+name, nil)
	set.List(&r.cluster, name+"-cluster", "", "seed nodes of a Redis Cluster, HOST:PORT, comma-separated; the rest are discovered. Credentials and TLS come from --"+name, checkAddresses)
	set.String(&r.sentinelMaster, name+"-sentinel-master", "", "name of the master that the Sentinels watch. They provide its address; everything else comes from --"+name, nil)
	set.List(&r.sentinels, name+"-sentinels", "", "addresses of the Sentinels, HOST:PORT, comma-separated", checkAddresses)
	set.String(&r.sentinelUser, name+"-sentinel-user", "", "user name for the Sentinels; default: their default user", nil)
	set.Secret(&r.sentinelPassword, name+"-sentinel-password", "password for the Sentinels themselves, if they require one; the Redis password is never sent to them", nil)
	set.String(&r.ca, name+"-tls-ca", "", "CA certificates (PEM) used to verify Redis; default: the system pool", nil)
	set.String(&r.cert, name+"-tls-cert", "", "client certificate file, for a Redis that requires one", nil)
	set.String(&r.key, name+"-tls-key", "", "key file of the client certificate", nil)
}

func checkAddresses(list []string) error {
	for _, address := range list {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			return fmt.Errorf("%q is not HOST:PORT", address)
		}
	}
	return nil
}

// checkRedis checks the settings of each Redis against each other.
func (s *settings) checkRedis() error {
	return errors.Join(s.redis.check(), s.state.check())
}

func (r *redisSettings) check() error {
	if r.name == "" {
		return nil // the subcommand does not use it
	}
	var errs []error
	wrong := func(is bool, format string) {
		if is {
			errs = append(errs, errors.New(strings.ReplaceAll(format, "--redis", "--"+r.name)))
		}
	}
	if r.url == "" {
		wrong(r.password+r.sentinelMaster+r.sentinelUser+r.sentinelPassword+r.ca+r.cert+r.key != "" || len(r.cluster)+len(r.sentinels) > 0,
			"--redis: must be set if another setting that begins with --redis- is set")
		return errors.Join(errs...)
	}
	o, err := parseRedisURL(r.name, r.url)
	plain := err == nil && o.TLSConfig == nil // the URL's own check reports a wrong URL
	wrong(plain && r.ca+r.cert+r.key != "", "--redis-tls-ca, --redis-tls-cert and --redis-tls-key: require a rediss:// URL in --redis")
	wrong((r.cert == "") != (r.key == ""), "--redis-tls-cert and --redis-tls-key: must be set together")
	wrong((len(r.sentinels) == 0) != (r.sentinelMaster == ""), "--redis-sentinel-master and --redis-sentinels: must be set together")
	wrong(len(r.sentinels) == 0 && r.sentinelPassword != "", "--redis-sentinel-password: requires --redis-sentinels")
	wrong(r.sentinelPassword == "" && r.sentinelUser != "", "--redis-sentinel-user: requires --redis-sentinel-password")
	wrong(err == nil && o.Password != "" && r.password != "", "--redis-password: the URL in --redis also has a password (remove one of them)")
	wrong(len(r.cluster) > 0 && len(r.sentinels) > 0, "--redis-cluster and --redis-sentinels: a Cluster has no Sentinels (set only one of them)")
	wrong(len(r.cluster) > 0 && err == nil && o.DB != 0, "--redis: a Cluster has only database 0 (remove the number from the URL)")
	wrong(r.name == "redis" && err == nil && o.Protocol == 2, "--redis: protocol=2 is not supported, because subscriptions need RESP3 (remove it)")
	return errors.Join(append(errs, r.readTLS(new(tls.Config)))...)
}

// keyspace returns the names in Redis, with channel names for the database of --redis.
func (s *settings) keyspace() (keyspace.Keyspace, error) {
	keys, err := keyspace.New(s.prefix)
	if err != nil {
		return keyspace.Keyspace{}, err
	}
	o, err := s.redis.parse()
	if err != nil {
		return keyspace.Keyspace{}, err
	}
	return keys.InDatabase(o.DB), nil
}

// stateSettings returns the settings of the server with sessions, revocations, directory and quotas.
func (s *settings) stateSettings() *redisSettings {
	if s.state.url != "" {
		return &s.state
	}
	return &s.redis
}

// redisClients are the two clients of a process: the same one twice unless --redis-state is set.
type redisClients struct {
	// events is for events, histories, tasks and the control channel.
	events redis.UniversalClient
	// state is for sessions, revocations, directory and quotas.
	state redis.UniversalClient
}

// connect makes the clients. connections applies to the events client, as in [redisSettings.connect].
func (s *settings) connect(connections int) (redisClients, error) {
	events, err := s.redis.connect(connections)
	if err != nil {
		return redisClients{}, err
	}
	if s.stateSettings() == &s.redis {
		return redisClients{events: events, state: events}, nil
	}
	state, err := s.state.connect(0)
	if err != nil {
		return redisClients{}, errors.Join(err, events.Close())
	}
	follow(state)
	return redisClients{events: events, state: state}, nil
}

// follow makes a client without subscriptions notice that its server was replaced. One of a Cluster learns that
// from its members.
func follow(client redis.UniversalClient) {
	if single, ok := client.(*redis.Client); ok {
		subconn.Follow(single)
	}
}

// Close closes both.
func (c redisClients) Close() error {
	if c.state == c.events {
		return c.events.Close()
	}
	return errors.Join(c.events.Close(), c.state.Close())
}

// redisBuffer is for commands and events of ordinary size; larger ones pass it by. The client's
// default, 32 KiB and 128 KiB for pipelines, twice for each connection to Redis, would be
// megabytes after a rush of handshakes: half a kilobyte for each of 10,000 browsers.
const redisBuffer = 8 << 10

// connect makes every client of the process. One with Sentinels asks them for the master whenever
// it dials, and drops its connections to another one when they tell of a failover; one of a Cluster
// learns from its members who has which slot. The subscription connections, which clients do not
// manage, are given up by the bus. connections is the least size of its pool, of one for each member
// in a Cluster; 0 is the client's own choice. The settings have been checked.
func (r *redisSettings) connect(connections int) (redis.UniversalClient, error) {
	o, err := r.parse()
	if err != nil {
		return nil, err
	}
	if r.access == nil {
		secrets, err := r.secrets()
		if err != nil {
			return nil, err
		}
		r.access = &redisAccess{name: r.name, db: o.DB, timeout: cmp.Or(o.DialTimeout, dialTimeout), hasTLS: o.TLSConfig != nil}
		r.access.current.Store(secrets)
	}
	access := r.access
	// Each connection asks, so that a new one uses the current password.
	o.Username, o.Password, o.CredentialsProvider = "", "", access.credentials
	o.Dialer = access.dial
	o.ContextTimeoutEnabled = true // else a hung Redis holds a caller however short its deadline
	o.MaxRetries = -1              // a publication that is tried twice may arrive twice
	o.DialerRetries = 1            // who waits has a deadline, or tries again by itself
	o.ClientName = "orgcast"
	o.ReadBufferSize, o.WriteBufferSize = redisBuffer, redisBuffer
	o.PipelineReadBufferSize, o.PipelineWriteBufferSize = redisBuffer, redisBuffer
	if o.PoolSize == 0 {
		o.PoolSize = redisPool()
	}
	o.PoolSize = max(o.PoolSize, connections)
	switch {
	case len(r.cluster) > 0:
		client := newClusterClient(r.cluster, o)
		client.AddHook(access)
		return client, nil
	case len(r.sentinels) == 0:
		client := redis.NewClient(o)
		client.AddHook(access)
		return client, nil
	}
	// Everything that a URL can set, but for the address.
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: r.sentinelMaster, SentinelAddrs: r.sentinels, Dialer: access.dialSentinels,
		CredentialsProvider: o.CredentialsProvider, DB: o.DB, TLSConfig: o.TLSConfig, Protocol: o.Protocol, ClientName: o.ClientName,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled, DialerRetries: o.DialerRetries,
		MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize,
		PipelineReadBufferSize: o.PipelineReadBufferSize, PipelineWriteBufferSize: o.PipelineWriteBufferSize,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout,
		// No connections in advance: they would be dialed before the hook can say that they are not to
		// a Sentinel.
		MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
	})
	client.AddHook(sentinelDialler{access})
	return client, nil
}

// secrets returns the credentials of connections and the certificates that they trust.
func (r *redisSettings) secrets() (*redisSecrets, error) {
	o, err := r.parse()
	if err != nil {
		return nil, err
	}
	if err := r.readTLS(o.TLSConfig); err != nil {
		return nil, err
	}
	return &redisSecrets{
		user: o.Username, password: cmp.Or(r.password, o.Password),
		sentinelUser: r.sentinelUser, sentinelPassword: r.sentinelPassword, tls: o.TLSConfig,
	}, nil
}

// reload prepares the clients for settings whose files were read again.
func (r *redisSettings) reload(next *redisSettings) (apply func(), err error) {
	if r.access == nil {
		return nil, nil //nolint:nilnil // nothing to apply
	}
	secrets, err := next.secrets()
	if err != nil {
		return nil, err
	}
	return func() { r.access.current.Store(secrets) }, nil
}

// parse parses the URL.
func (r *redisSettings) parse() (*redis.Options, error) {
	o, err := parseRedisURL(r.name, r.url)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", r.name, err)
	}
	return o, nil
}

// parseRedisURL reads the URL in a setting. Errors do not show it: it may hold a password, and where that
// begins and ends is the question if it was not encoded.
func parseRedisURL(name, text string) (*redis.Options, error) {
	u, err := url.Parse(text)
	// With # or / or ? in the password the rest of it, and the host, seem to be of another part.
	stray := err == nil && u.Scheme != "unix" && (u.Fragment != "" || strings.Contains(u.Path+u.RawQuery, "@"))
	if stray || err != nil && strings.Contains(text, "@") {
		return nil, fmt.Errorf("is not a valid Redis URL: percent-encode the password's special characters (# is %%23, / is %%2F, %% is %%25, ^ is %%5E, ? is %%3F), or put it unencoded into a file and set --%s-password-file", name)
	}
	o, err := redis.ParseURL(text)
	switch {
	case err != nil && strings.Contains(err.Error(), "invalid database number"):
		return nil, errors.New("is not a valid Redis URL: the database must be a number")
	case err != nil:
		return nil, errors.New("is not a valid Redis URL, such as redis://USER:PASSWORD@HOST:PORT/DATABASE")
	case o.DB < 0:
		return nil, errors.New("is not a valid Redis URL: the database must be at least 0")
	}
	return o, nil
}

// readTLS reads the files of certificates into the configuration, nil without TLS.
func (r *redisSettings) readTLS(c *tls.Config) error {
	if r.ca != "" {
		text, err := os.ReadFile(r.ca)
		if err != nil {
			return fmt.Errorf("--%s-tls-ca: %w", r.name, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("--%s-tls-ca: holds no PEM certificate", r.name)
		}
	}
	if r.cert != "" && r.key != "" {
		own, err := tls.LoadX509KeyPair(r.cert, r.key)
		if err != nil {
			return fmt.Errorf("--%s-tls-cert: %w", r.name, err)
		}
		c.Certificates = []tls.Certificate{own}
	}
	return nil
}

// redisLog takes what the client library says of its own accord, for the whole process.
type redisLog struct{ log *zap.Logger }

// logRedis puts it into the log, in the log's form. While Redis is away the library says the same again
// and again, with each dial, so each line passes once in a second.
func logRedis(log *zap.Logger, w *journal.Writer) {
	once := zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Second, 1, 0, zapcore.SamplerHook(func(_ zapcore.Entry, d zapcore.SamplingDecision) {
			if d&zapcore.LogDropped != 0 {
				w.CountSampled()
			}
		}))
	})
	redis.SetLogger(redisLog{log.Named("redis").WithOptions(journal.FreeText(), once)})
}

// Printf implements the library's interface.
func (l redisLog) Printf(_ context.Context, format string, args ...any) {
	l.log.Info(fmt.Sprintf(format, args...))
}
