package gateway

import (
	"cmp"
	"context"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"orgcast/internal/orgctx"
)

// minReturn is the least time a client is told to stay away, so that it does not come back to a
// node that still answers.
const minReturn = time.Second

// drainSpare is for what a drain does itself on a busy machine.
const drainSpare = time.Second

// StopAdmission refuses all further upgrades with 503, for good.
func (s *Server) StopAdmission() { s.draining.Store(true) }

// Drain refuses further upgrades and ends all connections, spread evenly over the window, each
// told to come back at a moment of its own: these are spread evenly too, over a time that is long enough
// for half of HandshakesPerSecond. The connections of one organization lie as far apart as they can.
// If ctx ends first, the rest is told at once. It returns nil when all are gone, and the error of ctx if
// some were not. It takes the window, CloseTimeout and HookTimeout at most: a browser may leave at the end of the
// window, and its consumer then has HookTimeout for what it had sent.
func (s *Server) Drain(ctx context.Context, window time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, window+s.options.CloseTimeout+s.options.HookTimeout+drainSpare)
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
	s.endAll(func(*conn) error { return DrainError{RetryAfter: minReturn + randomPart(back)} }) // those that slipped in
	select {
	case <-s.gone():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// returnWindow is the time over which so many clients are to come back.
func (s *Server) returnWindow(conns int, window time.Duration) time.Duration {
	if rate := s.options.HandshakesPerSecond; rate > 0 {
		// Half, since other clients come too, and since these are asked to come then, not made to.
		return max(window, time.Duration(2*float64(conns)/rate*float64(time.Second)))
	}
	return window
}

// spread orders connections so that each organization's are evenly strewn over all.
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
