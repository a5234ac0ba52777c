package cli

import (
	"orgcast/internal/app"
	"orgcast/internal/channellayer"
	"orgcast/internal/channellayer/wire"
	"orgcast/internal/config"
	"orgcast/internal/redisclient"
)

// declareChannelLayer declares the settings for Django sites whose group_send stays as it is.
func (s *settings) declareChannelLayer(set *config.Set) {
	set.Choice(&s.ChannelLayer, "channel-layer", "", []string{string(channellayer.Core), string(channellayer.PubSub)},
		"also take the events that a Django site sends with group_send, from its channel layer of channels_redis: RedisChannelLayer or RedisPubSubChannelLayer (docs/django.md); default: none")
	s.Layer.Name = "channel-layer-redis"
	set.URLs(&s.LayerURLs, s.Layer.Name, "", "with --channel-layer: URL of the Redis in the site's CHANNEL_LAYERS, as in --redis; of several hosts all URLs, comma-separated, in the same order",
		func(text string) error { return redisclient.CheckURL(s.Layer.Name, text) })
	declarePassword(set, &s.Layer, s.Layer.Name)
	declareAccess(set, &s.Layer, s.Layer.Name)
	set.String(&s.ChannelLayerPrefix, "channel-layer-prefix", channellayer.DefaultPrefix, "prefix in the site's CHANNEL_LAYERS", nil)
	set.Choice(&s.ChannelLayerFormat, "channel-layer-format", string(wire.MessagePack), []string{string(wire.MessagePack), string(wire.JSON)},
		"serializer_format in the site's CHANNEL_LAYERS")
	set.Secret(&s.ChannelLayerKeys, "channel-layer-keys", "symmetric_encryption_keys in the site's CHANNEL_LAYERS, comma-separated; hex-… for bytes in hexadecimal; default: events are not encrypted",
		func(text string) error { _, err := app.ParseLayerKeys(text); return err })
	set.Int(&s.ChannelLayerRandomPrefix, "channel-layer-random-prefix", channellayer.DefaultRandomPrefix, 0, "random_prefix_length in the site's CHANNEL_LAYERS, in bytes, for --channel-layer=core")
	set.Int(&s.ChannelLayerQueues, "channel-layer-queues", channellayer.DefaultQueues, 1, "queues of this node on each host with --channel-layer=core, at most 256: each holds 100 events before senders drop further ones")
}
