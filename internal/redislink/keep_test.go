package redislink_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"orgcast/internal/redislink"
	"orgcast/internal/subconn"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// user records what happens to a link.
type user struct {
	mu     *sync.Mutex
	events *[]string
	link   *redislink.Link // set when it is opened
}

func (u *user) note(what string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	*u.events = append(*u.events, what)
}

func (u *user) Opened(l *redislink.Link, work func(func(ctx context.Context) error)) {
	u.link = l
	u.note("opened")
	work(func(ctx context.Context) error {
		<-ctx.Done()
		u.note("worked")
		return nil
	})
}
func (u *user) Message(m *redis.Message, _ time.Time) { u.note(m.Channel + " " + m.Payload) }
func (u *user) Subscription(m *redis.Subscription, _ time.Time) error {
	u.note(m.Kind + " " + m.Channel)
	return nil
}
func (u *user) Refused(error, time.Time) bool { return false }
func (u *user) UnconfirmedSince() time.Time   { return time.Time{} }
func (u *user) Closed()                       { u.note("closed") }

// kept is a link to its own server, kept by Keep.
type kept struct {
	server *redistest.Server
	client *redis.Client
	logs   *observer.ObservedLogs
	mu     sync.Mutex
	events []string
	stop   func() // returns when Keep has returned
}

func keep(t *testing.T, change func(o *redislink.Options)) *kept {
	t.Helper()
	core, logs := observer.New(zap.WarnLevel)
	k := &kept{server: redistest.StartServer(t), logs: logs}
	k.client = redistest.NewClient(t, k.server.Addr)
	dialer := subconn.NewDialer(k.client, nil)
	o := redislink.Options{
		Publish: func(ctx context.Context, channel, payload string) error {
			return k.client.Publish(ctx, channel, payload).Err()
		},
		Interval: 10 * time.Millisecond, Timeout: testkit.Patience, MinBackoff: time.Millisecond, MaxBackoff: 4 * time.Millisecond,
		Others: dialer, Log: zap.New(core), Lost: "lost",
	}
	change(&o)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		redislink.Keep(ctx, o, func(context.Context) (redislink.Connection, redislink.User, error) {
			return redislink.Connection{Dialer: dialer, Subscribe: "subscribe", Canary: "canary", Channels: []string{"news"}}, &user{mu: &k.mu, events: &k.events}, nil
		})
	})
	k.stop = func() { cancel(); running.Wait() }
	t.Cleanup(k.stop)
	return k
}

// has returns how often something was recorded.
func (k *kept) has(what string) (count int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.events {
		if e == what {
			count++
		}
	}
	return count
}

// TestKeepOpensAgain: a killed link is closed when nothing uses it anymore, and another one is
// opened.
func TestKeepOpensAgain(t *testing.T) {
	var mu sync.Mutex
	reopened := 0
	k := keep(t, func(o *redislink.Options) {
		o.Reopened = func() { mu.Lock(); defer mu.Unlock(); reopened++ }
	})
	for round := range 3 {
		testkit.Eventually(t, "it is open", func() bool { return k.has("opened") == round+1 })
		if err := k.client.Publish(t.Context(), "news", round).Err(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the message", func() bool { return k.has("news "+string(rune('0'+round))) == 1 })
		if err := k.client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "it is closed", func() bool { return k.has("closed") == round+1 })
	}
	testkit.Eventually(t, "it is open once more", func() bool { return k.has("opened") == 4 })
	k.stop()
	mu.Lock()
	defer mu.Unlock()
	if reopened != 3 {
		t.Errorf("reopened: got %d, want 3", reopened)
	}
	var life []string
	for _, e := range k.events {
		if !strings.HasPrefix(e, "news") {
			life = append(life, e)
		}
	}
	if got, want := strings.Join(life, " "), strings.TrimSpace(strings.Repeat("opened worked closed ", 4)); got != want {
		t.Errorf("life: got %q, want %q", got, want)
	}
}

// TestKeepStrict: a strict link is dropped if its canaries cannot be published. Another link is
// not.
func TestKeepStrict(t *testing.T) {
	for name, strict := range map[string]bool{"strict": true, "not strict": false} {
		t.Run(name, func(t *testing.T) {
			var tried sync.WaitGroup
			tried.Add(20)
			n := 0
			k := keep(t, func(o *redislink.Options) {
				o.Strict, o.Timeout = strict, 100*time.Millisecond
				if !strict {
					o.Timeout = testkit.Patience // so that no answer is late on a busy machine
				}
				o.Publish = func(context.Context, string, string) error {
					if n++; n <= 20 {
						tried.Done()
					}
					return errors.New("refused")
				}
			})
			tried.Wait()
			if strict {
				testkit.Eventually(t, "it is given up", func() bool { return k.has("closed") > 0 })
				return
			}
			if k.has("opened") != 1 || k.has("closed") != 0 {
				t.Errorf("opened %d times, closed %d times, want 1 and 0", k.has("opened"), k.has("closed"))
			}
		})
	}
}

// TestKeepHungServer: a link to a hung server is silent. It is opened again when the server
// continues.
func TestKeepHungServer(t *testing.T) {
	k := keep(t, func(o *redislink.Options) { o.Timeout = time.Second })
	testkit.Eventually(t, "it is open", func() bool { return k.has("opened") > 0 })
	k.server.Pause()
	before := k.has("closed")
	testkit.Eventually(t, "it is given up", func() bool { return k.has("closed") > before })
	opened := k.has("opened")
	k.server.Resume()
	testkit.Eventually(t, "it is open again", func() bool { return k.has("opened") > opened })
	testkit.Eventually(t, "a line in the log", func() bool { return k.logs.FilterMessage("lost").Len() > 0 })
}
