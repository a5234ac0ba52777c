// Command gateway is Orgcast: a WebSocket gateway whose unit of isolation is the organization. Run
// it with --help for its subcommands. Built with the tag nodemo it has no demo in it.
package main

import (
	"os"

	"orgcast/internal/app"
	"orgcast/internal/cli"
)

// What the linker sets in released builds.
//
//nolint:gochecknoglobals // the linker sets nothing else
var (
	version  = "dev"
	revision string
	date     string
)

func main() { os.Exit(program().Main()) }

func program() cli.Program {
	return cli.Program{Build: app.Build{Version: version, Revision: revision, Date: date}, Commands: demoCommands()}
}
