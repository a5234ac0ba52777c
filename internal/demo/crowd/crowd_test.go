package crowd_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"orgcast/internal/demo/crowd"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// stage is a gateway, a Redis, a session store and a directory in one. It delivers what it is told,
// to whom it likes.
type stage struct {
	deliver func(s *stage, p event.Publication) // fixed after construction
	busy    int                                 // refuses every handshake this many times

	mu      sync.Mutex
	members map[string]bool            // ORG/USER
	signed  map[string]bool            // cookies
	refused map[string]int             // by cookie
	sockets map[string]*websocket.Conn // by cookie, which is ORG/USER
	peak    int
}

func newStage(deliver func(s *stage, p event.Publication)) *stage {
	return &stage{deliver: deliver, members: map[string]bool{}, signed: map[string]bool{}, refused: map[string]int{}, sockets: map[string]*websocket.Conn{}}
}

func (s *stage) Mint(_ context.Context, g session.Grant) (*http.Cookie, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value := g.Organization.String() + "/" + g.UserID
	s.signed[value] = true
	return &http.Cookie{Name: "session", Value: value}, nil
}

func (s *stage) SignOut(_ context.Context, r *http.Request) (*http.Cookie, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cookie, err := r.Cookie("session")
	if err != nil {
		return nil, err
	}
	delete(s.signed, cookie.Value)
	return cookie, nil
}

func (*stage) PutOrganization(context.Context, orgctx.ID, directory.Status) error { return nil }

func (s *stage) PutMember(_ context.Context, org orgctx.ID, user string, _ directory.Status, _ directory.Member) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members[org.String()+"/"+user] = true
	return nil
}

func (s *stage) RemoveMember(_ context.Context, org orgctx.ID, user string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, org.String()+"/"+user)
	return nil
}

func (s *stage) PublishAll(_ context.Context, list []event.Publication) []event.Receipt {
	receipts := make([]event.Receipt, len(list))
	for _, p := range list {
		s.deliver(s, p)
	}
	return receipts
}

// send sends an event to everyone of an organization.
func (s *stage) send(organization, payload string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for who, socket := range s.sockets {
		if strings.HasPrefix(who, organization+"/") {
			// A guest that has left needs nothing.
			_ = socket.Write(context.Background(), websocket.MessageText, []byte(`{"event":`+payload+`,"group":"all"}`))
		}
	}
}

func honest(s *stage, p event.Publication) {
	s.send(p.Group.Organization().String(), string(p.Payload))
}

