package leasebench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// unannouncedAtOnce is how many unannounced trials, which take seconds, run side by side.
	unannouncedAtOnce = 20
	// spread is the time over which trials begin, so that they fall at any moment of a period.
	spread = 100 * time.Millisecond
	// surrender is how long after its limit a socket counts as one that stays open.
	surrender = 10 * time.Second
)

// end measures every act, announced and not, while events flow.
func (m *measurement) end(ctx context.Context) error {
	publishing, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { m.publish(publishing) })
	defer running.Wait()
	defer stop()
	if err := m.printf("\n| act | announced | trials | p50 | p99 | max |\n| --- | --- | --- | --- | --- | --- |\n"); err != nil {
		return err
	}
	for _, announced := range []bool{true, false} {
		for _, a := range m.acts() {
			if err := m.try(ctx, a, announced); err != nil {
				return err
			}
		}
	}
	return nil
}

// publish lets events flow until ctx ends. One that fails is of no interest here.
func (m *measurement) publish(ctx context.Context) {
	ticker := time.NewTicker(time.Second / time.Duration(m.opts.Rate))
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		group := m.groups[rand.IntN(len(m.groups))] //nolint:gosec // no secret
		payload := fmt.Sprintf(`{"type":"note","organization_id":"%s","n":%d}`, group.Organization(), n)
		_ = m.server.Events.Publish(ctx, m.server.Keys.GroupChannel(group), payload).Err()
	}
}

// try measures an act again and again. A trial lasts from before the record is changed until the
// client has the close frame, the last byte.
func (m *measurement) try(ctx context.Context, a act, announced bool) error {
	atOnce, limit := 1, m.opts.Announced
	if !announced {
		atOnce, limit = unannouncedAtOnce, m.opts.Unannounced
	}
	victims := m.victims(a)
	var took []time.Duration
	for len(took) < m.opts.Trials {
		rand.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] }) //nolint:gosec // no secret
		n := min(atOnce, m.opts.Trials-len(took), len(victims))
		errs := make([]error, n)
		results := make([]time.Duration, n)
		var trying sync.WaitGroup
		for k := range n {
			trying.Go(func() {
				if errs[k] = pause(ctx, rand.N(spread)); errs[k] == nil { //nolint:gosec // no secret
					results[k], errs[k] = m.trial(ctx, a, announced, limit, victims[k])
				}
			})
		}
		trying.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		took = append(took, results...)
	}
	slices.Sort(took)
	at := func(q float64) time.Duration {
		return took[int(q*float64(len(took)-1))].Round(100 * time.Microsecond)
	}
	return m.printf("| %s | %s | %d | %s | %s | %s |\n", a.name, map[bool]string{true: "yes", false: "no"}[announced], len(took), at(0.5), at(0.99), at(1))
}

// victims are the users whose sockets one trial ends, for all trials that could run at once. Nobody
// of the last organization, to which others switch, is among them.
func (m *measurement) victims(a act) [][]*user {
	size := 1
	if a.all {
		size = usersPerOrganization
	}
	return slices.Collect(slices.Chunk(m.users[:len(m.users)-usersPerOrganization], size))
}

// trial acts, waits until all sockets of the victims have ended and returns how long the last took.
func (m *measurement) trial(ctx context.Context, a act, announced bool, limit time.Duration, victims []*user) (time.Duration, error) {
	begun := time.Now()
	if err := a.change(ctx, victims[0]); err != nil {
		return 0, err
	}
	if announced {
		if err := m.announcer.Announce(ctx, a.announcement(victims[0])); err != nil {
			return 0, err
		}
	}
	var worst time.Duration
	for _, u := range victims {
		select {
		case <-u.done:
		case <-time.After(limit + surrender):
			return 0, fmt.Errorf("%w: %s of %s: the socket is still open", ErrBroken, a.name, u.id)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		if u.code != a.code {
			return 0, fmt.Errorf("%w: %s of %s: code %d, want %d", ErrBroken, a.name, u.id, u.code, a.code)
		}
		worst = max(worst, u.ended.Sub(begun))
	}
	if worst > limit+m.opts.Slack {
		return 0, fmt.Errorf("%w: %s: took %v, want at most %v", ErrBroken, a.name, worst, limit)
	}
	for _, u := range victims { // for the next trial
		if err := m.signIn(ctx, u); err != nil {
			return 0, err
		}
	}
	return worst, nil
}
