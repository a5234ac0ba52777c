package redistest

import "syscall"

// processAttributes has the kernel kill the server when the test binary dies without cleaning up,
// as it does when a test runs into its timeout.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
