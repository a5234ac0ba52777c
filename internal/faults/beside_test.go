package faults_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

var beside = flag.Bool("beside", false, "measure what one organization's members cost another one (make measure-beside), instead of what takes seconds")

// scaled returns what a test uses, or a measurement.
func scaled[T any](test, measurement T) T {
	if *beside {
		return measurement
	}
	return test
}

// TestBesideHistory measures a quiet organization while members of another one page through a history
// of up to 2.5 GB, over the socket and over HTTP, as fast as they may.
func TestBesideHistory(t *testing.T) {
	if !*beside {
		t.Parallel()
	}
	const (
		bytes         = 250_000
		key           = "publish-key-of-32-bytes-or-more!!"
		pagers, asked = 20, 4
	)
	events, rounds, each, lead := scaled(100, 10_000), scaled(1, 3), scaled(time.Second, 12*time.Second), scaled(time.Second, 3*time.Second)
	binary, addr := buildGateway(t), redistest.Start(t)
	start := func() *process {
		p := startGateway(t, binary, "ORGCAST_REDIS=redis://"+addr, "ORGCAST_PUBLISH_KEY="+key)
		testkit.Eventually(t, "ready", func() bool { return p.ready(t.Context()) })
		return p
	}
	near, far := start(), start()
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	began := time.Now()
	payload := `{"type":"note","organization_id":"loud","text":"` + strings.Repeat("x", bytes-60) + `"}`
	for i := 0; i < events; i += 20 {
		pipe := client.Pipeline()
		for range 20 {
			pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: "orgcast:{loud}:history:room.1", Values: []any{"event", payload}})
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d events of %d bytes recorded in %v", events, bytes, time.Since(began).Round(time.Second))
	q := startQuiet(t, near, addr, 100)

	var with, without, elsewhere []time.Duration
	for round := range rounds {
		without = append(without, q.calm(each, fmt.Sprint("alone, round ", round)))
		for _, at := range []*process{near, far} {
			ctx, cancel := context.WithTimeout(t.Context(), lead+each)
			b := &browsing{t: t, p: at, key: key, client: &http.Client{Transport: new(http.Transport)}}
			var running sync.WaitGroup
			for i := range pagers {
				running.Go(func() { b.pages(ctx, fmt.Sprint("l", i)) })
			}
			for range asked {
				running.Go(func() { b.asks(ctx) })
			}
			running.Go(func() { b.strangers(ctx) })
			time.Sleep(lead) // what may be read at once has been read, and what follows lasts
			if at == near {
				with = append(with, q.measure(ctx, fmt.Sprint("history, round ", round)))
			} else {
				elsewhere = append(elsewhere, q.measure(ctx, fmt.Sprint("history at another node, round ", round)))
			}
			running.Wait()
			cancel()
			b.client.CloseIdleConnections()
			if b.paged.Load() == 0 || b.answered.Load() == 0 || b.refused.Load() == 0 {
				t.Error("not everything was asked")
			}
			t.Logf("  %d pages over sockets, %d over HTTP, %.0f MB/s; %d questions about other groups", b.paged.Load(), b.answered.Load(), float64(b.bytes.Load())/1e6/(lead+each).Seconds(), b.refused.Load())
		}
	}
	ratios(t, "with history, compared with alone", with, without)
	ratios(t, "with history, compared with the same at another node", with, elsewhere)
}

// browsing is members who page through a history.
type browsing struct {
	t   *testing.T
	p   *process
	key string

	client *http.Client

	paged, answered, refused, bytes atomic.Int64
}

// pages asks for page after page over a socket, from the newest to the oldest and again.
func (b *browsing) pages(ctx context.Context, user string) {
	c, err := member(b.t, b.p, "loud", user, `{"type":"subscribe","group":"room.1"}`)
	if err != nil {
		b.t.Error(err)
		return
	}
	defer c.Conn.Close()
	before := ""
	for asked := false; ctx.Err() == nil; {
		text, err := c.Next()
		if err != nil {
			b.t.Errorf("%s: %v", user, err)
			return
		}
		switch {
		case strings.HasPrefix(text, `{"type":"history"`):
			b.paged.Add(1)
			b.bytes.Add(int64(len(text)))
			if !strings.Contains(text[:min(len(text), 200)], `"organization_id":"loud"`) || strings.Contains(text, "quiet") {
				b.t.Errorf("got %.200s", text)
			}
			before = positionIn(text)
		case strings.HasPrefix(text, `{"type":"error"`):
			time.Sleep(20 * time.Millisecond) // it asks too fast
		case asked || !strings.HasPrefix(text, `{"type":"subscribed"`):
			continue
		}
		asked = true
		if err := c.SendText(`{"type":"history","group":"room.1","limit":50` + before + `}`); err != nil {
			b.t.Error(err)
			return
		}
	}
}

