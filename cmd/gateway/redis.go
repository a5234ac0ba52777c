package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"orgcast/internal/config"
	"orgcast/internal/keyspace"
)

func (s *settings) declareRedis(set *config.Set) {
	set.URL(&s.redisURL, "redis", "redis://127.0.0.1:6379/0", "Redis, as redis://USER:PASSWORD@HOST:PORT/DATABASE; rediss:// for TLS", func(text string) error {
		if _, err := redis.ParseURL(text); err != nil {
			return errors.New("is no Redis URL") // the text may hold a password
		}
		return nil
	})
	set.List(&s.cluster, "redis-cluster", "", "addresses of some members of a Redis Cluster, HOST:PORT, parted by commas; the others are learned from them, and everything but the address comes from --redis", checkAddresses)
	set.String(&s.sentinelMaster, "redis-sentinel-master", "", "name of the master that Sentinels watch; its address then comes from them, and everything else from --redis", nil)
	set.List(&s.sentinels, "redis-sentinels", "", "addresses of the Sentinels, HOST:PORT, parted by commas", checkAddresses)
	set.Secret(&s.sentinelPassword, "redis-sentinel-password", "password of the Sentinels themselves, if they ask for one; they are not told that of Redis", nil)
	set.String(&s.redisCA, "redis-tls-ca", "", "file with the certificates of whoever signed that of Redis; without it those of the system count", nil)
	set.String(&s.redisCert, "redis-tls-cert", "", "certificate file to show to a Redis that asks for one", nil)
	set.String(&s.redisKey, "redis-tls-key", "", "key file of that certificate", nil)
	set.String(&s.prefix, "prefix", keyspace.DefaultPrefix, "first part of every name in Redis", func(text string) error {
		_, err := keyspace.New(text)
		return err
	})
}

func checkAddresses(list []string) error {
	for _, address := range list {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			return fmt.Errorf("%q is not HOST:PORT", address)
		}
	}
	return nil
}

// checkRedis holds the settings of Redis against each other.
func (s *settings) checkRedis() error {
	o, err := redis.ParseURL(s.redisURL)
	plain := err == nil && o.TLSConfig == nil // a wrong URL is told by its own setting
	var errs []error
	wrong := func(is bool, text string) {
		if is {
			errs = append(errs, errors.New(text))
		}
	}
	wrong(plain && s.redisCA+s.redisCert+s.redisKey != "", "--redis-tls-ca, --redis-tls-cert and --redis-tls-key: are of no use unless --redis begins with rediss://")
	wrong((s.redisCert == "") != (s.redisKey == ""), "--redis-tls-cert and --redis-tls-key: one is of no use without the other")
	wrong((len(s.sentinels) == 0) != (s.sentinelMaster == ""), "--redis-sentinel-master and --redis-sentinels: one is of no use without the other")
	wrong(len(s.sentinels) == 0 && s.sentinelPassword != "", "--redis-sentinel-password: is of no use without --redis-sentinels")
	wrong(len(s.cluster) > 0 && len(s.sentinels) > 0, "--redis-cluster and --redis-sentinels: a Cluster has no Sentinels")
	wrong(len(s.cluster) > 0 && err == nil && o.DB != 0, "--redis: a Cluster has the database 0 alone")
	return errors.Join(append(errs, s.readRedisTLS(new(tls.Config)))...)
}

// redisBuffer is for commands and events of ordinary size; larger ones pass it by. The client's
// default, 32 KiB and 128 KiB for pipelines, twice for each connection to Redis, would be
// megabytes after a rush of handshakes: half a kilobyte for each of 10,000 browsers.
const redisBuffer = 8 << 10

// newRedis makes every client of the process. One with Sentinels asks them for the master whenever
// it dials, and drops its connections to another one when they tell of a failover; one of a Cluster
// learns from its members who has which slot. The subscription connections, which clients do not
// manage, are given up by the bus. connections is the least size of its pool, of one for each member
// in a Cluster; 0 is the client's own choice. The settings have been checked.
func (s *settings) newRedis(connections int) (redis.UniversalClient, error) {
	o, err := redis.ParseURL(s.redisURL)
	if err != nil {
		return nil, errors.New("--redis is no Redis URL") // the text may hold a password
	}
	if err := s.readRedisTLS(o.TLSConfig); err != nil {
		return nil, err
	}
	o.ContextTimeoutEnabled = true // else a hung Redis holds a caller however short its deadline
	o.MaxRetries = -1              // a publication that is tried twice may arrive twice
	o.DialerRetries = 1            // who waits has a deadline, or tries again by itself
	o.ClientName = "orgcast"
	o.ReadBufferSize, o.WriteBufferSize = redisBuffer, redisBuffer
	o.PipelineReadBufferSize, o.PipelineWriteBufferSize = redisBuffer, redisBuffer
	o.PoolSize = max(o.PoolSize, connections)
	switch {
	case len(s.cluster) > 0:
		return newClusterClient(s.cluster, o), nil
	case len(s.sentinels) == 0:
		return redis.NewClient(o), nil
	}
	// Everything that a URL can set, but for the address.
	return redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: s.sentinelMaster, SentinelAddrs: s.sentinels, SentinelPassword: s.sentinelPassword,
		Username: o.Username, Password: o.Password, DB: o.DB, TLSConfig: o.TLSConfig, Protocol: o.Protocol, ClientName: o.ClientName,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled, DialerRetries: o.DialerRetries,
		MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize,
		PipelineReadBufferSize: o.PipelineReadBufferSize, PipelineWriteBufferSize: o.PipelineWriteBufferSize,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout,
		MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
	}), nil
}

// readRedisTLS reads the files of certificates into the configuration, nil without TLS.
func (s *settings) readRedisTLS(c *tls.Config) error {
	if s.redisCA != "" {
		text, err := os.ReadFile(s.redisCA)
		if err != nil {
			return fmt.Errorf("--redis-tls-ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return errors.New("--redis-tls-ca: holds no certificate in PEM form")
		}
	}
	if s.redisCert != "" && s.redisKey != "" {
		own, err := tls.LoadX509KeyPair(s.redisCert, s.redisKey)
		if err != nil {
			return fmt.Errorf("--redis-tls-cert: %w", err)
		}
		c.Certificates = []tls.Certificate{own}
	}
	return nil
}

// redisLog takes what the client library says of its own accord, for the whole process.
type redisLog struct{ log *zap.Logger }

// logRedis puts it into the log, in the log's form. While Redis is away the library says the same again
// and again, with each dial, so each line passes once in a second.
func logRedis(log *zap.Logger) {
	once := zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Second, 1, 0)
	})
	redis.SetLogger(redisLog{log.Named("redis").WithOptions(once)})
}

// Printf implements the library's interface.
func (l redisLog) Printf(_ context.Context, format string, args ...any) {
	l.log.Info(fmt.Sprintf(format, args...))
}
