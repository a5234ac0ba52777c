package cli

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"orgcast/internal/app"
	"orgcast/internal/config"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/webhook"
)

func (s *settings) declareWebhooks(set *config.Set) {
	set.String(&s.Webhooks.URL, "webhook-url", "", "URL that receives webhooks about connections and groups (docs/webhooks.md); default: none", checkURL)
	set.Bool(&s.Webhooks.OrganizationURLs, "webhook-organization-urls", false, "let the field webhook_url of an organization's hash in Redis name its own receiver, at a public address and with https")
	set.List(&s.Webhooks.PrivateNetworks, "webhook-private-networks", "", "networks that webhook_url may lead to although they are not public, comma-separated: 10.0.0.0/8; default: none", func(list []string) error {
		_, err := app.ParseNetworks(list)
		return err
	})
	s.declareWebhookKey(set)
	set.List(&s.Webhooks.Events, "webhook-events", "connection.connected,connection.disconnected,connection.gap,group.occupied,group.vacated", "what to tell, comma-separated", func(list []string) error {
		_, err := webhook.ParseTypes(list)
		return err
	})
	set.List(&s.Webhooks.Groups, "webhook-groups", "", "groups whose group.occupied and group.vacated are sent, comma-separated: names, or the start of a name followed by *; default: none", func(list []string) error {
		_, err := webhook.ParsePatterns(list)
		return err
	})
	set.Duration(&s.Webhooks.Timeout, "webhook-timeout", webhook.DefaultTimeout, time.Second, "how long a receiver may take to answer a webhook; what a node that was killed had begun to deliver, another one delivers after twice as long")
	set.Duration(&s.Webhooks.Linger, "webhook-linger", webhook.DefaultLinger, 0, "how long a group stays occupied after its last connection has left, so that a page that is loaded again tells nothing")
	set.Int(&s.Webhooks.Bytes, "webhook-bytes-per-organization", webhook.DefaultBytes, 1024, "bytes of webhooks that may wait in Redis for one organization; further ones are dropped")
	set.Duration(&s.Webhooks.RetryFor, "webhook-retry-for", webhook.DefaultRetryFor, time.Second, "how long to try to deliver a webhook; then it is a dead letter")
}

func (s *settings) declareWebhookKey(set *config.Set) {
	set.Secret(&s.Webhooks.Keys, "webhook-key", "master key of webhooks, from which each organization's key follows; of several, comma-separated, the first is the current one and the others are previous ones, and each webhook is signed with all", app.CheckMasterKeys)
}

const webhooksUsage = `
Look after webhooks (docs/webhooks.md):

  gateway webhooks list                        how many wait, and which organizations have dead letters
  gateway webhooks list ORGANIZATION           the organization's dead letters, up to --limit
  gateway webhooks retry ORGANIZATION ID       deliver a dead letter again, under the same id
  gateway webhooks key ORGANIZATION            print the key that verifies the organization's webhooks

With --all instead of ID, retry takes all dead letters of the organization. The key is a secret: give
it to the organization's receiver only. It needs --webhook-key, unless the organization's hash has
a key.

The Redis user needs the rights of the gateway (deploy/redis/users.acl).
`

// webhooksArguments are the parsed arguments.
type webhooksArguments struct {
	verb  string
	org   orgctx.ID
	id    string
	all   bool
	limit int
}

func webhooksCommand(ctx context.Context, p *Process, args []string) error {
	s := new(settings)
	set := config.New("webhooks", webhooksUsage)
	s.declareRedis(set)
	s.declareState(set)
	s.declareWebhookKey(set)
	var a webhooksArguments
	set.Bool(&a.all, "all", false, "all dead letters of the organization instead of one")
	set.Int(&a.limit, "limit", 100, 1, "how many lines to list")
	return redisCommand{s, set, a.read, func(clients *app.Clients, keys keyspace.Keyspace) error {
		letters := webhook.NewLetters(clients.Events, keys)
		switch a.verb {
		case "list":
			return p.listWebhooks(ctx, letters, &a)
		case "key":
			text, err := webhook.ReadKeys(ctx, clients.State, keys, a.org, s.Webhooks.MasterKeys())
			if err == nil {
				_, err = fmt.Fprintln(p.Stdout, text)
			}
			return err
		default:
			return p.retryWebhooks(ctx, letters, &a)
		}
	}}.run(p, args)
}

// read parses the arguments. The error is [ErrUsage] if there are too many or too few.
func (a *webhooksArguments) read(args []string) (err error) {
	bounds := map[string][2]int{"list": {1, 2}, "retry": {2, 3}, "key": {2, 2}}
	if len(args) == 0 || len(args) < bounds[args[0]][0] || len(args) > bounds[args[0]][1] {
		return ErrUsage
	}
	a.verb = args[0]
	if len(args) > 1 {
		if a.org, err = parseOrganization(args[1]); err != nil {
			return err
		}
	}
	if len(args) > 2 {
		a.id = args[2]
	}
	if a.all && a.verb != "retry" || a.verb == "retry" && (a.id == "") != a.all {
		return ErrUsage
	}
	return nil
}

func (p *Process) listWebhooks(ctx context.Context, letters *webhook.Letters, a *webhooksArguments) error {
	out := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	if a.org.IsZero() {
		c, err := letters.Count(ctx)
		if err != nil {
			return err
		}
		orgs, err := letters.Organizations(ctx)
		_, _ = fmt.Fprintf(out, "waiting %d (%d bytes), dead %d\n", c.Waiting, c.WaitingBytes, c.Dead) // Flush has the error
		for i, org := range orgs[:min(len(orgs), a.limit)] {
			if i == 0 {
				_, _ = fmt.Fprintln(out, "\nDEAD LETTERS OF")
			}
			_, _ = fmt.Fprintln(out, org)
		}
		if len(orgs) > a.limit {
			_, _ = fmt.Fprintln(out, "There are more; see --limit.")
		}
		return errors.Join(err, out.Flush())
	}
	list, err := letters.List(ctx, a.org, "", a.limit)
	_, _ = fmt.Fprintln(out, "ID\tLINE\tTYPE\tAT\tATTEMPTS\tREASON")
	for _, l := range list {
		_, _ = fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%d\t%s\n", l.ID, l.Line, l.Type(), moment(l.At), l.Tries, l.Reason)
	}
	if len(list) == a.limit {
		_, _ = fmt.Fprintln(out, "There may be more; see --limit.")
	}
	return errors.Join(err, out.Flush())
}

// retryWebhooks retries one dead letter, or all that there are now.
func (p *Process) retryWebhooks(ctx context.Context, letters *webhook.Letters, a *webhooksArguments) error {
	if a.all {
		_, err := letters.RetryAll(ctx, a.org, func(l webhook.Letter) {
			_, _ = fmt.Fprintln(p.Stdout, "retried", l.ID) // as for all lists
		})
		return err
	}
	found, err := letters.RetryID(ctx, a.org, a.id)
	switch {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("organization %s has no dead letter %s", a.org, a.id)
	}
	_, err = fmt.Fprintln(p.Stdout, "retried", a.id)
	return err
}
