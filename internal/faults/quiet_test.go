package faults_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

// member opens a connection of a user.
func member(tb testing.TB, p *process, org, user, frame string) (*testkit.Client, error) {
	tb.Helper()
	store, err := session.NewCookieStore([]session.KeyPair{{Hash: []byte(sessionKey)}}, session.Options{})
	if err != nil {
		return nil, err
	}
	id, err := orgctx.ParseID(org)
	if err != nil {
		return nil, err
	}
	cookie, err := store.Mint(tb.Context(), session.Grant{UserID: user, Organization: id})
	if err != nil {
		return nil, err
	}
	c, answer, err := testkit.Open(tb.Context(), testkit.DialTCP(p.public), testkit.Handshake{Path: "/ws/events", Header: http.Header{
		"Origin": {origin}, "Cookie": {cookie.Name + "=" + cookie.Value}, "Sec-Websocket-Protocol": {"orgcast.v1"},
	}})
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, fmt.Errorf("handshake: %d", answer.Status)
	}
	return c, c.SendText(frame)
}

// quiet is an organization whose members get a few events.
type quiet struct {
	t      *testing.T
	client *redis.Client

	mu  sync.Mutex
	lat []time.Duration
}

// startQuiet connects members of the organization quiet to a gateway. They see to it that they get
// nothing of others.
func startQuiet(t *testing.T, p *process, redisAddr string, members int) *quiet {
	t.Helper()
	q := &quiet{t: t, client: redis.NewClient(&redis.Options{Addr: redisAddr})}
	var running sync.WaitGroup
	t.Cleanup(func() { running.Wait(); _ = q.client.Close() })
	for i := range members {
		c, err := member(t, p, "quiet", fmt.Sprint("q", i), `{"type":"subscribe","group":"all"}`)
		if err != nil {
			t.Fatal(err)
		}
		for text := ""; !strings.Contains(text, "subscribed"); {
			if text, err = c.Next(); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { _ = c.Conn.Close() })
		running.Go(func() { q.read(c) })
	}
	return q
}

func (q *quiet) read(c *testkit.Client) {
	for {
		text, err := c.Next()
		if err != nil {
			return
		}
		if strings.Contains(text, "loud") {
			q.t.Errorf("a member of quiet got %.200s", text)
		}
		if _, rest, ok := strings.Cut(text, `"at":"`); ok {
			at, _, _ := strings.Cut(rest, `"`)
			ns, _ := strconv.ParseInt(at, 10, 64)
			q.mu.Lock()
			q.lat = append(q.lat, time.Since(time.Unix(0, ns)))
			q.mu.Unlock()
		}
	}
}

// measure publishes 20 events per second until the context ends, and returns the 99th percentile of
// their ways.
func (q *quiet) measure(ctx context.Context, what string) time.Duration {
	q.t.Helper()
	q.mu.Lock()
	q.lat = nil
	q.mu.Unlock()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		event := fmt.Sprintf(`{"type":"note","organization_id":"quiet","at":"%d"}`, time.Now().UnixNano())
		if err := q.client.Publish(q.t.Context(), "orgcast:{quiet}:group:all", event).Err(); err != nil {
			q.t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	time.Sleep(200 * time.Millisecond) // the last ones arrive
	testkit.Eventually(q.t, what+": an event arrives", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.lat) > 0
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	slices.Sort(q.lat)
	p99 := q.lat[len(q.lat)*99/100]
	q.t.Logf("%-34s %6d deliveries, p50 %7.2f ms, p99 %7.2f ms", what, len(q.lat), ms(q.lat[len(q.lat)/2]), ms(p99))
	return p99
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// calm measures for a while in which nothing else happens.
func (q *quiet) calm(d time.Duration, what string) time.Duration {
	q.t.Helper()
	ctx, cancel := context.WithTimeout(q.t.Context(), d)
	defer cancel()
	return q.measure(ctx, what)
}

// ratios logs the median of ratios, with the lowest and the highest.
func ratios(t *testing.T, what string, with, without []time.Duration) {
	t.Helper()
	var list []float64
	for i := range with {
		list = append(list, float64(with[i])/float64(without[i]))
	}
	slices.Sort(list)
	t.Logf("%s: p99 %.2f times (%.2f–%.2f)", what, list[len(list)/2], list[0], list[len(list)-1])
}
