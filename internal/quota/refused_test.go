package quota_test

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"orgcast/internal/quota"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestConnectionRefused: if Redis refuses the connection itself, because of a changed password or a
// deleted user, nothing is reserved, and the error and the log say why.
func TestConnectionRefused(t *testing.T) {
	for name, refusal := range redistest.Refusals() {
		t.Run(name, func(t *testing.T) {
			s := redistest.StartServer(t)
			f := newFixture(t, s.Addr)
			core, logs := observer.New(zap.WarnLevel)
			q := quota.NewRedis(s.NewRefusedClient(refusal), f.keys, quota.Options{Limit: 3, Log: zap.New(core)})
			err := q.Take(t.Context(), testkit.Org(t, "acme"))
			if !errors.Is(err, quota.ErrUnavailable) || !strings.Contains(err.Error(), refusal.Error) {
				t.Errorf("got %v, want ErrUnavailable and %s", err, refusal.Error)
			}
			q.Leave(t.Context())
			for _, line := range logs.All() {
				if text, _ := line.ContextMap()["error"].(string); !strings.Contains(text, refusal.Error) {
					t.Errorf("log: got %v, want %s", line.ContextMap(), refusal.Error)
				}
			}
		})
	}
}
