package faults_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"orgcast/internal/orgctx"
	"orgcast/internal/presence"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// attendee is a connection of a user that has joined a group.
type attendee struct {
	*testkit.Client

	user string
}

// attend connects a user of acme to a gateway and subscribes to room.1.
func attend(tb testing.TB, p *process, user, frame string) *attendee {
	tb.Helper()
	store, err := session.NewCookieStore([]session.KeyPair{{Hash: []byte(sessionKey)}}, session.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	org, err := orgctx.ParseID("acme")
	if err != nil {
		tb.Fatal(err)
	}
	cookie, err := store.Mint(tb.Context(), session.Grant{UserID: user, Organization: org})
	if err != nil {
		tb.Fatal(err)
	}
	c := testkit.Connect(tb, testkit.DialTCP(p.public), testkit.Handshake{Path: "/ws/events", Header: http.Header{
		"Origin": {origin}, "Cookie": {cookie.Name + "=" + cookie.Value}, "Sec-Websocket-Protocol": {"orgcast.v1"},
	}})
	if err := c.SendText(frame); err != nil {
		tb.Fatal(err)
	}
	return &attendee{c, user}
}

const (
	joins   = `{"type":"subscribe","group":"room.1"}`
	watches = `{"type":"subscribe","groups":{"room.1":{"presence":true}}}`
)

// audienceOf reads frames about presence in the background.
type audienceOf struct {
	mu    sync.Mutex
	count int
	left  map[string]int
	ended error // why it sees no more
}

func (a *audienceOf) follow(c *attendee, done chan<- struct{}) {
	defer close(done)
	for {
		text, err := c.Next()
		if err != nil {
			a.mu.Lock()
			a.ended = err
			a.mu.Unlock()
			return
		}
		var f struct {
			Type  string
			Count int
			Left  []struct {
				UserID string `json:"user_id"`
			}
		}
		if json.Unmarshal([]byte(text), &f) != nil || f.Type != "presence" && f.Type != "presence_change" {
			continue
		}
		a.mu.Lock()
		a.count = f.Count
		for _, u := range f.Left {
			a.left[u.UserID]++
		}
		a.mu.Unlock()
	}
}

func (a *audienceOf) now() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

// watchAt follows the presence at a gateway until the test ends.
func watchAt(tb testing.TB, p *process) *audienceOf {
	tb.Helper()
	a, done := &audienceOf{left: make(map[string]int)}, make(chan struct{})
	c := attend(tb, p, "watcher", watches)
	c.Timeout = 0
	go a.follow(c, done)
	tb.Cleanup(func() { _ = c.Conn.Close(); <-done })
	return a
}

// startPresent returns a function that starts gateways at one Redis, whose address it returns.
func startPresent(tb testing.TB) (start func() *process, addr string) {
	tb.Helper()
	binary, addr := buildGateway(tb), redistest.Start(tb)
	return func() *process {
		p := startGateway(tb, binary, "ORGCAST_REDIS=redis://"+addr, "ORGCAST_PRESENCE_POLICY=room.*=users", "ORGCAST_PING_INTERVAL=10m")
		testkit.Eventually(tb, "ready", func() bool { return p.ready(tb.Context()) })
		return p
	}, addr
}

// TestUsersOfAKilledGateway: a thousand users of a gateway that is killed are gone from the others.
func TestUsersOfAKilledGateway(t *testing.T) {
	small(t)
	const users = 1000
	start, _ := startPresent(t)
	stays, dies := start(), start()
	a := watchAt(t, stays)
	for i := range users {
		attend(t, dies, fmt.Sprint("user", i), joins)
	}
	testkit.Eventually(t, "all are seen", func() bool { return a.now() == users+1 })
	dies.kill()
	began := time.Now()
	t.Cleanup(func() {
		if t.Failed() {
			a.mu.Lock()
			defer a.mu.Unlock()
			t.Logf("the watcher sees %d users, and %v; the log of its gateway:\n%s", a.count, a.ended, strings.Join(stays.lines(), "\n"))
		}
	})
	testkit.Eventually(t, "they are gone", func() bool { return a.now() == 1 })
	t.Logf("%d users were gone %v after their gateway was killed", users, time.Since(began).Round(10*time.Millisecond))
}

// TestRollingDeployShowsNoLeave: gateways are replaced in turn, their users come back to others, and
// nobody is shown leaving who was back in time.
func TestRollingDeployShowsNoLeave(t *testing.T) {
	small(t)
	const users = 30
	start, addr := startPresent(t)
	watched := start()
	a := watchAt(t, watched)
	old := start()
	all := make([]*attendee, users)
	for i := range all {
		all[i] = attend(t, old, fmt.Sprint("user", i), joins)
	}
	testkit.Eventually(t, "all are seen", func() bool { return a.now() == users+1 })
	for range 2 {
		next := start()
		old.stop()
		var coming sync.WaitGroup
		late := make([]bool, users)
		for i, c := range all {
			coming.Go(func() {
				var closed *testkit.ClosedError
				for err := error(nil); !errors.As(err, &closed); {
					if _, err = c.Next(); err != nil && !errors.As(err, &closed) {
						t.Errorf("%s: %v", c.user, err)
						return
					}
				}
				went := time.Now()
				_ = c.Send(testkit.Frame{Opcode: testkit.OpClose, Payload: []byte{0x03, 0xf4}})
				all[i] = attend(t, next, c.user, joins)
				if _, err := all[i].Next(); err != nil { // the welcome
					t.Errorf("%s: %v", c.user, err)
				}
				late[i] = time.Since(went) > presence.Grace/2
			})
		}
		coming.Wait()
		<-old.done
		old = next
		testkit.Eventually(t, "all are back", func() bool { return a.now() == users+1 })
		for i, c := range all {
			a.mu.Lock()
			if a.left[c.user] > 0 && !late[i] {
				t.Errorf("%s left", c.user)
			}
			a.mu.Unlock()
		}
	}
	client := redistest.NewClient(t, addr)
	testkit.Eventually(t, "nothing of the former gateways is left", func() bool {
		return client.HLen(t.Context(), testkit.Keys(t).Presence(testkit.Group(t, "acme", "room.1"))).Val() == users+1+2 // and a number of each gateway
	})
	if got := a.now(); got != users+1 {
		t.Errorf("later: got %d users, want %d", got, users+1)
	}
}
