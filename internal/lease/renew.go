package lease

import (
	"context"
	"time"

	"orgcast/internal/session"
)

// RenewToken prolongs the session of a connection with a newer token, and returns its new end. It may
// wait for the network, for a bounded time. Errors are those of [session.Renewer]; after one, nothing
// has changed.
func (k *Keeper) RenewToken(ctx context.Context, l *Lease, token string) (expires time.Time, err error) {
	renewer, ok := k.opt.Sessions.(session.Renewer)
	if !ok {
		return time.Time{}, session.ErrNotRenewable
	}
	k.mu.Lock()
	holder, held := l.holder, session.Held{}
	if holder != nil {
		held = session.Held{Identity: holder.Identity(), Ticket: l.ticket}
	}
	k.mu.Unlock()
	if holder == nil {
		return time.Time{}, session.ErrEnded
	}
	ticket, standing, err := renewer.Renew(ctx, held, token)
	if err != nil {
		return time.Time{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.holder == nil || l.ended {
		return time.Time{}, session.ErrEnded
	}
	l.ticket = ticket
	holder.Renew(standing.Expires) // under mu, so that a check never sees one without the other
	if standing.Role != held.Identity.Role {
		k.doubt(l)
	}
	return standing.Expires, nil
}

// sameTickets returns the endings of connections that were not renewed since they were asked about.
// held are the sessions that were asked about, in the same order.
func (k *Keeper) sameTickets(list []ending, held []session.Held) []ending {
	k.mu.Lock()
	defer k.mu.Unlock()
	same := list[:0]
	for i, e := range list {
		if e.lease.ticket == held[i].Ticket {
			same = append(same, e)
		}
	}
	return same
}
