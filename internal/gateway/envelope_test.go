package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/testkit"
)

// TestEnvelope: with the subprotocol every event comes byte for byte in an envelope that says where
// it comes from, whatever its own fields are called; without it a page sees what it always saw.
func TestEnvelope(t *testing.T) {
	const payload = `{"type":"error", "organization_id":"acme","group":"of its own","id":7,"event":{"type":"x"}} `
	g := mustGroup(t, "acme", "all")
	decode := func(position string) *event.Event {
		e, err := event.Decode(g, position+payload, event.DefaultMaxSize, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	h := &hooks{connect: func(ctx context.Context, c consumer.Conn) error {
		if err := c.Send(decode("1-0 ")); err != nil {
			return err
		}
		if err := c.Send(map[string]string{"type": "initial_state", "event": "x"}); err != nil {
			return err
		}
		return c.Join(ctx, "all")
	}}
	route := h.route("/ws/plain")
	handled := h.route("/ws/handled")
	handled.New = func() consumer.OrganizationAwareConsumer {
		return handling{h, func(context.Context, consumer.Conn, *event.Event) bool { return true }}
	}
	n := startNode(t, setup{routes: []consumer.Route{route, handled}})
	for _, path := range []string{"/ws/plain", "/ws/handled"} {
		for protocol, want := range map[string][]string{
			"": {payload, `{"event":"x","type":"initial_state"}`, payload, payload},
			consumer.ProtocolV1: {
				`{"event":` + payload + `,"group":"all","id":"1-0"}`, `{"event":"x","type":"initial_state"}`,
				`{"event":` + payload + `,"group":"all"}`, `{"event":` + payload + `,"group":"all","id":"5-1"}`,
			},
		} {
			t.Run(strings.TrimSpace(path+" "+protocol), func(t *testing.T) {
				c := n.connectAs(path, protocol, "ada", "acme")
				for _, text := range want[:2] {
					c.Expect(t, text)
				}
				n.hub.Deliver(decode(""))
				n.hub.Deliver(decode("5-1 "))
				for _, text := range want[2:] {
					c.Expect(t, text)
				}
			})
		}
	}
}

// TestConsumersCannotSpeakForTheGateway: with the subprotocol no hook sends a frame that looks like
// one of the gateway's own. Errors go through SendError.
func TestConsumersCannotSpeakForTheGateway(t *testing.T) {
	for _, protocol := range []string{"", consumer.ProtocolV1} {
		t.Run("protocol "+protocol, func(t *testing.T) {
			h := &hooks{connect: func(_ context.Context, c consumer.Conn) error {
				for _, typ := range consumer.ControlTypes() {
					err := c.Send(map[string]string{"type": typ})
					if errors.Is(err, consumer.ErrControlType) != (protocol != "") {
						t.Errorf("Send of %s: got %v", typ, err)
					}
				}
				twice := json.RawMessage(`{"type":"note","type":"error"}`)
				if err := c.Send(twice); errors.Is(err, event.ErrDuplicateField) != (protocol != "") {
					t.Errorf("Send of two types: got %v", err)
				}
				if err := c.Send(map[string]any{"state": map[string]string{"type": "error"}}); err != nil {
					t.Errorf("Send of an inner type: got %v", err)
				}
				return consumer.SendError(c, consumer.CodeUnavailable, "")
			}}
			n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/h")}})
			c := n.connectAs("/ws/h", protocol, "ada", "acme")
			if protocol == "" {
				for _, typ := range consumer.ControlTypes() {
					c.Expect(t, fmt.Sprintf(`{"type":%q}`, typ))
				}
				c.Expect(t, `{"type":"note","type":"error"}`)
			}
			c.Expect(t, `{"state":{"type":"error"}}`)
			if text, err := c.Next(); err != nil || !strings.HasPrefix(text, `{"type":"error","code":"unavailable"`) {
				t.Errorf("got %s, %v, want the error", text, err)
			}
		})
	}
}

// TestIsolationSend: no hook sends an event of another organization.
func TestIsolationSend(t *testing.T) {
	foreign := newNumbers(t).event(mustGroup(t, "globex", "all"), "note", 100)
	h := &hooks{connect: func(_ context.Context, c consumer.Conn) error { return c.Send(foreign) }}
	n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/h")}})
	_, answer, err := testkit.Open(t.Context(), n.dial, n.handshake("/ws/h", "ada", "acme", nil))
	if err != nil || answer.Status != http.StatusInternalServerError {
		t.Errorf("got %d, %v, want 500", answer.Status, err)
	}
	if got := n.gateway.Violations(); got != 1 {
		t.Errorf("violations: got %d, want 1", got)
	}
}
