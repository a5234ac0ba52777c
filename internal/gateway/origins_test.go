package gateway_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// TestParseOrigins: what is accepted is matched as browsers send it, and what never could be is an error.
func TestParseOrigins(t *testing.T) {
	pages := map[string]string{
		"https://app.example.com":          "https://app.example.com",
		" HTTPS://App.Example.COM ":        "https://app.example.com",
		"https://app.example.com:443":      "https://app.example.com",
		"http://app.example.com:80":        "http://app.example.com",
		"http://app.example.com:443":       "http://app.example.com:443",
		"https://app.example.com:08443":    "https://app.example.com:8443",
		"https://*.example.com:443":        "https://a.b.example.com",
		"https://*.example.com:8443":       "https://a.example.com:8443",
		"http://[::1]:3000":                "http://[::1]:3000",
		"http://[0:0:0:0:0:0:0:1]":         "http://[::1]",
		"https://[2001:DB8::A]:443":        "https://[2001:db8::a]",
		"http://192.0.2.1:8080":            "http://192.0.2.1:8080",
		"capacitor://localhost":            "capacitor://localhost",
		"ionic://localhost":                "ionic://localhost",
		"chrome-extension://abcdefghijklm": "chrome-extension://abcdefghijklm",
		"http://my_host.test":              "http://my_host.test",
	}
	for text, sent := range pages {
		o, err := gateway.ParseOrigins([]string{text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if !o.Allows(&http.Request{Header: http.Header{"Origin": {sent}}}) {
			t.Errorf("%s: the origin %s is refused", text, sent)
		}
	}
	// The library compares a second time.
	all, err := gateway.ParseOrigins(slices.Collect(maps.Keys(pages)))
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t, setup{options: gateway.Options{Origins: all}})
	for text, sent := range pages {
		if c, answer := testkit.Try(t, n.dial, n.handshake("/ws/events", "ada", "acme", http.Header{"Origin": {sent}})); c == nil {
			t.Errorf("%s: the origin %s got %d", text, sent, answer.Status)
		}
	}
	if _, answer := testkit.Try(t, n.dial, n.handshake("/ws/events", "ada", "acme", http.Header{"Origin": {"https://evil.test"}})); answer.Status != http.StatusForbidden {
		t.Errorf("a foreign origin: got %d", answer.Status)
	}
	for text, want := range map[string]string{
		"*":                           "any page",
		"null":                        "cannot be allowed",
		"app.example.com":             "must be an origin",
		"https://":                    "must be an origin",
		"://x":                        "must be an origin",
		"1http://x":                   "must be an origin",
		"https://app.example.com/":    "must end after the host or port",
		"https://app.example.com?x":   "must end after the host or port",
		"https://ada@app.example.com": "must end after the host or port",
		"wss://app.example.com":       "write https://",
		"ws://app.example.com":        "write http://",
		"file://x":                    "never sent",
		"https://app.example.com:":    "port",
		"https://app.example.com:0":   "port",
		"https://app.example.com:x":   "port",
		"https://x:65536":             "port",
		"http://::1":                  "brackets",
		"http://[::1":                 "brackets",
		"http://[::1%25lo]":           "IPv6",
		"http://[127.0.0.1]":          "IPv6",
		"http://bücher.example":       "xn--",
		"https://*":                   "host",
		"https://*example.com":        "host",
		"https://a.*.example.com":     "host",
		"https://a*.example.com":      "host",
		"https://exa mple.com":        "host",
		"https://%61.example.com":     "host",
	} {
		if _, err := gateway.ParseOrigins([]string{text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error about %q", text, err, want)
		}
	}
}
