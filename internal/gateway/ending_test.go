package gateway_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// TestEndingConnectionsAreBounded: an organization's connections that have ended, and whose browsers do not
// read, may hold as much as those that are open, not more: those beyond that are not waited for. Those
// of another organization keep their time.
func TestEndingConnectionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, frame = 300_000, 90_000
		conns := make(chan consumer.Conn, 1)
		h := &hooks{connect: func(_ context.Context, c consumer.Conn) error { conns <- c; return nil }}
		n := startNode(t, setup{
			pipe: testkit.Listen(), now: time.Now, routes: []consumer.Route{h.route("/ws/hooks")},
			options: gateway.Options{QueueBytes: frame + 10_000, QueueBytesPerOrganization: limit, WriteTimeout: time.Hour, CloseTimeout: time.Hour},
		})
		end := func(user, org string) {
			testkit.Connect(t, n.dial, n.handshake("/ws/hooks", user, org, nil))
			c := <-conns
			if err := c.Send(map[string]string{"type": "note", "pad": strings.Repeat("x", frame)}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			c.End(consumer.ErrDone)
			synctest.Wait()
		}
		end("grace", "globex")
		for range 12 {
			end("ada", "acme")
		}
		if got := n.metric("orgcast_queue_bytes"); got > limit+frame+10_000 {
			t.Errorf("ended connections hold %v bytes, want at most %d for acme and %d for globex", got, limit, frame)
		}
		const waited = 1 + limit/frame
		n.expectConnections(waited)
		time.Sleep(time.Hour)
		n.expectConnections(0)
		n.stop()
	})
}
