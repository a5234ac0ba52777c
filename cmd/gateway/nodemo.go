//go:build nodemo

package main

import "orgcast/internal/cli"

// demoCommands returns nothing: this build has no demo.
func demoCommands() []cli.Command { return nil }
