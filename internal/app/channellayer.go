package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/channellayer"
	"orgcast/internal/channellayer/wire"
	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/pubsub"
	"orgcast/internal/redisclient"
)

// ParseLayerKeys parses the keys of a channel layer: one in each line, or comma-separated in a
// single line.
func ParseLayerKeys(text string) (wire.Keys, error) {
	if text == "" {
		return nil, nil
	}
	var secrets [][]byte
	for i, part := range splitKeys(text) {
		secret, err := keyBytes(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("key %d: hex- must be followed by hexadecimal digits", i+1)
		}
		if len(secret) == 0 {
			return nil, fmt.Errorf("key %d: is empty", i+1)
		}
		secrets = append(secrets, secret)
	}
	return wire.NewKeys(secrets...)
}

// checkChannelLayer checks combinations of the options of a channel layer.
func (o *Options) checkChannelLayer() error {
	var errs []error
	for _, server := range o.layerServers() {
		errs = append(errs, server.Check())
	}
	switch urls := o.LayerURLs; {
	case len(urls) > channellayer.MaxHosts:
		errs = append(errs, fmt.Errorf("--channel-layer-redis: must have at most %d URLs", channellayer.MaxHosts))
	case len(urls) > 1 && len(o.Layer.Sentinels) > 0:
		errs = append(errs, errors.New("--channel-layer-redis-sentinels: requires a single URL in --channel-layer-redis"))
	case o.ChannelLayer != "" && len(urls) == 0:
		errs = append(errs, errors.New("--channel-layer: requires --channel-layer-redis, the Redis of the site's CHANNEL_LAYERS"))
	case o.ChannelLayer == "" && (len(urls) > 0 || o.ChannelLayerKeys != ""):
		errs = append(errs, errors.New("--channel-layer: must be core or pubsub if another setting that begins with --channel-layer- is set"))
	}
	if o.ChannelLayerQueues > channellayer.MaxQueues {
		errs = append(errs, fmt.Errorf("--channel-layer-queues: must be at most %d", channellayer.MaxQueues))
	}
	return errors.Join(errs...)
}

// layerServers returns how to reach the servers of the channel layer.
func (o *Options) layerServers() []redisclient.Options {
	list := []redisclient.Options{o.Layer}
	for i, url := range o.LayerURLs {
		server := o.Layer
		server.URL = url
		list = append(list[:i], server)
	}
	return list
}

// layerDecoder returns what reads the messages of the channel layer.
func (o *Options) layerDecoder() (*wire.Decoder, error) {
	keys, err := ParseLayerKeys(o.ChannelLayerKeys)
	if err != nil {
		return nil, fmt.Errorf("--channel-layer-keys: %w", err)
	}
	return &wire.Decoder{Format: wire.Format(o.ChannelLayerFormat), Keys: keys, RandomPrefix: o.ChannelLayerRandomPrefix}, nil
}

// addChannelLayer creates the part that takes events from a Django site, if there is one.
func (n *Node) addChannelLayer() error {
	o := n.Options
	if o.ChannelLayer == "" {
		return nil
	}
	decoder, err := o.layerDecoder()
	if err != nil {
		return err
	}
	var clients []redis.UniversalClient
	for i, server := range o.layerServers() {
		connector, err := redisclient.NewConnector(server)
		if err != nil {
			return err
		}
		client, err := connector.Connect(0)
		if err != nil {
			return err
		}
		n.undo.add("Redis of the channel layer", undoTimeout, func(context.Context) error { return client.Close() })
		// A reload does not change the list.
		n.reloads.addCertificates(func(next *Options) (func(), error) { return connector.PrepareReload(next.layerServers()[i]) })
		clients = append(clients, client)
	}
	n.layer = channellayer.New(clients, channellayer.Options{
		Kind: channellayer.Kind(o.ChannelLayer), Prefix: o.ChannelLayerPrefix, Decoder: decoder, Queues: o.ChannelLayerQueues,
		Limits: channellayer.Limits(o.busLimits()), Log: n.Log, Registerer: n.Metrics, Trail: n.trail,
	})
	return nil
}

// events returns where the hub asks for events.
func (n *Node) events() hub.Bus {
	if n.layer == nil {
		return n.Bus
	}
	return sources{n.Bus, n.layer}
}

// runEvents runs everything that events come from.
func (n *Node) runEvents() {
	var sink pubsub.Sink = n.hub
	if n.layer != nil {
		sink = &inTurn{sink: n.hub}
		n.background(func(ctx context.Context) error { return n.layer.Run(ctx, sink) })
	}
	n.background(func(ctx context.Context) error { return n.Bus.Run(ctx, sink) })
}

// sources are several places that events come from.
type sources []hub.Bus

var _ hub.Bus = sources(nil)

// Subscribe implements [hub.Bus]. It returns when events of all sources are certain to arrive.
func (s sources) Subscribe(ctx context.Context, g event.Group) error {
	for i, bus := range s {
		if err := bus.Subscribe(ctx, g); err != nil {
			s[:i].Unsubscribe(g)
			return err
		}
	}
	return nil
}

// Unsubscribe implements [hub.Bus].
func (s sources) Unsubscribe(g event.Group) {
	for _, bus := range s {
		bus.Unsubscribe(g)
	}
}

// inTurn is a Sink whose calls do not overlap, although several sources call it.
type inTurn struct {
	sink pubsub.Sink
	mu   sync.Mutex // held during calls, which do not block
}

var (
	_ pubsub.Sink       = (*inTurn)(nil)
	_ channellayer.Sink = (*inTurn)(nil)
)

// Deliver implements [pubsub.Sink].
func (t *inTurn) Deliver(e *event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sink.Deliver(e)
}

// Gap implements [pubsub.Sink].
func (t *inTurn) Gap(g event.Group) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sink.Gap(g)
}

// tryChannelLayer tries the connection to the channel layer, and looks for signs that the settings
// do not fit the site.
func (n *Node) tryChannelLayer(ctx context.Context, last *lastWarning) error {
	if err := last.eventually(ctx, "channellayer", n.layer.Healthy); err != nil {
		return err
	}
	return n.layer.Probe(ctx)
}
