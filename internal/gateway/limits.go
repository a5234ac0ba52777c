package gateway

import (
	"sync"

	"orgcast/internal/orgctx"
)

// limits counts the connections of this node by user and organisation. A count of 0 as a limit
// means no limit.
type limits struct {
	perNode, perOrganization, perUser int

	mu            sync.Mutex
	total         int
	organizations map[orgctx.ID]int
	users         map[owner]int
	budgets       map[orgctx.ID]*budget
}

// owner is a user inside an organisation; equal user ids in two organisations are two owners.
type owner struct {
	org  orgctx.ID
	user string
}

func newLimits(o *Options) *limits {
	return &limits{
		perNode: o.MaxConnections, perOrganization: o.MaxPerOrganization, perUser: o.MaxPerUser,
		organizations: make(map[orgctx.ID]int), users: make(map[owner]int),
		budgets: make(map[orgctx.ID]*budget),
	}
}

// full reports whether the node has no room, so that it can refuse before it asks who is there.
func (l *limits) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.perNode > 0 && l.total >= l.perNode
}

// take counts a connection, or says which limit it would exceed. The budget is that of its
// organisation.
func (l *limits) take(who owner) (*budget, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.perNode > 0 && l.total >= l.perNode:
		return nil, ErrOverloaded
	case l.perOrganization > 0 && !who.org.IsZero() && l.organizations[who.org] >= l.perOrganization,
		l.perUser > 0 && l.users[who] >= l.perUser:
		return nil, ErrTooMany
	}
	l.total++
	if l.perOrganization > 0 {
		l.organizations[who.org]++
	}
	if l.perUser > 0 {
		l.users[who]++
	}
	b := l.budgets[who.org]
	if b == nil {
		b = new(budget)
		l.budgets[who.org] = b
	}
	b.members++
	return b, nil
}

// give takes back what take counted.
func (l *limits) give(who owner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if b := l.budgets[who.org]; b != nil {
		if b.members--; b.members == 0 {
			delete(l.budgets, who.org)
		}
	}
	if l.organizations[who.org]--; l.organizations[who.org] <= 0 {
		delete(l.organizations, who.org)
	}
	if l.users[who]--; l.users[who] <= 0 {
		delete(l.users, who)
	}
}
