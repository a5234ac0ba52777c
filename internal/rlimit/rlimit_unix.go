//go:build unix

package rlimit

import "syscall"

// OpenFiles returns how many files the process may have open, 0 if that cannot be told.
func OpenFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 0
	}
	return int(limit.Cur)
}
