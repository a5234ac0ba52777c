package pubsub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"orgcast/internal/keyspace"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

const (
	// surveyInterval is the pause between two questions who owns which slots, and surveyPause the least
	// one, when there is reason to ask at once.
	surveyInterval = time.Second
	surveyPause    = 50 * time.Millisecond
	// surveyTimeout is how long one member may take to answer. Another one is asked then.
	surveyTimeout  = 500 * time.Millisecond
	surveyAttempts = 3
	// canaryTags is how many names are tried to find one in the slots of a given server. With a single
	// slot of its own, one in 16,384 fits.
	canaryTags = 20 * keyspace.Slots
)

var (
	errNoSlots = errors.New("pubsub: the server owns no slots")
	errNoOwner = errors.New("pubsub: slots without an owner")
)

// shards is what a Redis Cluster adds: which of its masters owns which slot, and a link to each of
// them. The names of one organization are in one slot, so its events come on one link, in order.
//
// A slot may move to another master, by an operator's hand or because its master has failed. A master
// that loses a slot says so for each channel; a master that is gone says nothing, and its link breaks. Either
// way those subscriptions are off, and are made anew where the slot is now; what was missed between is caught up
// with, as after any loss.
//
// A master that steps down says so likewise, and then serves subscriptions as a replica, to which the new
// master passes events on, but not from its first moment. So whoever has taken channels away has to say
// that it is a master before anything else that it brings counts.
type shards struct {
	cluster *redis.ClusterClient
	changed chan struct{} // capacity 1: asks for a survey at once

	// Guarded by Redis.mu.
	owners []string // addresses of masters, by slot; "" where none is known
	// strays says that subscriptions wait for the next survey: their server refused them, and nobody said
	// who has them.
	strays bool
}

func newShards(cluster *redis.ClusterClient) *shards {
	return &shards{cluster: cluster, changed: make(chan struct{}, 1), owners: make([]string, keyspace.Slots)}
}

// look asks for a survey.
func (s *shards) look() {
	select {
	case s.changed <- struct{}{}:
	default: // it is asked for
	}
}

// dial returns a client of one member, with the settings of the Cluster's, that has nothing but a link.
// The Cluster's own would lead a link to whichever member it believes to own a slot.
func (s *shards) dial(server string) *redis.Client {
	o := s.cluster.Options()
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

// canary chooses another channel for a link's canaries, in a slot of its server. It reports false if that
// has none. Redis.mu is held.
func (s *shards) canary(l *link, keys keyspace.Keyspace, node string) bool {
	if !slices.Contains(s.owners, l.server) {
		return false
	}
	start := mathrand.Uint32() //nolint:gosec // a slot is no secret
	for n := range uint32(canaryTags) {
		channel := keys.CanaryIn(strconv.FormatUint(uint64(start+n), 36), node)
		if channel != l.canary && s.owners[keyspace.Slot(channel)] == l.server {
			l.canary = channel
			return true
		}
	}
	return false
}

// masters returns who owns slots. err says that some have no owner. Redis.mu is held.
func (s *shards) masters() (list []string, err error) {
	last := ""
	for _, owner := range s.owners {
		switch {
		case owner == "":
			err = errNoOwner
		case owner != last && !slices.Contains(list, owner):
			list = append(list, owner)
		}
		last = owner
	}
	return list, err
}

// read asks a member of the Cluster, and if it does not answer another.
func (s *shards) read(ctx context.Context) (owners []string, err error) {
	for range surveyAttempts {
		var ranges []redis.ClusterSlot
		asking, cancel := context.WithTimeout(ctx, surveyTimeout)
		ranges, err = s.cluster.ClusterSlots(asking).Result() //nolint:staticcheck // CLUSTER SHARDS does not say which port is for us
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

// runShards keeps a link to every master until ctx ends.
func (r *Redis) runShards(ctx context.Context, sink Sink) {
	type running struct {
		end    context.CancelFunc
		absent time.Time // since when it has been no master, zero while it is one
	}
	links := make(map[string]*running)
	var wg sync.WaitGroup
	defer wg.Wait()
	trouble := logLimiter{interval: logInterval}
	for ctx.Err() == nil {
		if err := r.survey(ctx); err != nil && ctx.Err() == nil {
			if suppressed, ok := trouble.allow(time.Now()); ok {
				r.log.Warn("cluster topology refresh failed", zap.Error(err), zap.Int("suppressed", suppressed))
			}
		}
		r.mu.Lock()
		masters, _ := r.shards.masters()
		r.mu.Unlock()
		for _, server := range masters {
			if links[server] == nil {
				linked, end := context.WithCancel(ctx)
				links[server] = &running{end: end}
				wg.Go(func() { r.keepLink(linked, server, sink) })
			}
		}
		for server, link := range links {
			switch absent := !slices.Contains(masters, server); {
			case !absent:
				link.absent = time.Time{}
			case link.absent.IsZero():
				link.absent = time.Now() // a member that was away for a while may tell old news
			case time.Since(link.absent) > r.opt.LinkTimeout:
				link.end()
				delete(links, server)
			}
		}
		select {
		case <-time.After(surveyInterval):
		case <-r.shards.changed:
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

// survey finds out who owns which slot, and sees to the subscriptions that have waited for that.
func (r *Redis) survey(ctx context.Context) error {
	owners, err := r.shards.read(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := err == nil && !slices.Equal(owners, r.shards.owners)
	if changed {
		r.shards.owners = owners
	}
	if changed || r.shards.strays {
		r.shards.strays = false
		r.settleAll()
	}
	for _, l := range r.links {
		l.goOn() // its canaries may wait for a channel
	}
	return err
}

// taken takes note that a server has taken a channel away because it has lost its slot. r.mu is held.
func (r *Redis) taken(l *link, channel string, now time.Time) {
	l.suspect = true
	r.shards.look()
	if channel == l.canary {
		l.canaryOn, l.canaryLost = false, true
		l.accepted = nil // they went to the slot's new owner
		l.rouse()
		return
	}
	s := r.subs[channel]
	if s == nil || s.link != l || s.state != stateOn {
		return // the answer to a command of ours follows, or came before
	}
	s.off()
	if s.paused {
		s.schedule(now, 0)
	}
	r.settle(s)
}

// refused takes note of an answer that is no confirmation: the oldest command is for a slot that the server
// does not have, or not at present. It reports false if err says anything else.
func (r *Redis) refused(l *link, err error, now time.Time) bool {
	owner, moved := redis.IsMovedError(err)
	_, asked := redis.IsAskError(err)
	if r.shards == nil || !moved && !asked && !redis.IsClusterDownError(err) && !redis.IsTryAgainError(err) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l.lastReceived = now
	first, ok := l.sent.first()
	if !ok {
		return false
	}
	for {
		c, ok := l.sent.first()
		if !ok || c.batch != first.batch {
			break
		}
		l.sent.pop()
		switch s := c.sub; {
		case s == nil:
			l.canaryLost = true
		case c.kind == l.words.off:
			r.unset(s, now, c.at)
		default:
			if moved && owner != l.server && !strings.HasPrefix(owner, ":") {
				r.shards.owners[s.slot] = owner
			}
			s.off()
			if r.linkOf(s) == l {
				r.shards.strays = true // asking again at once would change nothing
			} else {
				r.settle(s)
			}
		}
	}
	r.shards.look()
	l.goOn()
	return true
}
