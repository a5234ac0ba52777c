package outage_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/demo/outage"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// echo answers every line with the same line, until the test ends.
func echo(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
	return listener.Addr().String()
}

// ask sends a line on a connection and returns the answer.
func ask(c net.Conn) (answer string, err error) {
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err := fmt.Fprintln(c, "ping"); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

// dialAndAsk asks on a connection of its own. A plug that is pulled may end that while it is being
// opened.
func dialAndAsk(addr string) (answer string, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return ask(c)
}

func TestPlug(t *testing.T) {
	t.Parallel()
	p, err := outage.Open(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	before, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	for range 2 {
		if answer, err := ask(before); err != nil || answer != "ping\n" {
			t.Fatalf("plugged in: got %q and error %v, want an answer", answer, err)
		}
	}
	p.Pull()
	if answer, err := ask(before); err == nil {
		t.Errorf("pulled, open connection: got %q, want an error", answer)
	}
	if answer, err := dialAndAsk(p.Addr()); err == nil {
		t.Errorf("pulled, new connection: got %q, want an error", answer)
	}
	p.Restore()
	if answer, err := dialAndAsk(p.Addr()); err != nil || answer != "ping\n" {
		t.Errorf("restored: got %q and error %v, want an answer", answer, err)
	}
	if answer, err := ask(before); err == nil {
		t.Errorf("restored, connection from before: got %q, want an error", answer)
	}
}

// TestPlugWithoutAServer: a connection that leads nowhere ends.
func TestPlugWithoutAServer(t *testing.T) {
	t.Parallel()
	p, err := outage.Open("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := dialAndAsk(p.Addr()); err == nil {
		t.Errorf("got %q, want an error", answer)
	}
	p.Close() // returns when it accepts no connection any more
}

// world is Redis and what stands before it.
type world struct {
	out     io.Writer    // as in [outage.Options]
	fold    *outage.Fold // the same
	healthy func() error // the same

	mu       sync.Mutex
	away     bool
	broken   bool // stays away
	lose     bool // the next event is accepted, and its answer lost
	recorded []string
	texts    []string
	known    map[string]bool // by idempotency key
}

func (w *world) Pull()    { w.mu.Lock(); defer w.mu.Unlock(); w.away = true }
func (w *world) Restore() { w.mu.Lock(); defer w.mu.Unlock(); w.away = w.broken }

func (w *world) Record(_ context.Context, g event.Group, payload []byte, o event.Recording) (event.Position, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away {
		return event.Position{}, errors.New("connection refused")
	}
	if !w.known[o.IdempotencyKey] {
		var n struct{ Text string }
		if err := json.Unmarshal(payload, &n); err != nil {
			return event.Position{}, err
		}
		if err := event.Check(g, payload, 1<<10); err != nil {
			return event.Position{}, err
		}
		w.known[o.IdempotencyKey] = true
		w.recorded = append(w.recorded, g.String()+"/"+o.IdempotencyKey)
		w.texts = append(w.texts, n.Text)
	}
	if w.lose {
		w.lose = false
		return event.Position{}, errors.New("connection reset")
	}
	return event.Position{}, nil
}

// written returns what has been recorded, and the texts of it.
func (w *world) written() (recorded, texts []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.recorded), slices.Clone(w.texts)
}

// open lets outages begin in the world until the test ends.
func (w *world) open(t *testing.T) *outage.Outages {
	t.Helper()
	w.known = make(map[string]bool)
	o := outage.New(outage.Options{Plug: w, Recorder: w, Out: w.out, Fold: w.fold, Healthy: w.healthy})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := o.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return o
}

func authors(t *testing.T) []outage.Author {
	t.Helper()
	var list []outage.Author
	for org, user := range map[string]string{"acme": "ada", "globex": "grace"} {
		id, err := orgctx.ParseID(org)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, outage.Author{Organization: id, User: user})
	}
	return list
}

// TestOutage: what is written while Redis is away is kept and published when it is back, in order
// and once, even if an answer is lost.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{lose: true}
		o := w.open(t)
		if got := o.Report(); got.State != outage.Idle || got.Events == nil {
			t.Errorf("before: got %+v, want idle and no events", got)
		}
		if err := o.Start(authors(t), 5); err != nil {
			t.Fatal(err)
		}
		if err := o.Start(authors(t), 5); !errors.Is(err, outage.ErrRunning) {
			t.Errorf("a second start: got %v, want %v", err, outage.ErrRunning)
		}
		time.Sleep(4900 * time.Millisecond)
		synctest.Wait()
		got := o.Report()
		if recorded, _ := w.written(); got.State != outage.Away || len(got.Events) != 10 || len(recorded) != 0 || got.AwayMS < 4800 {
			t.Errorf("away: got %+v and %v recorded, want ten events kept", got, recorded)
		}
		for _, e := range got.Events {
			if !e.Kept || e.AcceptedMS != 0 {
				t.Errorf("away: got %+v, want it kept", e)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		got = o.Report()
		if got.State != outage.Done || got.Run != 1 || got.AwayMS < 5000 || got.AwayMS > 5200 {
			t.Fatalf("back: got %+v, want it done after 5 s", got)
		}
		recorded, texts := w.written()
		var want []string
		for i, e := range got.Events {
			if e.AcceptedMS < got.AwayMS || e.Tries == 0 {
				t.Errorf("back: got %+v, want it accepted after the outage", e)
			}
			want = append(want, e.Organization.String()+"/all/"+e.ID)
			if text := fmt.Sprintf("Written without Redis (%d of 5)", i/2+1); texts[i] != text {
				t.Errorf("event %d: got %q, want %q", i, texts[i], text)
			}
		}
		if !slices.Equal(recorded, want) {
			t.Errorf("recorded: got %v, want %v", recorded, want)
		}
		if first := got.Events[0].Tries; first < 3 {
			t.Errorf("got %d tries of the first event, want each of them counted", first)
		}
		if err := o.Start(authors(t), 1); err != nil {
			t.Errorf("another outage: got %v", err)
		}
	})
}

// TestOutageWithoutEnd: if Redis does not come back, the report says that events are not published.
func TestOutageWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{broken: true}
		o := w.open(t)
		if err := o.Start(authors(t), 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		got := o.Report()
		if got.State != outage.Stuck || len(got.Events) != 10 || got.Events[9].AcceptedMS != 0 {
			t.Errorf("got %+v, want it stuck with nothing accepted", got)
		}
	})
}

func TestSeconds(t *testing.T) {
	t.Parallel()
	o := outage.New(outage.Options{})
	for _, seconds := range []int{-1, 0, outage.MostSeconds + 1} {
		if err := o.Start(nil, seconds); !errors.Is(err, outage.ErrSeconds) {
			t.Errorf("%d: got %v, want %v", seconds, err, outage.ErrSeconds)
		}
	}
}
