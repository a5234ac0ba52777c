package channellayer_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/channellayer"
	"orgcast/internal/pubsub/pubsubtest"
	"orgcast/internal/redisclient"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// accessCommand matches the commands of docs/django.md that make users of Redis.
var accessCommand = regexp.MustCompile(`(?m)^\$ redis-cli ACL SETUSER gateway-(core|pubsub) on ">\$PASSWORD" (.*)$`)

// TestAccessInDocs: with the rights in docs/django.md, and no others, events flow.
func TestAccessInDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/django.md")
	if err != nil {
		t.Fatal(err)
	}
	found := accessCommand.FindAllStringSubmatch(string(page), -1)
	if len(found) != 2 {
		t.Fatalf("docs/django.md has %d users, want one for each layer", len(found))
	}
	for _, m := range found {
		t.Run(m[1], func(t *testing.T) {
			addr := redistest.Start(t)
			admin := redistest.NewClient(t, addr)
			args := []any{"ACL", "SETUSER", "gateway", "on", ">secret"}
			for rule := range strings.FieldsSeq(m[2]) {
				args = append(args, strings.Trim(rule, "'"))
			}
			if err := admin.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
			connector, err := redisclient.NewConnector(redisclient.Options{Name: "redis", URL: "redis://gateway:secret@" + addr + "/1"})
			if err != nil {
				t.Fatal(err)
			}
			client, err := connector.Connect(0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			o := options(channellayer.Kind(m[1]))
			o.RenewInterval = 10 * time.Millisecond
			l := channellayer.New(one(client), o)
			var sink pubsubtest.Recorder
			stop := start(t, l, &sink)
			ada, other := group("acme", "report_7"), group("acme", "report_8")
			join(t, l, ada, other)
			testkit.Eventually(t, "the layer is healthy", func() bool { return l.Healthy() == nil })
			s := &site{t, o.Kind, redis.NewClient(&redis.Options{Addr: addr, DB: 1})}
			defer func() { _ = s.client.Close() }()
			s.send(message{"report_7", note("acme", "one")})
			sink.WaitFor(t, item(ada, "one"))
			l.Unsubscribe(other)
			testkit.Eventually(t, "the node leaves", func() bool { return s.members("report_8") == 0 })
			if err := l.Probe(t.Context()); err != nil {
				t.Errorf("a user that must not look: got %v, want nil", err)
			}
			stop()
			testkit.Eventually(t, "the node leaves at the end", func() bool { return s.members("report_7") == 0 })
			denials, err := admin.ACLLog(t.Context(), 100).Result()
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range denials {
				if d.Object != "psubscribe" && d.Object != "pubsub|channels" && d.Object != "scan" { // of the probe
					t.Errorf("denied: %s of %s", d.Object, d.Username)
				}
			}
		})
	}
}
