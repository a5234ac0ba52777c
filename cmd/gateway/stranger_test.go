package main

import (
	"net"
	"strings"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestStrangerCannotHoldTheGoodbye: a refused request whose body never comes delays no shutdown and
// does not make it fail.
func TestStrangerCannotHoldTheGoodbye(t *testing.T) {
	s := startServe(t, redistest.StartServer(t).Addr, environment{"ORGCAST_CLOSE_TIMEOUT": "100ms"})
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.public)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("GET /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"))
	testkit.Eventually(t, "the request to be counted", func() bool {
		_, body := s.ask("GET", "/metrics", "")
		return strings.Contains(body, `refused_total{reason="unknown_path"} 1`)
	})
	s.cancel()
	if err := s.wait(); err != nil {
		t.Errorf("serve: got %v, want nil", err)
	}
}
