package app

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestPublicHealthWhileDraining: a load balancer is told to send no new connections.
func TestPublicHealthWhileDraining(t *testing.T) {
	n := &Node{Metrics: prometheus.NewRegistry(), Options: new(Options)}
	n.now.Store(&Options{PublicHealth: "/healthz"})
	n.stopping.Store(true)
	w := httptest.NewRecorder()
	h, err := n.public()
	if err != nil {
		t.Fatal(err)
	}
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", http.NoBody))
	if w.Code != http.StatusServiceUnavailable || w.Body.String() != "draining\n" {
		t.Errorf("while draining: got %d %q, want 503", w.Code, w.Body)
	}
}
