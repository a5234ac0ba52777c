package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestWorkerEchoes follows what the help says: an entry as redis-cli adds it, and what comes back.
func TestWorkerEchoes(t *testing.T) {
	addr := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer client.Close()
	sub := client.Subscribe(t.Context(), "orgcast:{acme}:group:all")
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	env := environment{
		"ORGCAST_REDIS": "redis://" + addr + "/0", "ORGCAST_ADMIN_LISTEN": "127.0.0.1:0", "ORGCAST_DIRECTORY": "session",
		"ORGCAST_WORKER_CONCURRENCY": "2",
	}
	ctx, cancel := context.WithCancel(t.Context())
	log := new(testkit.SyncBuffer)
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"worker"}, env.get, strings.NewReader(""), io.Discard, log) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("worker: %v\n%s", err, log)
		}
	}()
	err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "orgcast:tasks:echo", Values: []any{
		"organization_id", "acme", "kind", "echo", "id", "t1", "group", "all", "payload", `{"text":"hello"}`,
	}}).Err()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"organization_id":"acme","attempt":1,"task_id":"t1","type":"echo_progress"}`,
		`{"organization_id":"acme","type":"task_complete","task_id":"t1","result":{"text":"hello"}}`,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		m, err := sub.ReceiveMessage(ctx)
		cancel()
		if err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		if _, payload := event.CutHead(m.Payload); payload != want {
			t.Fatalf("got %s, want %s\n%s", m.Payload, want, log)
		}
	}
	// The private listener tells of it.
	var private string
	for line := range strings.Lines(log.String()) {
		var entry struct{ Msg, Private string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "working" {
			private = entry.Private
		}
	}
	ask := func(path string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+private+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testkit.Patience}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(text)
	}
	if status, body := ask("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: got %d %s", status, body)
	}
	testkit.Eventually(t, "the task is counted", func() bool {
		_, body := ask("/metrics")
		return strings.Contains(body, `orgcast_tasks_ended_total{kind="echo",outcome="complete"} 1`)
	})
}

func TestWorkerSettings(t *testing.T) {
	_, stderr, err := execute(t, environment{"ORGCAST_WORKER_ATTEMPTS": "0", "ORGCAST_WORKER_TIMEOUT": "soon"}, "", "worker")
	if err == nil || !strings.Contains(stderr, "--worker-attempts") || !strings.Contains(stderr, "--worker-timeout") {
		t.Errorf("got %v and %s, want both mistakes", err, stderr)
	}
}
