package gateway_test

import (
	"context"
	"strings"
	"testing"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/hub"
	"orgcast/internal/testkit"
)

// intruder makes its connection a member of another organization's group behind the gateway's
// back: what a fault in hub or consumer could do at worst.
func intruder(tb testing.TB, n **node, group event.Group) *hooks {
	tb.Helper()
	return &hooks{
		connect: func(ctx context.Context, c consumer.Conn) error {
			m, ok := c.(hub.Member)
			if !ok {
				tb.Error("a connection is no hub.Member")
				return nil
			}
			if err := c.Join(ctx, "all"); err != nil {
				return err
			}
			return (*n).hub.Join(ctx, group, m)
		},
		disconnect: func(_ context.Context, c consumer.Conn, _ error) {
			if m, ok := c.(hub.Member); ok {
				(*n).hub.Leave(group, m)
			}
		},
	}
}

// TestIsolationLastComparison: an event of another organization that gets as far as a connection's
// queue is stopped before its bytes leave. The connection ends, and the counter that stays 0 does not.
func TestIsolationLastComparison(t *testing.T) { overEach(t, isolationLastComparisonOver) }

func isolationLastComparisonOver(t *testing.T, over via) {
	t.Helper()
	for name, handled := range map[string]bool{"plain": false, "with an event handler": true} {
		t.Run(name, func(t *testing.T) {
			var n *node
			log := new(testkit.SyncBuffer)
			h := intruder(t, &n, mustGroup(t, "globex", "all"))
			route := h.route("/ws/intruder")
			if handled {
				route.New = func() consumer.OrganizationAwareConsumer {
					return handling{h, func(_ context.Context, _ consumer.Conn, e *event.Event) bool {
						if e.Organization().String() != "acme" {
							t.Error("the handler was shown a foreign event")
						}
						return true
					}}
				}
			}
			n = startNode(t, setup{over: over, routes: []consumer.Route{route}, log: logTo(log)})
			victim := n.subscribe("grace", "globex", "all")
			other := n.subscribe("alan", "acme", "all")
			c := n.connect("/ws/intruder", "ada", "acme")
			c.Expect(t, n.publish("acme", "all", "own")) // also seen by other
			secret := n.publish("globex", "all", "secret")
			victim.Expect(t, secret)
			if frames, reason := c.ExpectClose(t, 1011); len(frames) > 0 || strings.Contains(reason, "globex") {
				t.Errorf("got frames %q and the reason %q, want neither", frames, reason)
			}
			if got := n.gateway.Violations(); got != 1 {
				t.Errorf("violations: got %d, want 1", got)
			}
			if got := n.metric("orgcast_isolation_violations_total"); got != 1 {
				t.Errorf("orgcast_isolation_violations_total: got %v, want 1", got)
			}
			if got := log.String(); !strings.Contains(got, "isolation violation") || strings.Contains(got, "secret") {
				t.Errorf("the log must tell of the violation and not of the content: %s", got)
			}
			if text, err := other.Next(); err != nil || !strings.Contains(text, "own") {
				t.Errorf("got %s, %v, want the event of its own", text, err)
			}
			other.Expect(t, n.publish("acme", "all", "still here"))
			n.expectConnections(2)
		})
	}
}

// TestIsolationWithoutOrganization: a connection without organization is written no event at all.
func TestIsolationWithoutOrganization(t *testing.T) { overEach(t, isolationWithoutOrganizationOver) }

func isolationWithoutOrganizationOver(t *testing.T, over via) {
	t.Helper()
	var n *node
	h := intruder(t, &n, mustGroup(t, "globex", "all"))
	join := h.connect
	h.connect = func(ctx context.Context, c consumer.Conn) error {
		if err := join(ctx, c); err == nil {
			t.Error("Join: got nil, want an error")
		}
		m, _ := c.(hub.Member)
		return n.hub.Join(ctx, mustGroup(t, "globex", "all"), m)
	}
	route := h.route("/ws/intruder")
	route.WithoutOrganization = true
	n = startNode(t, setup{over: over, routes: []consumer.Route{route}})
	c := n.connect("/ws/intruder", "ada", "")
	n.publish("globex", "all", "secret")
	if frames, _ := c.ExpectClose(t, 1011); len(frames) > 0 {
		t.Errorf("got %q", frames)
	}
	if got := n.gateway.Violations(); got != 1 {
		t.Errorf("violations: got %d, want 1", got)
	}
	n.expectConnections(0)
}

// TestOneRedisTwoOrganizations is the main job: equal names, one Redis, and each sees its own.
func TestOneRedisTwoOrganizations(t *testing.T) { overEach(t, oneRedisTwoOrganizationsOver) }

func oneRedisTwoOrganizationsOver(t *testing.T, over via) {
	t.Helper()
	n, _ := redisNode(t, setup{over: over})
	acme, globex := n.subscribe("ada", "acme", "all", "user.ada", "room.7"), n.subscribe("ada", "globex", "all", "user.ada", "room.7")
	for _, group := range []string{"all", "user.ada", "room.7"} {
		for _, text := range []string{"one", "two"} {
			a, g := n.publish("acme", group, text), n.publish("globex", group, text)
			acme.Expect(t, a)
			globex.Expect(t, g)
		}
	}
	n.leave(acme, 1)
	testkit.Eventually(t, "acme's groups are gone", func() bool { return n.hub.Groups() == 3 })
	globex.Expect(t, n.publish("globex", "all", "alone"))
}
