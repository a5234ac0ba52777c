//go:build !linux

package redistest

import "syscall"

// processAttributes asks for nothing: only Linux can tie a child's life to its parent's.
func processAttributes() *syscall.SysProcAttr { return nil }
