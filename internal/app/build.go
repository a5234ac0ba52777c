package app

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Build says what a program was built from. What is empty is unknown.
type Build struct {
	Version string
	// Revision is the commit, and Date its time (RFC 3339).
	Revision, Date string
}

// Complete returns the build with what the Go toolchain knows of it, where nothing else was said.
func (b Build) Complete() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok || b.Revision != "" {
		return b
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Revision = s.Value
		case s.Key == "vcs.time" && b.Date == "":
			b.Date = s.Value
		}
	}
	return b
}

// String returns a line for each thing that is known. The first is the version alone.
func (b Build) String() string {
	lines := []string{b.Version}
	if b.Revision != "" {
		lines = append(lines, "revision: "+b.Revision)
	}
	if b.Date != "" {
		lines = append(lines, "date: "+b.Date)
	}
	lines = append(lines, fmt.Sprintf("built with: %s for %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH))
	return strings.Join(lines, "\n")
}
