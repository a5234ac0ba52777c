package main

import (
	"context"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/cli"
	"orgcast/internal/testkit/redistest"
)

// TestCheckOfTheChannelLayer: check says what is wrong with --channel-layer.
func TestCheckOfTheChannelLayer(t *testing.T) {
	t.Parallel()
	queue := func(payload string) func(t *testing.T, layer *redis.Client) {
		return func(t *testing.T, layer *redis.Client) {
			t.Helper()
			member := redis.Z{Score: 1, Member: "0123456789ab" + payload}
			if err := layer.ZAdd(t.Context(), "asgispecific.0123456789abcdef0123456789abcdef!", member).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish := func(payload string) func(t *testing.T, layer *redis.Client) {
		return func(t *testing.T, layer *redis.Client) {
			t.Helper()
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() {
				defer close(done)
				for ctx.Err() == nil {
					_ = layer.Publish(ctx, "asgi__group__report_7", payload).Err() // the check fails if none arrives
					time.Sleep(time.Millisecond)
				}
			}()
			t.Cleanup(func() { cancel(); <-done })
		}
	}
	for name, test := range map[string]struct {
		env  environment
		site func(t *testing.T, layer *redis.Client)
		why  string // in the line of the layer
	}{
		"core":                {environment{"ORGCAST_CHANNEL_LAYER": "core"}, nil, "ok"},
		"pubsub":              {environment{"ORGCAST_CHANNEL_LAYER": "pubsub"}, nil, "ok"},
		"no server":           {environment{"ORGCAST_CHANNEL_LAYER": "core", "ORGCAST_CHANNEL_LAYER_REDIS": "redis://127.0.0.1:1"}, nil, "connection refused"},
		"no server of pubsub": {environment{"ORGCAST_CHANNEL_LAYER": "pubsub", "ORGCAST_CHANNEL_LAYER_REDIS": "redis://127.0.0.1:1"}, nil, "connection refused"},
		"another prefix": {environment{"ORGCAST_CHANNEL_LAYER": "core"}, func(t *testing.T, layer *redis.Client) {
			t.Helper()
			if err := layer.ZAdd(t.Context(), "shop:group:report_7", redis.Z{Score: 1, Member: "specific.x!y"}).Err(); err != nil {
				t.Fatal(err)
			}
		}, `groups begin with ["shop"]`},
		"another prefix of pubsub": {environment{"ORGCAST_CHANNEL_LAYER": "pubsub"}, func(t *testing.T, layer *redis.Client) {
			t.Helper()
			s := layer.Subscribe(t.Context(), "shop__group__report_7")
			t.Cleanup(func() { _ = s.Close() })
			if _, err := s.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, `groups begin with ["shop"]`},
		"JSON":                  {environment{"ORGCAST_CHANNEL_LAYER": "core"}, queue(`{"type": "a", "__asgi_channel__": ["specific.x!y"]}`), "--channel-layer-format json"},
		"JSON of pubsub":        {environment{"ORGCAST_CHANNEL_LAYER": "pubsub"}, publish(`{"type": "a"}`), "--channel-layer-format json"},
		"encrypted":             {environment{"ORGCAST_CHANNEL_LAYER": "core"}, queue("gAAAAABpVbkAlpwga6DMj461bq6rjdsbYcQy31Mv237LWZ7NNNKYP4lE6BXn81nvm42tz8Ub3Sh0A5e9j9"), "--channel-layer-keys-file"},
		"not encrypted":         {environment{"ORGCAST_CHANNEL_LAYER": "pubsub", "ORGCAST_CHANNEL_LAYER_KEYS": "key"}, publish("\x81\xa1a\x01"), "remove --channel-layer-keys"},
		"readable":              {environment{"ORGCAST_CHANNEL_LAYER": "core", "ORGCAST_CHANNEL_LAYER_FORMAT": "json"}, queue(`{"type": "a", "__asgi_channel__": ["specific.x!y"]}`), "ok"},
		"another random prefix": {environment{"ORGCAST_CHANNEL_LAYER": "core", "ORGCAST_CHANNEL_LAYER_RANDOM_PREFIX": "16"}, queue("\x81\xb0__asgi_channel__\xa1a"), "--channel-layer-random-prefix"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own, layer := redistest.Start(t), redistest.Start(t)
			env := environment{
				"ORGCAST_REDIS": "redis://" + own, "ORGCAST_CHANNEL_LAYER_REDIS": "redis://" + layer, "ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey,
			}
			maps.Copy(env, test.env)
			if test.site != nil {
				test.site(t, redistest.NewClient(t, layer))
			}
			out, errOut, err := execute(t, env, "", "check", "--connect")
			found := regexp.MustCompile(`(?m)^  channel layer +(.*)$`).FindStringSubmatch(out)
			if found == nil {
				t.Fatalf("no line about the channel layer in\n%s%s", out, errOut)
			}
			if !strings.Contains(found[1], test.why) {
				t.Errorf("got %s, want %s", found[1], test.why)
			}
			if failed := cli.ExitCode(err) != 0; failed != (test.why != "ok") {
				t.Errorf("exit code: got %d\n%s", cli.ExitCode(err), errOut)
			}
		})
	}
}

// TestSettingsOfTheChannelLayer: check refuses settings that do not go together.
func TestSettingsOfTheChannelLayer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no server":       {[]string{"--channel-layer=core"}, "--channel-layer: requires --channel-layer-redis"},
		"no layer":        {[]string{"--channel-layer-redis=redis://127.0.0.1"}, "--channel-layer: must be core or pubsub"},
		"keys only":       {[]string{"--channel-layer-keys=a"}, "--channel-layer: must be core or pubsub"},
		"another layer":   {[]string{"--channel-layer=memory"}, "--channel-layer (from flag): must be one of core, pubsub"},
		"empty key":       {[]string{"--channel-layer=core", "--channel-layer-redis=redis://127.0.0.1", "--channel-layer-keys=a,,b"}, "key 2: is empty"},
		"wrong key":       {[]string{"--channel-layer=core", "--channel-layer-redis=redis://127.0.0.1", "--channel-layer-keys=hex-xyz"}, "key 1: hex- must be followed"},
		"too many queues": {[]string{"--channel-layer=core", "--channel-layer-redis=redis://127.0.0.1", "--channel-layer-queues=257"}, "--channel-layer-queues: must be at most 256"},
		"no queues":       {[]string{"--channel-layer=core", "--channel-layer-redis=redis://127.0.0.1", "--channel-layer-queues=0"}, "--channel-layer-queues (from flag): must be at least 1"},
		"password only":   {[]string{"--channel-layer-redis-password=a"}, "--channel-layer-redis: must be set if another setting"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := environment{"ORGCAST_ORIGINS": testOrigin, "ORGCAST_SESSION_KEYS": testKey}
			_, errOut, err := execute(t, env, "", append([]string{"check"}, test.args...)...)
			if cli.ExitCode(err) != 2 || !strings.Contains(errOut, test.want) {
				t.Errorf("got %d, %s, want 2 and %q", cli.ExitCode(err), errOut, test.want)
			}
		})
	}
}
