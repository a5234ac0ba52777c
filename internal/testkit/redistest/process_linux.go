package redistest

import "syscall"

// processAttributes makes the kernel kill the server if the test binary dies without cleaning up,
// as when a test runs into its timeout.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
