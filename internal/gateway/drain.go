package gateway

import (
	"cmp"
	"context"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"orgcast/internal/orgctx"
)

// minReturn is the shortest time that a client is told to wait, so that it does not come back to a
// node that still answers.
const minReturn = time.Second

// drainSpare is for what a drain does itself on a busy machine.
const drainSpare = time.Second

// StopAdmission refuses all further upgrades with 503, for good.
func (s *Server) StopAdmission() { s.draining.Store(true) }

// Drain refuses further upgrades and ends all connections, spread evenly over the window. Each
// client is told its own time to come back. These times are spread evenly, too, over a period that
// is long enough for half of HandshakesPerSecond. Connections of one organization are placed as far
// apart as possible. If ctx ends first, the rest is told at once. Drain returns nil when all
// connections have ended, and the error of ctx if some have not. It takes the window, CloseTimeout
// and HookTimeout at most: if a browser leaves at the end of the window, its consumer has
// HookTimeout for what the browser had sent.
func (s *Server) Drain(ctx context.Context, window time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, window+s.SlowestEnd()+drainSpare)
	defer cancel()
	s.StopAdmission()
	conns := spread(s.snapshot())
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	back := s.returnWindow(len(conns), window)
	for i, c := range conns {
		part := float64(i) / float64(len(conns))
		due := start.Add(time.Duration(part * float64(window)))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		slot := start.Add(minReturn + time.Duration(part*float64(back)))
		c.End(DrainError{RetryAfter: max(time.Until(slot), minReturn)})
	}
	s.endAll(func(*conn) error { return DrainError{RetryAfter: minReturn + randomPart(back)} }) // connections that opened meanwhile
	gone := s.gone()
	select {
	case <-gone:
	case <-ctx.Done():
		select {
		case <-gone: // both: what counts is that nobody is left
		default:
			return ctx.Err()
		}
	}
	return nil
}

// returnWindow returns the period over which this many clients should come back.
func (s *Server) returnWindow(conns int, window time.Duration) time.Duration {
	if rate := s.now.Load().options.HandshakesPerSecond; rate > 0 {
		// Half, because other clients come, too, and because these need not keep to their times.
		return max(window, time.Duration(2*float64(conns)/rate*float64(time.Second)))
	}
	return window
}

// spread orders connections so that those of each organization are evenly distributed over all.
func spread(conns []*conn) []*conn {
	type place struct {
		conn *conn
		at   float64
	}
	members := make(map[orgctx.ID][]*conn)
	for _, c := range conns {
		members[c.identity.Organization] = append(members[c.identity.Organization], c)
	}
	places := make([]place, 0, len(conns))
	for _, own := range members {
		first := mathrand.Float64() //nolint:gosec // no secret
		for i, c := range own {
			places = append(places, place{c, (float64(i) + first) / float64(len(own))})
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.at, b.at) })
	for i, p := range places {
		conns[i] = p.conn
	}
	return conns
}

func randomPart(d time.Duration) time.Duration {
	return time.Duration(mathrand.Int64N(int64(d) + 1)) //nolint:gosec // no secret
}

// gone returns a channel that is closed as soon as no connection is left.
func (s *Server) gone() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := make(chan struct{})
	if len(s.conns)+len(s.explained) == 0 {
		close(done)
	} else {
		s.onEmpty = append(s.onEmpty, done)
	}
	return done
}
