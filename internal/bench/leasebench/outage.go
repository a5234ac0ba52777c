package leasebench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/coder/websocket"
)

// hang stops Redis for a while. All sockets must end by the deadline, and all users come back.
func (m *measurement) hang(ctx context.Context) error {
	if err := stopProcess(m.opts.RedisPID); err != nil {
		return fmt.Errorf("stop Redis: %w", err)
	}
	stopped := time.Now()
	defer func() { _ = resumeProcess(m.opts.RedisPID) }() // whatever happens
	if err := pause(ctx, m.opts.Outage); err != nil {
		return err
	}
	var took []time.Duration
	var open []string
	for _, u := range m.users {
		select {
		case <-u.done:
		default:
			open = append(open, u.id)
		}
	}
	if len(open) > 0 {
		return fmt.Errorf("%w: %d of %d sockets still open after %v without Redis, that of %s first", ErrBroken, len(open), len(m.users), m.opts.Outage, open[0])
	}
	for _, u := range m.users {
		if u.code != websocket.StatusTryAgainLater {
			return fmt.Errorf("%w: %s: code %d, want %d", ErrBroken, u.id, u.code, websocket.StatusTryAgainLater)
		}
		took = append(took, u.ended.Sub(stopped))
	}
	first, last := slices.Min(took).Round(time.Millisecond), slices.Max(took).Round(time.Millisecond)
	err := m.printf("\nRedis hung for %v: all %d sockets ended with %d, the first after %v, the last after %v\n",
		m.opts.Outage, len(took), websocket.StatusTryAgainLater, first, last)
	if err != nil {
		return err
	}
	if last > m.opts.Deadline+m.opts.Slack {
		return fmt.Errorf("%w: the last socket ended after %v, want at most %v", ErrBroken, last, m.opts.Deadline)
	}
	if err := resumeProcess(m.opts.RedisPID); err != nil {
		return fmt.Errorf("resume Redis: %w", err)
	}
	resumed := time.Now()
	for _, u := range m.users {
		if err := m.reconnect(ctx, u); err != nil {
			return fmt.Errorf("%w: %s does not reconnect: %w", ErrBroken, u.id, err)
		}
	}
	return m.printf("all users were back %v after Redis resumed, one after the other, without a restart\n", time.Since(resumed).Round(time.Millisecond))
}
