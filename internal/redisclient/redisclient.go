// Package redisclient makes the clients of a Redis: of a single server, of the master that
// Sentinels watch, or of a Cluster. Its clients keep the deadlines of their callers, send nothing
// twice, show each new connection the current password, and explain what they are refused.
package redisclient

import (
	"cmp"
	"net"
	"runtime"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/rlimit"
)

// bufferSize is for commands and events of ordinary size; larger ones pass it by. The client's
// default, 32 KiB and 128 KiB for pipelines, twice for each connection to Redis, would be
// megabytes after a rush of handshakes: half a kilobyte for each of 10,000 browsers.
const bufferSize = 8 << 10

// perProcessor is how many connections a client opens at most to each server, per processor.
const perProcessor = 10

// fewFiles is the limit of open files below which a client opens fewer connections.
const fewFiles = 512

// MaxConnections is how many connections a client opens at most to each server, unless it is asked
// for more.
func MaxConnections() int { return perProcessor * runtime.GOMAXPROCS(0) }

// poolSize returns how many connections a client opens at most. The client's own choice depends on
// the processors alone; this also respects the limit of open files.
func poolSize() int {
	if f := rlimit.OpenFiles(); f > 0 && f < fewFiles {
		return min(MaxConnections(), max(f/16, 4))
	}
	return MaxConnections()
}

// Connector makes the clients of one Redis. All of them show and trust what the last reload said.
// It is safe for concurrent use.
type Connector struct {
	options Options
	access  *access
}

// NewConnector reads the files of certificates and returns a Connector. It does not wait for Redis.
func NewConnector(o Options) (*Connector, error) {
	parsed, err := o.parse()
	if err != nil {
		return nil, err
	}
	current, err := o.secrets()
	if err != nil {
		return nil, err
	}
	a := &access{name: o.Name, db: parsed.DB, timeout: cmp.Or(parsed.DialTimeout, dialTimeout), hasTLS: parsed.TLSConfig != nil, names: newNames(net.DefaultResolver)}
	a.current.Store(current)
	return &Connector{options: o, access: a}, nil
}

// PrepareReload reads the files of certificates of options that differ only in what files say, and
// returns what has new connections use them, and the passwords.
func (c *Connector) PrepareReload(next Options) (apply func(), err error) {
	fresh, err := next.secrets()
	if err != nil {
		return nil, err
	}
	return func() { c.access.current.Store(fresh) }, nil
}

// Connect makes a client; the caller closes it. One with Sentinels asks them for the master
// whenever it dials, and drops its connections to another one when they tell of a failover; one of
// a Cluster learns from its members who has which slot. The subscription connections, which clients
// do not manage, are given up by the bus. connections is the least size of its pool, of one for
// each member in a Cluster; 0 is the client's own choice.
func (c *Connector) Connect(connections int) (redis.UniversalClient, error) {
	r, access := c.options, c.access
	o, err := r.parse()
	if err != nil {
		return nil, err
	}
	// Each connection asks, so that a new one uses the current password.
	o.Username, o.Password, o.CredentialsProvider = "", "", access.credentials
	o.Dialer = access.dial
	o.ContextTimeoutEnabled = true // else a hung Redis holds a caller however short its deadline
	o.MaxRetries = -1              // a publication that is tried twice may arrive twice
	o.DialerRetries = 1            // who waits has a deadline, or tries again by itself
	o.ClientName = "orgcast"
	o.ReadBufferSize, o.WriteBufferSize = bufferSize, bufferSize
	o.PipelineReadBufferSize, o.PipelineWriteBufferSize = bufferSize, bufferSize
	if o.PoolSize == 0 {
		o.PoolSize = poolSize()
	}
	o.PoolSize = max(o.PoolSize, connections)
	switch {
	case len(r.Cluster) > 0:
		client := newClusterClient(r.Cluster, o)
		client.AddHook(access)
		return client, nil
	case len(r.Sentinels) == 0:
		client := redis.NewClient(o)
		client.AddHook(access)
		return client, nil
	}
	// Everything that a URL can set, except the address.
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: r.SentinelMaster, SentinelAddrs: r.Sentinels, Dialer: access.dialSentinels,
		CredentialsProvider: o.CredentialsProvider, DB: o.DB, TLSConfig: o.TLSConfig, Protocol: o.Protocol, ClientName: o.ClientName,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled, DialerRetries: o.DialerRetries,
		MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize,
		PipelineReadBufferSize: o.PipelineReadBufferSize, PipelineWriteBufferSize: o.PipelineWriteBufferSize,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout,
		// No connections in advance: they would be dialed before the hook can say that they are not
		// to a Sentinel.
		MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
	})
	client.AddHook(sentinelDialler{access})
	return client, nil
}
