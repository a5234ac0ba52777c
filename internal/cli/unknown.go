package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"orgcast/internal/config"
)

// deployVariables are used by files in deploy and scripts, not by the gateway.
var deployVariables = []string{ //nolint:gochecknoglobals // constant
	"ORGCAST_ACL_FILE", "ORGCAST_BACKEND_PASSWORD", "ORGCAST_BIND", "ORGCAST_GATEWAY_PASSWORD", "ORGCAST_IMAGE",
	"ORGCAST_NOFILE", "ORGCAST_WEBAPP_PASSWORD", "ORGCAST_WORKER_PASSWORD",
}

// kubernetesVariable matches variables that Kubernetes sets in every container for a Service called
// orgcast or orgcast-something
// (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
var kubernetesVariable = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)

// checkUnknown reports variables with our prefix that nothing reads. A setting with a misspelled
// name would silently keep its default.
func (p *Process) checkUnknown(allow *bool) func() error {
	return func() error {
		if *allow {
			return nil
		}
		known := p.program.knownVariables()
		var errs []error
		for _, entry := range p.Environ {
			name, _, _ := strings.Cut(entry, "=")
			if !strings.HasPrefix(name, config.EnvPrefix) || slices.Contains(known, name) || kubernetesVariable.MatchString(name) {
				continue
			}
			errs = append(errs, fmt.Errorf("%s: unknown variable%s (--allow-unknown-env accepts it)", name, config.DidYouMean(name, known)))
		}
		return errors.Join(errs...)
	}
}

// knownVariables returns the environment variables of all subcommands and of the deploy files. Each
// subcommand declares its settings first, and [Process.Parse] stops it there.
func (g Program) knownVariables() []string {
	names := slices.Clone(deployVariables)
	for _, c := range g.commands() {
		p := &Process{program: &g, Getenv: func(string) string { return "" }, Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard}
		p.declared = func(set *config.Set) { names = append(names, set.Variables()...) }
		_ = c.Run(context.Background(), p, nil) // parse stops it
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// unconfigured reports whether there are neither arguments nor variables.
func (p *Process) unconfigured(args []string) bool {
	return len(args) == 0 && !slices.ContainsFunc(p.Environ, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasPrefix(name, config.EnvPrefix) && !kubernetesVariable.MatchString(name)
	})
}
