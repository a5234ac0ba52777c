package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/api"
	"orgcast/internal/event"
	"orgcast/internal/testkit"
)

// longHistory has pages of 1 MiB, and sees how many are read at once.
type longHistory struct {
	api.Histories

	page           []*event.Event
	reading, reads atomic.Int32
	most           atomic.Int32
}

func (l *longHistory) Before(context.Context, event.Group, event.Position, int, int) ([]*event.Event, bool, error) {
	l.most.Store(max(l.most.Load(), l.reading.Add(1)))
	defer l.reading.Add(-1)
	l.reads.Add(1)
	time.Sleep(10 * time.Millisecond) // of fake time: what Redis takes
	return l.page, true, nil
}

// TestHistoriesTakeTurns: programs that page through histories as fast as they can read one page at a
// time, and no more bytes per second than connections do. A request that waits for too long is told
// to try again.
func TestHistoriesTakeTurns(t *testing.T) {
	g := testkit.Group(t, "acme", "all")
	e, err := event.Decode(g, `{"type":"n","organization_id":"acme","text":"`+strings.Repeat("x", 1<<20)+`"}`, 2<<20, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		l := &longHistory{page: []*event.Event{e}}
		h := api.New(api.Options{PublishKey: api.NewKey(historyKey), Publisher: new(recorder), Revoker: new(revoker), Histories: l, Log: nop})
		ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second)
		defer cancel()
		var answers [2]atomic.Int32 // pages, and requests that were told to wait
		var running sync.WaitGroup
		for range 200 {
			running.Go(func() {
				for ctx.Err() == nil {
					r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/history?organization_id=acme&group=all", http.NoBody)
					r.Header.Set("Authorization", "Bearer "+historyKey)
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					switch {
					case w.Code == http.StatusOK:
						answers[0].Add(1)
					case strings.Contains(w.Body.String(), `"busy"`):
						answers[1].Add(1)
					case ctx.Err() == nil:
						t.Errorf("got %d %s", w.Code, w.Body)
					}
				}
			})
		}
		running.Wait()
		if got, want := l.reads.Load(), int32(11*api.HistoryRate()>>20+5); got > want || got < want/2 {
			t.Errorf("got %d pages of 1 MiB in 11 s, want up to %d", got, want)
		}
		if l.most.Load() != 1 || answers[0].Load() == 0 || answers[1].Load() == 0 {
			t.Errorf("got %d at once, %d pages and %d that were told to wait", l.most.Load(), answers[0].Load(), answers[1].Load())
		}
	})
}

// stalled is a client that does not read.
type stalled struct {
	*httptest.ResponseRecorder

	reads chan struct{}
}

// Write implements http.ResponseWriter.
func (s stalled) Write(b []byte) (int, error) {
	<-s.reads
	return s.ResponseRecorder.Write(b)
}

// TestStalledReaderKeepsNoTurn: a program that does not read its page keeps no other from its own.
func TestStalledReaderKeepsNoTurn(t *testing.T) {
	e, err := event.Decode(testkit.Group(t, "acme", "all"), `{"type":"n","organization_id":"acme"}`, 1<<10, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		l := &longHistory{page: []*event.Event{e}}
		h := api.New(api.Options{PublishKey: api.NewKey(historyKey), Publisher: new(recorder), Revoker: new(revoker), Histories: l, Log: nop})
		ask := func(w http.ResponseWriter) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/history?organization_id=acme&group=all", http.NoBody)
			r.Header.Set("Authorization", "Bearer "+historyKey)
			h.ServeHTTP(w, r)
		}
		first, second := stalled{httptest.NewRecorder(), make(chan struct{})}, httptest.NewRecorder()
		var running sync.WaitGroup
		running.Go(func() { ask(first) })
		synctest.Wait()
		time.Sleep(time.Second) // of fake time: the first page is read
		ask(second)
		if second.Code != http.StatusOK {
			t.Errorf("got %d %s, want a page", second.Code, second.Body)
		}
		close(first.reads)
		running.Wait()
	})
}
