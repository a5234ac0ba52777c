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

// memberships are the groups that one connection has joined. The hub does not let a member join a group
// twice, so it hears of one change of a membership at a time: a join waits for an earlier change, and
// a leave has a join that is under way undone.
type memberships struct {
	host *host

	mu       sync.Mutex
	groups   []event.Group // joined in the hub
	changing *change       // the changes under way, as a list; their groups are not in groups
	named    bucket.Bucket // for the groups that frames name, except the first of each
	ended    bool          // no membership can begin
}

// change is a join or a leave that the hub is being told of.
type change struct {
	group    event.Group
	next     *change
	unwanted bool          // a join that was taken back
	over     chan struct{} // closed when the hub knows; nil while nobody waits for that
}

// join makes the connection a member of a group in the hub. conn is the connection's context. If
// that ends meanwhile, join returns its cause.
func (ms *memberships) join(ctx, conn context.Context, g event.Group, m hub.Member) error {
	ch, err := ms.begin(ctx, conn, g)
	if err != nil || ch == nil {
		return err
	}
	err = ms.host.hub.Join(ctx, g, m)
	switch {
	case err != nil:
		err = fmt.Errorf("join group: %w: %w", ErrOverloaded, err) // the browser may try again
	case ms.keep(ch):
		return nil
	default: // left, or torn down, before the hub knew us
		ms.host.hub.Leave(g, m)
		err = cmp.Or(context.Cause(conn), context.Canceled)
	}
	ms.finish(ch)
	return err
}

// begin begins to join a group, after other changes of its membership. It returns nil if the group is
// joined already.
func (ms *memberships) begin(ctx, conn context.Context, g event.Group) (*change, error) {
	for conn.Err() == nil {
		ch, over, err := ms.reserve(g)
		if over == nil {
			return ch, err
		}
		select {
		case <-over:
		case <-ctx.Done():
			return nil, fmt.Errorf("join group: %w: %w", ErrOverloaded, context.Cause(ctx))
		case <-conn.Done():
		}
	}
	return nil, context.Cause(conn)
}

// reserve notes that a group is being joined. If it is being joined or left already, reserve returns
// what is closed after that.
func (ms *memberships) reserve(g event.Group) (ch *change, over <-chan struct{}, err error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	count := len(ms.groups)
	for other := ms.changing; other != nil; other = other.next {
		if other.group == g {
			if other.over == nil {
				other.over = make(chan struct{})
			}
			return nil, other.over, nil
		}
		count++
	}
	switch {
	case slices.Contains(ms.groups, g):
		return nil, nil, nil
	case ms.ended:
		return nil, nil, context.Canceled
	case count >= ms.host.options.GroupsPerConnection:
		return nil, nil, consumer.ErrTooManyGroups
	}
	return ms.change(g), nil, nil
}

// change notes that a group is being joined or left. Its caller holds mu.
func (ms *memberships) change(g event.Group) *change {
	ms.changing = &change{group: g, next: ms.changing}
	return ms.changing
}

// leave ends the membership of a group, if it has begun.
func (ms *memberships) leave(g event.Group, m hub.Member) {
	ms.mu.Lock()
	for ch := ms.changing; ch != nil; ch = ch.next {
		if ch.group == g {
			ch.unwanted = true
		}
	}
	i := slices.Index(ms.groups, g)
	if i < 0 {
		ms.mu.Unlock()
		return
	}
	ms.groups = slices.Delete(ms.groups, i, i+1)
	ch := ms.change(g)
	ms.mu.Unlock()
	ms.host.hub.Leave(g, m)
	ms.finish(ch)
}

// end ends all memberships for good, and returns the groups. Joins that are under way undo
// themselves.
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

// keep makes a group whose join the hub has confirmed one of the connection's. It returns false if the
// join was taken back or the connection has ended.
func (ms *memberships) keep(ch *change) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ch.unwanted || ms.ended {
		return false
	}
	ms.groups = append(ms.groups, ch.group)
	ms.forget(ch)
	return true
}

// finish ends a change that has left no membership.
func (ms *memberships) finish(ch *change) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.forget(ch)
}

// forget takes a change off the list, and lets those go on that wait for it. Its caller holds mu.
func (ms *memberships) forget(ch *change) {
	at := &ms.changing
	for *at != ch {
		at = &(*at).next
	}
	*at = ch.next
	if ch.over != nil {
		close(ch.over)
	}
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
