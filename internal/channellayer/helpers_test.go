package channellayer_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tinylib/msgp/msgp"

	"orgcast/internal/channellayer"
	"orgcast/internal/channellayer/wire"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func group(org, name string) event.Group {
	id, err := orgctx.ParseID(org)
	if err != nil {
		panic(err)
	}
	g, err := event.NewGroup(id, name)
	if err != nil {
		panic(err)
	}
	return g
}

// pack writes a map of texts as MessagePack.
func pack(pairs ...string) []byte {
	b := msgp.AppendMapHeader(nil, uint32(len(pairs)/2))
	for _, s := range pairs {
		b = msgp.AppendString(b, s)
	}
	return b
}

// note is an event of an organization.
func note(org, text string) []string {
	return []string{"type", "note", "organization_id", org, "text", text}
}

// item is what a Sink gets for a note.
func item(g event.Group, text string) pubsubtest.Item {
	return pubsubtest.Item{Group: g, Payload: fmt.Sprintf(`{"type": "note", "organization_id": "%s", "text": "%s"}`, g.Organization(), text)}
}

// site sends as channels_redis does.
type site struct {
	t      *testing.T
	kind   channellayer.Kind
	client *redis.Client
}

// sendMany adds messages to the queues of the members of groups, at once, so that nobody reads
// meanwhile. ARGV: for each message a group's key, a head and a text between which the receiver
// stands.
const sendMany = `
local sent = 0
for i = 1, #ARGV, 3 do
  for _, member in ipairs(redis.call('ZRANGE', ARGV[i], 0, -1)) do
    local queue = 'asgi' .. string.match(member, '^[^!]*!')
    if redis.call('ZCOUNT', queue, '-inf', '+inf') < 100 then
      sent = sent + 1
      local text = ARGV[i+1] .. string.char(0xd9, #member) .. member
      redis.call('ZADD', queue, i, string.format('%012d', i) .. text)
      redis.call('EXPIRE', queue, 60)
    end
  end
end
return sent`

type message struct {
	group string
	pairs []string
}

// send sends messages, and returns how many were not dropped.
func (s *site) send(list ...message) (sent int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if s.kind == channellayer.PubSub {
		for _, m := range list {
			if err := s.client.Publish(ctx, wire.PubSubChannel("asgi", m.group), pack(m.pairs...)).Err(); err != nil {
				s.t.Fatal(err)
			}
		}
		return len(list)
	}
	var args []any
	for _, m := range list {
		b := msgp.AppendMapHeader(nil, uint32(len(m.pairs)/2+1))
		for _, text := range append(append([]string{}, m.pairs...), "__asgi_channel__") {
			b = msgp.AppendString(b, text)
		}
		args = append(args, wire.GroupKey("asgi", m.group), b, "")
	}
	sent, err := s.client.Eval(ctx, sendMany, nil, args...).Int()
	if err != nil {
		s.t.Fatal(err)
	}
	return sent
}

// members returns how often nodes are members of a group.
func (s *site) members(name string) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if s.kind == channellayer.PubSub {
		channel := wire.PubSubChannel("asgi", name)
		counts, err := s.client.PubSubNumSub(ctx, channel).Result()
		if err != nil {
			s.t.Fatal(err)
		}
		return int(counts[channel])
	}
	n, err := s.client.ZCard(ctx, wire.GroupKey("asgi", name)).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	return int(n)
}

// redisMember is a member with any score.
func redisMember(name string) redis.Z { return redis.Z{Score: 1, Member: name} }

func options(kind channellayer.Kind) channellayer.Options {
	return channellayer.Options{
		Kind: kind, Prefix: channellayer.DefaultPrefix,
		Decoder: &wire.Decoder{Format: wire.MessagePack, RandomPrefix: channellayer.DefaultRandomPrefix},
	}
}

// start runs a layer until the returned function is called, or the test ends.
func start(tb testing.TB, l *channellayer.Layer, sink channellayer.Sink) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, sink) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				tb.Errorf("Run: got %v, want nil", err)
			}
		case <-time.After(testkit.Patience):
			tb.Error("Run did not return after its context ended")
		}
	})
	tb.Cleanup(stop)
	return stop
}

func join(tb testing.TB, l *channellayer.Layer, groups ...event.Group) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	for _, g := range groups {
		for { // the layer's own patience is shorter
			err := l.Subscribe(ctx, g)
			if err == nil {
				break
			}
			if ctx.Err() != nil || !strings.Contains(err.Error(), "in time") {
				tb.Fatal(err)
			}
		}
	}
}

// one is the list of servers of a site that has only one.
func one(client redis.UniversalClient) []redis.UniversalClient {
	return []redis.UniversalClient{client}
}
