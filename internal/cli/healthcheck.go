package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"orgcast/internal/config"
)

const healthcheckUsage = `
Ask the private listener of a gateway whether it is ready, for containers without a shell. Uses the
same --admin-listen as serve. Exit code 0 if ready, 1 if not.
`

// healthcheckTimeout is shorter than what container engines allow by default.
const healthcheckTimeout = 5 * time.Second

func healthcheck(ctx context.Context, p *Process, args []string) error {
	var address string
	set := config.New("healthcheck", healthcheckUsage)
	set.String(&address, "admin-listen", "127.0.0.1:9090", "address of the private listener", CheckAddress)
	if err := p.ParseAlone(set, args); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := new(http.Client).Do(request)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // nothing can be lost
	if response.StatusCode != http.StatusOK {
		report, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10)) // a partial report is enough
		return fmt.Errorf("not ready: %s %s", response.Status, report)
	}
	_, err = fmt.Fprintln(p.Stdout, "ready")
	return err
}
