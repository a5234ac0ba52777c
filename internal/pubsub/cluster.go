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
	// surveyInterval is the pause between two questions who owns which slots, and surveyPause the
	// least one, when there is reason to ask at once.
	surveyInterval = time.Second
	surveyPause    = 50 * time.Millisecond
	// surveyTimeout is how long one member may take to answer. Another one is asked then.
	surveyTimeout  = 500 * time.Millisecond
	surveyAttempts = 3
)

var (
	errNoSlots = errors.New("pubsub: the server owns no slots")
	errNoOwner = errors.New("pubsub: slots without an owner")
)

// cluster is what a Redis Cluster adds: which of its masters owns which slot, and a link to each of
// them. The names of one organization are in one slot, so its events come on one link, in order.
//
// A slot may move to another master, by an operator's hand or because its master has failed. A
// master that loses a slot says so for each channel; a master that is gone says nothing, and its
// link breaks. Either way those subscriptions are off, and are made again where the slot is now;
// what was missed between is caught up with, as after any loss.
//
// A master that steps down says so likewise, and then serves subscriptions as a replica, to which
// the new master passes events on, but not from its first moment. So a server that has taken
// channels away has to say that it is a master before anything else that it brings counts.
type cluster struct {
	client  *redis.ClusterClient
	subs    *subscriptions
	linger  time.Duration // how long a link to a server lives that is no master any more
	log     *zap.Logger
	changed chan struct{} // capacity 1: asks for a survey at once
}

// look asks for a survey.
func (c *cluster) look() { signal(c.changed) }

// dial returns a client of one member, with the settings of the Cluster's, that has nothing but a
// link. The Cluster's own would lead a link to whichever member it believes to own a slot.
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

// read asks a member of the Cluster for the owners of slots, and if it does not answer another.
func (c *cluster) read(ctx context.Context) (owners []string, err error) {
	for range surveyAttempts {
		var ranges []redis.ClusterSlot
		asking, cancel := context.WithTimeout(ctx, surveyTimeout)
		ranges, err = c.client.ClusterSlots(asking).Result() //nolint:staticcheck // CLUSTER SHARDS does not say which port is for us
		cancel()
		if err != nil || len(ranges) == 0 {
			continue // a member that has just come back knows of none
		}
		owners = make([]string, keyspace.Slots)
		for _, r := range ranges {
			if len(r.Nodes) == 0 || strings.HasPrefix(r.Nodes[0].Addr, ":") {
				continue // it does not know that server's address itself
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
		absent time.Time // since when it has been no master, zero while it is one
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
				link.absent = time.Now() // a member that was away for a while may tell old news
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
