package gateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"orgcast/internal/bucket"
	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/hub"
)

// memberships are the groups that one connection has joined.
type memberships struct {
	host *host

	mu     sync.Mutex
	groups []event.Group
	named  bucket.Bucket // for the groups that frames name, except the first of each
	ended  bool          // no membership can begin
}

// join makes the connection a member of a group in the hub. conn is the connection's context. If
// that ends meanwhile, join returns its cause.
func (ms *memberships) join(ctx, conn context.Context, g event.Group, m hub.Member) error {
	if conn.Err() != nil {
		return context.Cause(conn)
	}
	if joined, err := ms.reserve(g); joined || err != nil {
		return err
	}
	if err := ms.host.hub.Join(ctx, g, m); err != nil {
		ms.forget(g)
		return fmt.Errorf("join group: %w: %w", ErrOverloaded, err) // the browser may try again
	}
	if !ms.has(g) { // left, or torn down, before the hub knew us
		ms.host.hub.Leave(g, m)
		return cmp.Or(context.Cause(conn), context.Canceled)
	}
	return nil
}

// leave ends the membership of a group, if it has begun.
func (ms *memberships) leave(g event.Group, m hub.Member) {
	if ms.forget(g) {
		ms.host.hub.Leave(g, m)
	}
}

// end ends all memberships for good, and returns the groups.
func (ms *memberships) end(m hub.Member) (groups []event.Group) {
	ms.mu.Lock()
	groups = ms.groups
	ms.groups, ms.ended = nil, true
	ms.mu.Unlock()
	for _, g := range groups {
		ms.host.hub.Leave(g, m)
	}
	return groups
}

// reserve adds a group to those of the connection.
func (ms *memberships) reserve(g event.Group) (joined bool, err error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	switch {
	case slices.Contains(ms.groups, g):
		return true, nil
	case ms.ended:
		return false, context.Canceled
	case len(ms.groups) >= ms.host.options.GroupsPerConnection:
		return false, consumer.ErrTooManyGroups
	}
	ms.groups = append(ms.groups, g)
	return false, nil
}

// forget removes a group and reports whether it was there.
func (ms *memberships) forget(g event.Group) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	i := slices.Index(ms.groups, g)
	if i < 0 {
		return false
	}
	ms.groups = slices.Delete(ms.groups, i, i+1)
	return true
}

func (ms *memberships) has(g event.Group) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return slices.Contains(ms.groups, g)
}

// namesBurst is how many groups the browser's frames may name at once, except the first of each. It
// includes as many as the connection may join: a page that has joined them all asks for them all
// when it comes back.
func namesBurst(o *Options) int { return o.FrameBurst + o.GroupsPerConnection }

// charge counts n groups that a frame names against the rate limit. age is the connection's.
func (ms *memberships) charge(n int, age time.Duration) error {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	o := &ms.host.options
	if !ms.named.TakeN(age, o.FramesPerSecond, namesBurst(o), n) {
		return ErrRateLimit
	}
	return nil
}
