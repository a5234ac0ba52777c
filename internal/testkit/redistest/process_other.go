//go:build !linux

package redistest

import "syscall"

// processAttributes returns nil, because only Linux can end a child with its parent.
func processAttributes() *syscall.SysProcAttr { return nil }
