package main

import (
	"net/http"
	"strings"
	"testing"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestServeLogsTheClientBehindAProxy: with --trusted-proxies the log says at its default level
// which client was refused, and nothing that the client invented.
func TestServeLogsTheClientBehindAProxy(t *testing.T) {
	s := startServe(t, redistest.Start(t), environment{"ORGCAST_TRUSTED_PROXIES": "127.0.0.0/8,10.0.0.0/8"})
	s.expectReady()
	h := testkit.Handshake{Path: "/ws/nothing", Header: http.Header{"X-Forwarded-For": {"6.6.6.6, 198.51.100.7, 10.0.0.2"}}}
	if _, answer := testkit.Try(t, testkit.DialTCP(s.public), h); answer.Status != http.StatusNotFound {
		t.Fatalf("got %d, want 404", answer.Status)
	}
	testkit.Eventually(t, "the refusal is in the log", func() bool {
		return strings.Contains(s.log.String(), `"reason":"unknown_path","status":404,"client":"198.51.100.7"`)
	})
	if log := s.log.String(); strings.Contains(log, "6.6.6.6") || !strings.Contains(log, `"path":"/ws/nothing"`) {
		t.Errorf("the log shows an invented address, or no path: %s", log)
	}
}

// TestTrustedProxiesAreChecked: a mistake in the list is reported with its entry.
func TestTrustedProxiesAreChecked(t *testing.T) {
	for list, want := range map[string]string{
		"10.0.0.1/8":            "write 10.0.0.0/8",
		"0.0.0.0/0":             "would trust every peer",
		"10.0.0.1,proxy.test":   `"proxy.test" must be an IP address`,
		"10.0.0.0/8,2001:db8::": "",
	} {
		stdout, stderr, _ := execute(t, environment{"ORGCAST_TRUSTED_PROXIES": list}, "", "check")
		if got := strings.Contains(stderr, "--trusted-proxies"); got != (want != "") || !strings.Contains(stderr, want) {
			t.Errorf("%s: got %s%s, want %q", list, stdout, stderr, want)
		}
	}
}
