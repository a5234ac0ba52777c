package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"orgcast/internal/config"
)

// deployVariables are used by files in deploy and scripts, not by the gateway.
var deployVariables = []string{ //nolint:gochecknoglobals // constant
	"ORGCAST_ACL_FILE", "ORGCAST_BACKEND_PASSWORD", "ORGCAST_BIND", "ORGCAST_DATA", "ORGCAST_GATEWAY_PASSWORD", "ORGCAST_IMAGE",
	"ORGCAST_NOFILE", "ORGCAST_REDIS_CONF", "ORGCAST_REDIS_USERS", "ORGCAST_REPLICATION_PASSWORD", "ORGCAST_REPLICA_OF",
	"ORGCAST_SENTINEL_PASSWORD", "ORGCAST_WEBAPP_PASSWORD", "ORGCAST_WORKER_PASSWORD",
}

// clientVariables are read by packages in clients and by their tests.
var clientVariables = []string{ //nolint:gochecknoglobals // constant
	"ORGCAST_TEST_FRONT", "ORGCAST_TEST_KEY", "ORGCAST_TEST_REDIS", "ORGCAST_TEST_WAY",
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

// knownVariables returns the environment variables of all subcommands, deploy files and client
// packages.
func (g Program) knownVariables() []string {
	names := slices.Concat(deployVariables, clientVariables)
	for _, set := range g.sets() {
		names = append(names, set.Variables()...)
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