func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cookie, err := r.Cookie("session")
	if err != nil {
		http.Error(w, "no session", http.StatusUnauthorized)
		return
	}
	who := cookie.Value
	s.mu.Lock()
	admitted := s.members[who] && s.signed[who] && r.URL.Path == "/ws/events"
	s.refused[who]++
	busy := s.refused[who] <= s.busy
	s.mu.Unlock()
	if !admitted {
		http.Error(w, "not a member", http.StatusForbidden)
		return
	}
	if busy {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"orgcast.v1"}})
	if err != nil {
		return
	}
	defer socket.CloseNow()
	org, user, _ := strings.Cut(who, "/")
	_ = socket.Write(r.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"welcome","organization_id":%q,"user_id":%q}`, org, user))
	if _, _, err := socket.Read(r.Context()); err != nil {
		return
	}
	s.mu.Lock()
	s.sockets[who] = socket
	s.peak = max(s.peak, len(s.sockets))
	s.mu.Unlock()
	_ = socket.Write(r.Context(), websocket.MessageText, []byte(`{"type":"subscribed","group":"all"}`))
	_, _, _ = socket.Read(r.Context()) // until the guest leaves
	s.mu.Lock()
	delete(s.sockets, who)
	s.mu.Unlock()
}

// open runs a crowd on the stage until the test ends.
func (s *stage) open(t *testing.T, o crowd.Options) *crowd.Crowd {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	site, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	o.Site, o.Sessions, o.Members, o.Publisher = site, s, s, s
	c := crowd.New(o)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return c
}

// finish waits for the end of a run.
func finish(t *testing.T, c *crowd.Crowd) crowd.Report {
	t.Helper()
	testkit.Eventually(t, "the end of the run", func() bool { return c.Report().State.Final() })
	return c.Report()
}

var small = crowd.Size{People: 7, Organizations: 3, Seconds: 1}

func TestCrowd(t *testing.T) {
	t.Parallel()
	s := newStage(honest)
	s.busy = 1
	c := s.open(t, crowd.Options{})
	if got := c.Report(); got.State != crowd.Idle {
		t.Errorf("before: got state %q, want idle", got.State)
	}
	for n := range 2 {
		if err := c.Start(small); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(small); !errors.Is(err, crowd.ErrRunning) {
			t.Errorf("a second start: got %v, want %v", err, crowd.ErrRunning)
		}
		got := finish(t, c)
		if got.State != crowd.Done || got.Run != n+1 || got.Size != small || got.Connected != small.People {
			t.Errorf("got %+v, want everyone in run %d", got, n+1)
		}
		if got.Published == 0 || got.Deliveries*small.Organizations != got.Published*small.People ||
			got.Crossed != 0 || got.Repeated != 0 || got.Lost != 0 || got.Ended != 0 || got.P50MS <= 0 || got.P99MS < got.P50MS {
			t.Errorf("got %+v, want every event once at everyone of its organization", got.Figures)
		}
	}
	testkit.Eventually(t, "that everyone has left", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.sockets) == 0
	})
	if len(s.members) != 0 || len(s.signed) != 0 || s.peak != small.People {
		t.Errorf("got %d members and %d sessions left, %d sockets at most; want 0, 0 and %d", len(s.members), len(s.signed), s.peak, small.People)
	}
}

// TestCrowdSeesAFaultyGateway: what a gateway does wrong moves the counter, all the way from the
// socket.
func TestCrowdSeesAFaultyGateway(t *testing.T) {
	t.Parallel()
	forge := func(payload []byte, organization string) string {
		var fields map[string]any
		if err := json.Unmarshal(payload, &fields); err != nil {
			panic(err)
		}
		fields["organization_id"] = organization
		forged, _ := json.Marshal(fields)
		return string(forged)
	}
	tests := map[string]struct {
		deliver func(s *stage, p event.Publication)
		wrong   func(f crowd.Figures) int
	}{
		"leaks": {func(s *stage, p event.Publication) {
			s.send("crowd-01", string(p.Payload))
			s.send("crowd-02", string(p.Payload))
		}, func(f crowd.Figures) int { return f.Crossed }},
		"leaks under another name": {func(s *stage, p event.Publication) {
			honest(s, p)
			s.send("crowd-02", forge(p.Payload, "crowd-02"))
		}, func(f crowd.Figures) int { return f.Crossed }},
		"repeats": {func(s *stage, p event.Publication) { honest(s, p); honest(s, p) }, func(f crowd.Figures) int { return f.Repeated }},
		"loses": {func(s *stage, p event.Publication) {
			if p.Group.Organization().String() != "crowd-02" {
				honest(s, p)
			}
		}, func(f crowd.Figures) int { return f.Lost }},
		"ends sockets": {func(s *stage, _ event.Publication) {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, socket := range s.sockets {
				_ = socket.CloseNow()
			}
		}, func(f crowd.Figures) int { return f.Ended }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newStage(test.deliver).open(t, crowd.Options{Settle: time.Millisecond})
			if err := c.Start(small); err != nil {
				t.Fatal(err)
			}
			if got := finish(t, c); got.State != crowd.Done || test.wrong(got.Figures) == 0 {
				t.Errorf("got %+v, want it counted", got)
			}
		})
	}
}

// TestCrowdLeavesWhenNobodyWatches: a closed page ends what it started.
func TestCrowdLeavesWhenNobodyWatches(t *testing.T) {
	t.Parallel()
	s := newStage(honest)
	c := s.open(t, crowd.Options{Unwatched: time.Millisecond})
	if err := c.Start(crowd.Size{People: 2, Organizations: 2, Seconds: 30}); err != nil {
		t.Fatal(err)
	}
	if got := finish(t, c); got.State != crowd.Unwatched {
		t.Errorf("got %+v, want a run that nobody watched", got)
	}
	if err := c.Start(small); err != nil {
		t.Errorf("after that: got %v, want another run", err)
	}
}

// TestCrowdIsRefused: people who cannot connect end the run, with a word for the page.
func TestCrowdIsRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	site, _ := url.Parse(server.URL)
	s := newStage(honest)
	c := crowd.New(crowd.Options{Site: site, Sessions: s, Members: s, Publisher: s})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = c.Run(ctx) })
	if err := c.Start(small); err != nil {
		t.Fatal(err)
	}
	if got := finish(t, c); got.State != crowd.Failed || got.Problem == "" || strings.Contains(got.Problem, site.Host) {
		t.Errorf("got %+v, want a failure in words for the page", got)
	}
	if len(s.signed) != 0 || len(s.members) != 0 {
		t.Errorf("got %d sessions and %d members left, want none", len(s.signed), len(s.members))
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		size  crowd.Size
		files int
		want  error
	}{
		"largest":           {crowd.Largest(), 0, nil},
		"enough files":      {crowd.Largest(), 1300, nil},
		"too few files":     {crowd.Largest(), 1299, crowd.ErrFiles},
		"few people":        {crowd.Size{People: 2, Organizations: 2, Seconds: 1}, 1024, nil},
		"one organization":  {crowd.Size{People: 2, Organizations: 1, Seconds: 1}, 0, crowd.ErrSize},
		"too many":          {crowd.Size{People: 500, Organizations: 51, Seconds: 1}, 0, crowd.ErrSize},
		"empty":             {crowd.Size{People: 2, Organizations: 3, Seconds: 1}, 0, crowd.ErrSize},
		"too many people":   {crowd.Size{People: 501, Organizations: 3, Seconds: 1}, 0, crowd.ErrSize},
		"no time":           {crowd.Size{People: 2, Organizations: 2}, 0, crowd.ErrSize},
		"too long":          {crowd.Size{People: 2, Organizations: 2, Seconds: 31}, 0, crowd.ErrSize},
		"nothing":           {crowd.Size{}, 0, crowd.ErrSize},
		"fewer than nobody": {crowd.Size{People: -5, Organizations: -5, Seconds: -5}, 0, crowd.ErrSize},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := test.size.Check(test.files); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}
