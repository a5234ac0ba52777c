package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestRefusalNamesAForeignCookie: the log of a refusal says what a cookie that cannot be read looks like and what
// to set, and never the cookie.
func TestRefusalNamesAForeignCookie(t *testing.T) {
	log, logs := observed()
	n := startNode(t, setup{log: log})
	for name, test := range map[string]struct{ value, looks, hint string }{
		"Django":   {"3kx0vq8f2a7m1c9z5b6n4t0r8w2y6u1s", "django", "docs/django.md"},
		"nonsense": {"nonsense", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			logs.TakeAll()
			h := n.handshake("/ws/events", "ada", "acme", nil)
			own, _, _ := strings.Cut(h.Header.Get("Cookie"), "=")
			h.Header = http.Header{"Origin": h.Header["Origin"], "Cookie": {own + "=" + test.value}}
			n.expectRefused(t, h, http.StatusUnauthorized, "unauthenticated", false)
			lines := logs.FilterMessage("refused").All()
			if len(lines) != 1 {
				t.Fatalf("got %d lines, want 1", len(lines))
			}
			fields := lines[0].ContextMap()
			if looks, _ := fields["looks_like"].(string); looks != test.looks {
				t.Errorf("looks_like: got %q, want %q", looks, test.looks)
			}
			if hint, _ := fields["hint"].(string); !strings.Contains(hint, test.hint) || (hint == "") != (test.hint == "") {
				t.Errorf("hint: got %q, want it to name %q", hint, test.hint)
			}
			if line, _ := json.Marshal(fields); strings.Contains(string(line), test.value) {
				t.Errorf("the line holds the cookie: %s", line)
			}
		})
	}
}
