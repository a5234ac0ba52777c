package channellayer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/subconn"
)

// host is one server of a channel layer, with the groups whose events are there.
type host struct {
	index, of int // its place among the site's servers
	client    redis.UniversalClient
	opt       Options
	groups    *groups
	intake    *intake
	metrics   *metrics
	dialer    *subconn.Dialer
	open      atomic.Pointer[func() error] // the health of the open connection; nil without one
}

// follow receives the events of the groups until ctx ends, and then leaves the groups.
func (h *host) follow(ctx context.Context) {
	if h.opt.Kind == PubSub {
		h.runPubSub(ctx)
		return
	}
	newCore(h).run(ctx)
}

// healthy returns nil if events flow.
func (h *host) healthy() error {
	open := h.open.Load()
	if open == nil {
		return ErrNoLink
	}
	if err := (*open)(); err != nil {
		return err
	}
	if since := h.groups.waitingSince(); !since.IsZero() && time.Since(since) > h.opt.LinkTimeout {
		return ErrUnconfirmed
	}
	return nil
}
