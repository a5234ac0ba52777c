package redisclient

import (
	"cmp"
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// clusterReload is how often a client asks the Cluster who has which slot. It also asks when it is
// sent elsewhere; but nobody sends it elsewhere from a master that crashed.
const clusterReload = time.Second

// clusterTimeout bounds that question, which is put to any member: one that hangs must not keep the
// others' answer away for longer than the failover takes. Commands have their own, shorter
// deadlines.
const clusterTimeout = 2 * time.Second

// newClusterClient makes the client of a Cluster with some of its members. Everything else is that
// of a single server's.
func newClusterClient(members []string, o *redis.Options) *redis.ClusterClient {
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: members, ClusterStateReloadInterval: clusterReload,
		MaxRedirects: 3, // else nothing works while a slot moves
		// Else the client asks for the list of all commands, which needs a separate right, to part
		// commands of many keys between members; nothing here has such.
		DisableRoutingPolicies: true,
		CredentialsProvider:    o.CredentialsProvider, Dialer: o.Dialer, TLSConfig: o.TLSConfig, Protocol: o.Protocol, ClientName: o.ClientName,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled, DialerRetries: o.DialerRetries,
		MaxRetries: o.MaxRetries, MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: cmp.Or(o.DialTimeout, clusterTimeout), ReadTimeout: cmp.Or(o.ReadTimeout, clusterTimeout), WriteTimeout: o.WriteTimeout,
		ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize,
		PipelineReadBufferSize: o.PipelineReadBufferSize, PipelineWriteBufferSize: o.PipelineWriteBufferSize,
		PoolFIFO: o.PoolFIFO, PoolSize: o.PoolSize, PoolTimeout: o.PoolTimeout,
		MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns, MaxActiveConns: o.MaxActiveConns,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
	})
	client.OnNewNode(func(member *redis.Client) { member.AddHook(onceDialler{}) })
	return client
}

// onceDialler has each command sent once. The client of a Cluster counts a lost answer among what
// it may try again, as often as it may be redirected, and cannot be told otherwise: an event that
// was published would be published again. So its connections hide from it what kind of failure they
// met. It still follows redirections and dials again: nothing had been done then.
type onceDialler struct{}

// DialHook implements [redis.Hook].
func (onceDialler) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := next(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if raw, ok := c.(syscall.Conn); ok {
			return onceSocket{onceConn{c}, raw}, nil
		}
		return onceConn{c}, nil
	}
}

// ProcessHook implements [redis.Hook].
func (onceDialler) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements [redis.Hook].
func (onceDialler) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// onceConn is a connection of [onceDialler].
type onceConn struct{ net.Conn }

// onceSocket is one that the client's pool can look at before it uses it again.
type onceSocket struct {
	onceConn
	syscall.Conn
}

func (c onceConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, anonymous(err)
}

func (c onceConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, anonymous(err)
}

// anonymous returns an error of which only the text is left.
func anonymous(err error) error {
	if err == nil {
		return nil
	}
	return errors.New("redis cluster: " + err.Error())
}