// positionIn returns where the page before one begins, as a field.
func positionIn(page string) string {
	if !strings.Contains(page[max(len(page)-200, 0):], `"more":true`) {
		return ""
	}
	_, rest, _ := strings.Cut(page, `"id":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return `,"before":"` + id + `"`
}

// get asks the private listener for a page of a history.
func (b *browsing) get(ctx context.Context, query string) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.p.private+"/v1/history?"+query, http.NoBody)
	if err != nil {
		b.t.Error(err)
		return ""
	}
	r.Header.Set("Authorization", "Bearer "+b.key)
	answer, err := b.client.Do(r)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return string(text)
}

// asks asks for page after page over HTTP.
func (b *browsing) asks(ctx context.Context) {
	before := ""
	for ctx.Err() == nil {
		text := b.get(ctx, "organization_id=loud&group=room.1&limit=50"+before)
		if strings.HasPrefix(text, `{"events":`) {
			b.answered.Add(1)
			b.bytes.Add(int64(len(text)))
		} else if text != "" && !strings.Contains(text, "unavailable") {
			b.t.Errorf("over HTTP: got %.200s", text)
		}
		if before = positionIn(text); before != "" {
			before = "&before=" + strings.Trim(strings.TrimPrefix(before, `,"before":`), `"`)
		}
	}
}

// strangers asks for what is not theirs: a member of quiet for a group of the same name, and for one
// to which it has not subscribed; a member of loud for a group that it has left; a back end for
// another organization's group.
func (b *browsing) strangers(ctx context.Context) {
	foreign, err := member(b.t, b.p, "quiet", "stranger", `{"type":"subscribe","group":"room.1"}`)
	if err != nil {
		b.t.Error(err)
		return
	}
	defer foreign.Conn.Close()
	left, err := member(b.t, b.p, "loud", "left", `{"type":"subscribe","group":"room.1"}`)
	if err != nil {
		b.t.Error(err)
		return
	}
	defer left.Conn.Close()
	if err := left.SendText(`{"type":"unsubscribe","group":"room.1"}`); err != nil {
		b.t.Error(err)
		return
	}
	for ctx.Err() == nil {
		b.expect(foreign, `{"type":"history","group":"room.1"}`, `"events":[]`)
		b.expect(foreign, `{"type":"history","group":"room.2"}`, `unknown_group`)
		b.expect(left, `{"type":"history","group":"room.1"}`, `unknown_group`)
		if text := b.get(ctx, "organization_id=quiet&group=room.1"); text != "" && !strings.Contains(text, `"events":[]`) && !strings.Contains(text, "unavailable") {
			b.t.Errorf("a back end: got %.200s", text)
		}
		b.refused.Add(4)
		time.Sleep(100 * time.Millisecond)
	}
}

// expect asks, and waits for the answer.
func (b *browsing) expect(c *testkit.Client, question, want string) {
	if err := c.SendText(question); err != nil {
		b.t.Error(err)
		return
	}
	for {
		text, err := c.Next()
		if err != nil {
			b.t.Error(err)
			return
		}
		if strings.Contains(text, "xxxx") {
			b.t.Errorf("%s: got %.200s", question, text)
		}
		if strings.HasPrefix(text, `{"type":"history"`) || strings.HasPrefix(text, `{"type":"error"`) {
			if !strings.Contains(text, want) && !strings.Contains(text, "unavailable") {
				b.t.Errorf("%s: got %.200s, want %s", question, text, want)
			}
			return
		}
	}
}

