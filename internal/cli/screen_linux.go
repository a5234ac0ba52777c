package cli

import "golang.org/x/sys/unix"

// The requests that read and set what a terminal is like.
const getTermios, setTermios = unix.TCGETS, unix.TCSETS
