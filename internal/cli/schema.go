package cli

import (
	"context"
	"fmt"

	"orgcast/internal/config"
	"orgcast/internal/routefile"
)

const configUsage = `
Print the JSON Schema of a file that the gateway reads, for editors that complete the file and mark
mistakes:

  gateway config schema    prints the schema of --routes-file
`

// configCommand prints JSON schemas of the gateway's files for editors.
func configCommand(_ context.Context, p *Process, args []string) error {
	set := config.New("config", configUsage)
	rest, err := p.Parse(set, args)
	if err != nil {
		return p.Surplus(rest, err)
	}
	if len(rest) != 1 || rest[0] != "schema" {
		return p.misused(set, rest)
	}
	_, err = fmt.Fprint(p.Stdout, routefile.Schema())
	return err
}
