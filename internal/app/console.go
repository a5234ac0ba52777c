package app

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"time"

	"orgcast/internal/api"
	"orgcast/internal/console"
	"orgcast/internal/directory"
	"orgcast/internal/inventory"
	"orgcast/internal/nodes"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/usage"
)

// organizationConsole returns the console of organizations.
func (n *Node) organizationConsole() *console.Members {
	c := console.New(console.Options{
		Reports: reports{n.nodes}, Revoker: n.revoker, Admit: n.admitAdministrator, Usage: n.dayOfUsage(), Violated: n.Gateway.Violated, Log: n.Log, Registerer: n.Metrics,
	})
	c.SetKey(n.options().ConsoleKey)
	n.reloads.add(func(next *Options) (func(), error) {
		return func() { c.SetKey(next.ConsoleKey) }, nil
	})
	return c
}

// serveBelow serves the part of a request's path below the handler's own path. The page needs a slash there, because
// it loads its files by relative names.
func serveBelow(w http.ResponseWriter, r *http.Request, h http.Handler, own, below string) {
	if below == "" {
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, own+"/", http.StatusFound)
		return
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = below[1:], ""
	h.ServeHTTP(w, r)
}

// admitAdministrator checks that the holder of a token may still act for the organization, as for a
// connection.
func (n *Node) admitAdministrator(ctx context.Context, who console.Administrator) error {
	_, err := n.Directory.Admit(ctx, who.Organization, who.UserID)
	if err == nil {
		err = n.revoker.Revocations.CheckUser(ctx, who.UserID)
	}
	if errors.Is(err, directory.ErrUnknown) || errors.Is(err, session.ErrDisabled) {
		return errors.Join(console.ErrNotAllowed, err)
	}
	return err
}

// dayOfUsage returns the function that reads an organization's usage, nil if nothing is kept.
func (n *Node) dayOfUsage() func(ctx context.Context, org orgctx.ID) ([]console.Hour, error) {
	if n.usage == nil {
		return nil
	}
	return func(ctx context.Context, org orgctx.ID) ([]console.Hour, error) {
		now := time.Now()
		rows, _, err := n.usage.Read(ctx, usage.Query{From: now.Add(-24 * time.Hour), To: now, Organization: org, Limit: usage.DefaultLimit})
		hours := make([]console.Hour, 0, len(rows))
		for _, r := range rows {
			hours = append(hours, console.Hour{
				Organization: r.Organization, Hour: r.Hour, PeakConnections: r.PeakConnections,
				Deliveries: r.Deliveries, DeliveredBytes: r.DeliveredBytes, LagSeconds: r.LagSeconds,
			})
		}
		return hours, err
	}
}

// reports asks all nodes for the console.
type reports struct{ nodes *nodes.Nodes }

var _ console.Reports = reports{}

// Connections implements [console.Reports].
func (r reports) Connections(ctx context.Context, q inventory.Query) (inventory.Page[inventory.Connection], bool, error) {
	return askPage(ctx, r.nodes, api.Connections(), q)
}

// Organizations implements [console.Reports].
func (r reports) Organizations(ctx context.Context, q inventory.Query) (inventory.Page[inventory.Organization], bool, error) {
	return askPage(ctx, r.nodes, api.Organizations(), q)
}

func askPage[R inventory.Row[R]](ctx context.Context, n *nodes.Nodes, topic nodes.Topic[inventory.Query, inventory.Page[R]], q inventory.Query) (inventory.Page[R], bool, error) {
	replies, err := nodes.Ask(ctx, n, topic, q)
	if errors.Is(err, nodes.ErrBusy) {
		err = errors.Join(console.ErrBusy, err)
	}
	answered := make([]inventory.Page[R], 0, len(replies.Each))
	for _, reply := range replies.Each {
		answered = append(answered, reply.Answer)
	}
	return inventory.Merge(q, answered), replies.Complete, err
}

// consolePath is the form of --console-path.
var consolePath = regexp.MustCompile(`^(/[A-Za-z0-9_-][A-Za-z0-9._~-]*)+$`)

// CheckConsolePath checks that a setting is a path of the public listener that can have paths below
// it, or empty.
func CheckConsolePath(path string) error {
	if path != "" && !consolePath.MatchString(path) {
		return errors.New("must be a path without a slash at its end, such as /console")
	}
	return CheckPublicHealth(path)
}

// checkConsole checks the options of the console together.
func (o *Options) checkConsole() error {
	var errs []error
	if o.ConsolePath != "" && o.ConsoleKey == "" {
		errs = append(errs, errors.New("--console-key: required with --console-path: the key with which the web application makes tokens"))
	}
	if o.ConsoleKey != "" {
		for _, other := range [][2]string{{"admin", o.AdminKey}, {"publish", o.PublishKey}, {"signing", o.SigningKey}} {
			if other[1] == o.ConsoleKey {
				errs = append(errs, errors.New("--console-key and --"+other[0]+"-key: must differ, because each opens something else"))
			}
		}
	}
	if o.ConsolePath != "" && o.ConsolePath == o.PublicHealth {
		errs = append(errs, errors.New("--console-path and --public-health: must differ"))
	}
	return errors.Join(errs...)
}
