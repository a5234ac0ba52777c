package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// hangingReceiver answers no call until it is told to.
type hangingReceiver struct {
	*httptest.Server

	begun   chan string   // ids of calls; has room for all of a test, and nobody closes it
	release chan struct{} // closed by the test

	mu       sync.Mutex
	accepted []toldWebhook
}

// toldWebhook is a webhook that was accepted.
type toldWebhook struct {
	id   string
	body string
	at   time.Time // its timestamp
	user string
}

func (r *hangingReceiver) ServeHTTP(_ http.ResponseWriter, request *http.Request) {
	text, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	told := toldWebhook{id: request.Header.Get("Webhook-Id"), body: string(text)}
	var b struct {
		Timestamp time.Time
		Data      struct {
			User string `json:"user_id"`
		}
	}
	_ = json.Unmarshal(text, &b) // the test sees what is missing
	told.at, told.user = b.Timestamp, b.Data.User
	r.begun <- told.id
	select {
	case <-r.release:
	case <-request.Context().Done(): // the caller is dead
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accepted = append(r.accepted, told)
}

// of returns the accepted webhooks of a user, each once.
func (r *hangingReceiver) of(user string) (list []toldWebhook) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.accepted {
		if w.user == user && !slices.ContainsFunc(list, func(before toldWebhook) bool { return before.id == w.id }) {
			list = append(list, w)
		}
	}
	return list
}

// TestSIGKILLInDelivery: a gateway is killed while its receiver hangs. Another gateway delivers what
// the first one had begun, under the same ids, and what waited behind it, each user's in order.
func TestSIGKILLInDelivery(t *testing.T) {
	t.Parallel()
	const each = 3
	r := &hangingReceiver{begun: make(chan string, 1000), release: make(chan struct{})}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	env := environment{
		"ORGCAST_WEBHOOK_URL": r.URL, "ORGCAST_WEBHOOK_KEY": testWebhookKey, "ORGCAST_WEBHOOK_EVENTS": "connection.connected", "ORGCAST_WEBHOOK_TIMEOUT": "2s",
	}
	addr := redistest.Start(t)
	first := spawnServe(t, addr, env)
	users := []string{"ada", "alan", "grace"}
	for range each {
		for _, user := range users {
			first.subscribe(testkit.DialTCP(first.public), user, "acme")
		}
	}
	testkit.Eventually(t, "all are written", func() bool { return first.metric("orgcast_webhooks", "waiting") == each*float64(len(users)) })
	begun := make(map[string]bool)
	for len(begun) < len(users) {
		begun[<-r.begun] = true
	}
	first.spawned.signal(syscall.SIGKILL)
	<-first.spawned.done
	close(r.release)
	spawnServe(t, addr, env)
	for _, user := range users {
		testkit.Eventually(t, "all of "+user+" are delivered", func() bool { return len(r.of(user)) == each })
		list := r.of(user)
		if !begun[list[0].id] {
			t.Errorf("%s: the first one came under another id, %s", user, list[0].body)
		}
		if !slices.IsSortedFunc(list, func(a, b toldWebhook) int { return a.at.Compare(b.at) }) {
			t.Errorf("%s: got %v, not in order", user, list)
		}
	}
}
