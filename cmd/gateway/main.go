// Command gateway is Orgcast: a WebSocket gateway whose unit of isolation is the organization. Run
// it with --help for its subcommands. Built with the tag nodemo it has no demo in it.
package main

import (
	"os"

	"orgcast/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(program().Main()) }

func program() cli.Program { return cli.Program{Version: version, Commands: demoCommands()} }
