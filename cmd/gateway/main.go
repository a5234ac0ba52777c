// Command gateway is Orgcast: a WebSocket gateway whose unit of isolation is the organization. Run
// it with --help for its subcommands. Built with the tag nodemo it has no demo in it.
package main

import (
	"os"

	"orgcast/internal/app"
	"orgcast/internal/cli"
)

// Set by the linker in builds that are handed out.
var version, revision, date = "dev", "", ""

func main() { os.Exit(program().Main()) }

func program() cli.Program { return cli.Program{Build: app.Build{Version: version, Revision: revision, Date: date}, Commands: demoCommands()} }
