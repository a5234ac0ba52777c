package leasebench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/procfs"
)

// cost measures what the two processes take while nothing happens.
func (m *measurement) cost(ctx context.Context) error {
	if err := pause(ctx, m.opts.Warmup); err != nil {
		return err
	}
	gatewayBefore, err1 := cpu(m.opts.GatewayPID)
	redisBefore, err2 := cpu(m.opts.RedisPID)
	if err := errors.Join(err1, err2, pause(ctx, m.opts.Idle)); err != nil {
		return err
	}
	gatewayAfter, err1 := cpu(m.opts.GatewayPID)
	redisAfter, err2 := cpu(m.opts.RedisPID)
	memory, err3 := resident(m.opts.GatewayPID)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	percent := func(seconds float64) float64 { return 100 * seconds / m.opts.Idle.Seconds() }
	return m.printf("CPU of one core over %v: gateway %.2f %%, Redis %.2f %%\nmemory of the gateway: %d KiB, %.1f KiB for each socket\n",
		m.opts.Idle.Round(time.Millisecond), percent(gatewayAfter-gatewayBefore), percent(redisAfter-redisBefore),
		memory>>10, float64(memory)/(1<<10)/float64(len(m.users)))
}

// cpu returns the CPU time of a process, in seconds.
func cpu(pid int) (float64, error) {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	stat, err := proc.Stat()
	if err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return stat.CPUTime(), nil
}

// resident returns the memory of a process that is in RAM, in bytes.
func resident(pid int) (uint64, error) {
	proc, err := procfs.NewProc(pid)
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	status, err := proc.NewStatus()
	if err != nil {
		return 0, fmt.Errorf("memory of process %d: %w", pid, err)
	}
	return status.VmRSS, nil
}
