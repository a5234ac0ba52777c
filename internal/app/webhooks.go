package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/webhook"
)

// Webhooks are the settings of calls to the back end of the site.
type Webhooks struct {
	// URL is the receiver of all organizations that have none of their own, or empty.
	URL string
	// OrganizationURLs says that the hashes of organizations may name receivers.
	OrganizationURLs bool
	// PrivateNetworks are networks that these may be in although their addresses are not public.
	PrivateNetworks []string
	// Keys are the master keys, comma-separated: the first one, and previous ones.
	Keys string
	// Events are the types that are told, and Groups the patterns of groups.
	Events, Groups []string
	// Timeout bounds a call.
	Timeout time.Duration
	// Linger is how long a group stays occupied after its last connection has left.
	Linger time.Duration
	// Bytes bounds what waits for one organization, and RetryFor how long.
	Bytes    int
	RetryFor time.Duration
}

// on reports whether there may be receivers.
func (w *Webhooks) on() bool { return w.URL != "" || w.OrganizationURLs }

// MasterKeys returns the master keys.
func (w *Webhooks) MasterKeys() (list []string) {
	for key := range strings.SplitSeq(w.Keys, ",") {
		if key != "" {
			list = append(list, key)
		}
	}
	return list
}

// CheckMasterKeys checks the text of the master keys.
func CheckMasterKeys(text string) error {
	for key := range strings.SplitSeq(text, ",") {
		if len(key) < MinSecret {
			return fmt.Errorf("must be comma-separated keys of at least %d characters each", MinSecret)
		}
	}
	return nil
}

// ParseNetworks parses networks such as 10.0.0.0/8.
func ParseNetworks(list []string) (networks []netip.Prefix, err error) {
	for _, text := range list {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q must be a network such as 10.0.0.0/8", text)
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// checkWebhooks checks the settings of webhooks together.
func (o *Options) checkWebhooks() error {
	w := &o.Webhooks
	switch {
	case w.on() && w.Keys == "":
		return errors.New("--webhook-key: required with --webhook-url and --webhook-organization-urls: receivers must be able to tell who calls")
	case !w.on() && w.Keys != "":
		return errors.New("--webhook-key: requires --webhook-url or --webhook-organization-urls")
	case len(w.PrivateNetworks) > 0 && !w.OrganizationURLs:
		return errors.New("--webhook-private-networks: requires --webhook-organization-urls")
	case len(w.Groups) > 0 && !w.on():
		return errors.New("--webhook-groups: requires --webhook-url or --webhook-organization-urls")
	}
	return nil
}

// webhookFinal is how long what waits in memory may take at the end of the process.
const webhookFinal = 5 * time.Second

// addWebhooks creates the parts that tell the back end of the site what happens, if it wants to know.
func (n *Node) addWebhooks(ctx context.Context) error {
	w := &n.Options.Webhooks
	if !w.on() {
		return nil
	}
	types, err1 := webhook.ParseTypes(w.Events)
	groups, err2 := webhook.ParsePatterns(w.Groups)
	targets, err3 := webhook.NewTargets(n.Redis.State, n.Keys, n.calls, webhook.TargetsOptions{URL: w.URL, Own: w.OrganizationURLs, Timeout: w.Timeout, Log: n.Log})
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	targets.SetMasters(w.MasterKeys())
	n.reloads.add(func(next *Options) (func(), error) {
		return func() { targets.SetMasters(next.Webhooks.MasterKeys()) }, nil
	})
	n.webhooks = webhook.NewRecorder(n.Redis.Events, n.Keys, webhook.RecorderOptions{
		Types: types, Groups: groups, Present: func(g event.Group) bool { return n.hub.Occupied(g) }, Targets: targets,
		Linger: w.Linger, Bytes: w.Bytes, Log: n.Log, Registerer: n.Metrics,
	})
	n.deliverer = webhook.NewDeliverer(n.Redis.Events, n.Keys, webhook.DelivererOptions{Targets: targets, RetryFor: w.RetryFor, Log: n.Log, Registerer: n.Metrics})
	n.runWebhooks(ctx)
	return nil
}

// runWebhooks starts the parts. They end after the connections, and what those leave to tell is
// written first.
func (n *Node) runWebhooks(ctx context.Context) {
	recording, stopRecording := context.WithCancel(context.WithoutCancel(ctx))
	delivering, stopDelivering := context.WithCancel(context.WithoutCancel(ctx))
	var recorder, deliverer sync.WaitGroup
	begun := make(chan struct{}) // closed by Start, or by the undo of a node that never started
	n.startWebhooks = sync.OnceFunc(func() { close(begun) })
	recorder.Go(func() { <-begun; n.webhooks.Run(recording, webhookFinal) })
	deliverer.Go(func() { <-begun; n.deliverer.Run(delivering, n.webhooks.Written()) })
	n.undo.add("webhooks", undoTimeout, func(context.Context) error {
		stopRecording()
		n.startWebhooks()
		recorder.Wait()
		stopDelivering()
		deliverer.Wait()
		return nil
	})
}

// webhookObserver passes on what the gateway observes.
type webhookObserver struct{ to *webhook.Recorder }

var _ gateway.Observer = webhookObserver{}

func connectionOf(c gateway.Observed) webhook.Connection {
	return webhook.Connection{Organization: c.Organization, UserID: c.UserID, ID: c.ID}
}

// Connected implements [gateway.Observer].
func (o webhookObserver) Connected(c gateway.Observed) { o.to.Connected(connectionOf(c)) }

// Disconnected implements [gateway.Observer].
func (o webhookObserver) Disconnected(c gateway.Observed, cause string) {
	o.to.Disconnected(connectionOf(c), cause)
}

// ToldGap implements [gateway.Observer].
func (o webhookObserver) ToldGap(c gateway.Observed, g event.Group) { o.to.Gap(connectionOf(c), g) }