// TestBesideConnects measures a quiet organization while up to 10,000 users of 100 organizations connect
// up to 100,000 times, at a gateway with webhooks and at one without.
func TestBesideConnects(t *testing.T) {
	if !*beside {
		t.Parallel()
	}
	const organizations, workers = 100, 64
	rounds, connects, users := scaled(2, 4), scaled(300, 25_000), scaled(200, 10_000)
	var told atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		told.Add(1)
	}))
	defer receiver.Close()
	binary := buildGateway(t)
	start := func(env ...string) (*process, *quiet) {
		addr := redistest.Start(t)
		p := startGateway(t, binary, append([]string{"ORGCAST_REDIS=redis://" + addr, "ORGCAST_HANDSHAKES_PER_SECOND=100000"}, env...)...)
		testkit.Eventually(t, "ready", func() bool { return p.ready(t.Context()) })
		return p, startQuiet(t, p, addr, 100)
	}
	plain, besidePlain := start()
	telling, besideTelling := start("ORGCAST_WEBHOOK_URL="+receiver.URL, "ORGCAST_WEBHOOK_KEY=webhook-key-of-32-bytes-or-more!!", "ORGCAST_WEBHOOK_GROUPS=*")
	var with, without, calm []time.Duration
	for round := range rounds {
		calm = append(calm, besideTelling.calm(scaled(time.Second, 8*time.Second), fmt.Sprint("alone, round ", round)))
		for _, at := range []struct {
			p    *process
			q    *quiet
			name string
			to   *[]time.Duration
		}{{plain, besidePlain, "connects without webhooks", &without}, {telling, besideTelling, "connects with webhooks", &with}} {
			ctx, cancel := context.WithCancel(t.Context())
			began := time.Now()
			var took time.Duration
			var next atomic.Int64
			var failed atomic.Int64
			var running sync.WaitGroup
			for range workers {
				running.Go(func() {
					for i := next.Add(1); i <= int64(connects); i = next.Add(1) {
						user := (int(i) + round*connects) % users
						c, err := member(t, at.p, fmt.Sprint("org", user%organizations), fmt.Sprint("u", user), `{"type":"subscribe","group":"all"}`)
						if err != nil {
							failed.Add(1)
							continue
						}
						_ = c.Send(testkit.Frame{Opcode: testkit.OpClose, Payload: []byte{3, 232}})
						_, _ = io.Copy(io.Discard, c.Conn)
						_ = c.Conn.Close()
					}
				})
			}
			go func() { running.Wait(); took = time.Since(began); cancel() }()
			*at.to = append(*at.to, at.q.measure(ctx, fmt.Sprint(at.name, ", round ", round)))
			running.Wait()
			if failed.Load() > 0 {
				t.Errorf("%d of %d connects failed", failed.Load(), connects)
			}
			t.Logf("  %.0f connects per second", float64(connects)/took.Seconds())
		}
	}
	testkit.Eventually(t, "all webhooks are delivered", func() bool {
		text, err := telling.ask(t.Context(), "/metrics")
		return err == nil && strings.Contains(text, `orgcast_webhooks{state="waiting"} 0`)
	})
	text, err := telling.ask(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "orgcast_webhooks_") || strings.HasPrefix(line, "orgcast_webhook_deliveries_total") {
			t.Log("  ", strings.TrimSpace(line))
		}
	}
	if told.Load() == 0 {
		t.Error("no webhook was called")
	}
	t.Logf("%d calls reached the receiver", told.Load())
	ratios(t, "connects with webhooks, compared with connects without", with, without)
	ratios(t, "connects with webhooks, compared with alone", with, calm)
}

// TestBesidePresence measures a quiet organization while up to 10,000 users of another one join a group and
// leave it within a minute, and see each other or not.
func TestBesidePresence(t *testing.T) {
	if !*beside {
		t.Parallel()
	}
	rounds, users, over := scaled(1, 3), scaled(100, 10_000), scaled(4*time.Second, 20*time.Second)
	binary, addr := buildGateway(t), redistest.Start(t)
	p := startGateway(t, binary, "ORGCAST_REDIS=redis://"+addr, "ORGCAST_PRESENCE_POLICY=room.*=users", "ORGCAST_PING_INTERVAL=10m", "ORGCAST_MAX_PER_ORGANIZATION=0")
	testkit.Eventually(t, "ready", func() bool { return p.ready(t.Context()) })
	q := startQuiet(t, p, addr, 100)
	var with, without, calm []time.Duration
	for round := range rounds {
		calm = append(calm, q.calm(scaled(time.Second, 8*time.Second), fmt.Sprint("alone, round ", round)))
		for _, frame := range []string{joins, watches} {
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			for i := range users {
				running.Go(func() {
					time.Sleep(time.Duration(i) * over * 3 / 4 / time.Duration(users))
					c, err := member(t, p, "loud", fmt.Sprint("user", i), frame)
					if err != nil {
						t.Error(err)
						return
					}
					leaving := time.AfterFunc(over/4, func() { _ = c.Send(testkit.Frame{Opcode: testkit.OpClose, Payload: []byte{3, 232}}) })
					defer leaving.Stop()
					c.Timeout = 0
					_, _ = io.Copy(io.Discard, c.Conn)
					_ = c.Conn.Close()
				})
			}
			go func() { running.Wait(); cancel() }()
			if frame == joins {
				without = append(without, q.measure(ctx, fmt.Sprintf("%d join and leave, round %d", users, round)))
			} else {
				with = append(with, q.measure(ctx, fmt.Sprint("the same, and watch, round ", round)))
			}
			running.Wait()
		}
	}
	ratios(t, "those who watch, compared with those who do not", with, without)
	ratios(t, "those who watch, compared with alone", with, calm)
}
