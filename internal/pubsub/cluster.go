package pubsub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/loglimit"
)

const (
	// surveyInterval is the pause between surveys of who owns which slots. surveyPause is the
	// shortest pause, after a survey was requested.
	surveyInterval = time.Second
	surveyPause    = 50 * time.Millisecond
	// surveyTimeout is how long one server may take to answer. Then another one is asked.
	surveyTimeout  = 500 * time.Millisecond
	surveyAttempts = 3
)

var (
	errNoSlots = errors.New("pubsub: the server owns no slots")
	errNoOwner = errors.New("pubsub: slots without an owner")
)

// cluster is what a Redis Cluster adds: a map of the slots' masters, and a link to each master. All
// names of an organization are in one slot, so its events come on one link, in order.
//
// A slot may move to another master because an operator moves it or its master fails. A master that
// loses a slot says so for each channel. A failed master says nothing, but its link breaks. Either
// way, the subscriptions are off and are made again where the slot is now. Events missed in between
// are caught up with, as after any loss.
//
// A master that becomes a replica also says so for each channel. It then serves subscriptions as a
// replica, which gets events from the new master, but not from the first moment on. So after a
// server has taken channels away, it must prove that it is a master before anything else from it
// counts.
type cluster struct {
	client  *redis.ClusterClient
	subs    *subscriptions
	linger  time.Duration // how long to keep a link to a server that is no longer a master
	log     *zap.Logger
	changed chan struct{} // capacity 1: requests a survey at once
}

// look requests a survey.
func (c *cluster) look() { signal(c.changed) }

// dial returns a client of one server, with the settings of the Cluster's client. Only a link uses
// it. The Cluster's client would choose the server itself, by what it believes about slots.
func (c *cluster) dial(server string) *redis.Client {
	o := c.client.Options()
	options := &redis.Options{
		Addr: server, ClientName: o.ClientName, Dialer: o.Dialer, OnConnect: o.OnConnect, Protocol: o.Protocol,
		Username: o.Username, Password: o.Password, CredentialsProvider: o.CredentialsProvider,
		CredentialsProviderContext: o.CredentialsProviderContext, StreamingCredentialsProvider: o.StreamingCredentialsProvider,
		MaxRetries: -1, DialTimeout: o.DialTimeout, DialerRetries: o.DialerRetries, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		ContextTimeoutEnabled: o.ContextTimeoutEnabled, PoolSize: 1, ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize,
		DisableIdentity: o.DisableIdentity, IdentitySuffix: o.IdentitySuffix, TLSConfig: o.TLSConfig,
	}
	return redis.NewClient(options)
}

// read asks a server of the Cluster for the owners of slots. If it does not answer, read asks
// another.
func (c *cluster) read(ctx context.Context) (owners []string, err error) {
	for range surveyAttempts {
		var ranges []redis.ClusterSlot
		asking, cancel := context.WithTimeout(ctx, surveyTimeout)
		ranges, err = c.client.ClusterSlots(asking).Result() //nolint:staticcheck // CLUSTER SHARDS does not say which port is for us
		cancel()
		if err != nil || len(ranges) == 0 {
			continue // a server that has just come back knows no slots
		}
		owners = make([]string, keyspace.Slots)
		for _, r := range ranges {
			if len(r.Nodes) == 0 || strings.HasPrefix(r.Nodes[0].Addr, ":") {
				continue // the server does not know this owner's address
			}
			for slot := max(r.Start, 0); slot <= min(r.End, len(owners)-1); slot++ {
				owners[slot] = r.Nodes[0].Addr
			}
		}
		return owners, nil
	}
	return nil, fmt.Errorf("slots of the cluster: %w", cmp.Or(err, errNoOwner))
}

// run keeps a link to every master until ctx ends.
func (c *cluster) run(ctx context.Context, keep func(ctx context.Context, server string)) {
	type running struct {
		end    context.CancelFunc
		absent time.Time // since when it has not been a master, zero if it is one
	}
	links := make(map[string]*running)
	var wg sync.WaitGroup
	defer wg.Wait()
	var trouble loglimit.Limiter
	for ctx.Err() == nil {
		owners, err := c.read(ctx)
		if err != nil && ctx.Err() == nil {
			if suppressed, ok := trouble.Allow(time.Now()); ok {
				c.log.Warn("cluster topology refresh failed", zap.Error(err), zap.Int("suppressed", suppressed))
			}
		}
		masters := c.subs.surveyed(owners)
		for _, server := range masters {
			if links[server] == nil {
				linked, end := context.WithCancel(ctx)
				links[server] = &running{end: end}
				wg.Go(func() { keep(linked, server) })
			}
		}
		for server, link := range links {
			switch absent := !slices.Contains(masters, server); {
			case !absent:
				link.absent = time.Time{}
			case link.absent.IsZero():
				link.absent = time.Now() // a server that was down may report old masters
			case time.Since(link.absent) > c.linger:
				link.end()
				delete(links, server)
			}
		}
		select {
		case <-time.After(surveyInterval):
		case <-c.changed:
			select {
			case <-time.After(surveyPause):
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
	}
	for _, link := range links {
		link.end()
	}
}
