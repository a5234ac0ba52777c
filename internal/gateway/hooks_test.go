package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/testkit"
)

// TestPanicEndsOneConnection: a hook that panics ends its own connection with 1011, Disconnect
// runs all the same, the panic is counted and logged with its stack, and others do not notice.
func TestPanicEndsOneConnection(t *testing.T) {
	type behavior struct {
		hooks  hooks
		handle func(context.Context, consumer.Conn, *event.Event) bool
	}
	boom := func() { panic("boom") }
	tests := map[string]behavior{
		"Receive": {hooks: hooks{receive: func(context.Context, consumer.Conn, event.RawMessage) error { boom(); return nil }}},
		"Go": {hooks: hooks{receive: func(_ context.Context, c consumer.Conn, _ event.RawMessage) error {
			c.Go(func(context.Context) error { boom(); return nil })
			return nil
		}}},
		"nil pointer": {hooks: hooks{receive: func(context.Context, consumer.Conn, event.RawMessage) error {
			var f *event.Event
			_ = f.Type()
			return nil
		}}},
		"HandleEvent": {handle: func(context.Context, consumer.Conn, *event.Event) bool { boom(); return true }},
		"Receive and Disconnect": {hooks: hooks{
			receive:    func(context.Context, consumer.Conn, event.RawMessage) error { boom(); return nil },
			disconnect: func(context.Context, consumer.Conn, error) { boom() },
		}},
		"error of Receive": {hooks: hooks{receive: func(context.Context, consumer.Conn, event.RawMessage) error { return errDown }}},
		"error of Go": {hooks: hooks{receive: func(_ context.Context, c consumer.Conn, _ event.RawMessage) error {
			c.Go(func(context.Context) error { return errDown })
			return nil
		}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var seen calls
			log := new(testkit.SyncBuffer)
			h := &test.hooks
			h.calls, h.connect = &seen, joining("all")
			route := h.route("/ws/bad")
			if test.handle != nil {
				route.New = func() consumer.OrganizationAwareConsumer { return handling{h, test.handle} }
			}
			n := startNode(t, setup{routes: []consumer.Route{route}, log: logTo(log)})
			other := n.subscribe("alan", "acme", "all")
			c := n.connect("/ws/bad", "ada", "acme")
			var want string
			if test.handle == nil {
				_ = c.SendText("x")
			} else {
				want = n.publish("acme", "all", "poison")
				other.Expect(t, want)
			}
			if frames, reason := c.ExpectClose(t, 1011); len(frames) > 0 || reason != "internal error" {
				t.Errorf("got frames %q and the reason %q", frames, reason)
			}
			testkit.Eventually(t, "Disconnect", func() bool { return strings.HasSuffix(seen.all(), "disconnect") })
			n.expectConnections(1)
			other.Expect(t, n.publish("acme", "all", "still here"))
			if !strings.HasPrefix(name, "error") {
				if got := n.metric("orgcast_hook_panics_total"); got < 1 {
					t.Errorf("orgcast_hook_panics_total: got %v, want 1 or more", got)
				}
				if got := log.String(); !strings.Contains(got, "hooks_test.go") {
					t.Errorf("the stack is not in the log: %s", got)
				}
			}
			if got := strings.Count(seen.all(), "disconnect"); got != 1 {
				t.Errorf("hooks: got %s, want one disconnect", seen.all())
			}
		})
	}
}

// TestHookOrder: Connect first, Disconnect last and once; contexts carry the organization; Receive
// sees the end of the connection, Disconnect a deadline of its own.
func TestHookOrder(t *testing.T) {
	var seen calls
	type ending struct {
		cause error
		alive bool
	}
	endings := make(chan ending, 1)
	check := func(ctx context.Context, c consumer.Conn) {
		if id, ok := orgctx.From(ctx); !ok || id != c.Identity().Organization || id.String() != "acme" {
			t.Errorf("organization of the context: got %v, want acme", id)
		}
	}
	ended := make(chan struct{})
	h := &hooks{
		calls: &seen,
		connect: func(ctx context.Context, c consumer.Conn) error {
			check(ctx, c)
			return joining("all")(ctx, c)
		},
		receive: func(ctx context.Context, c consumer.Conn, f event.RawMessage) error {
			check(ctx, c)
			if string(f.Data) == "wait" {
				<-ctx.Done()
				close(ended)
			}
			return nil
		},
		disconnect: func(ctx context.Context, c consumer.Conn, cause error) {
			check(ctx, c)
			if err := c.Join(ctx, "late"); err == nil {
				t.Error("Join in Disconnect: got nil, want an error")
			}
			_, deadline := ctx.Deadline()
			endings <- ending{cause, ctx.Err() == nil && deadline}
		},
	}
	n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/h")}})
	c := n.connect("/ws/h", "ada", "acme")
	_ = c.SendText("a")
	_ = c.SendText("wait")
	testkit.Eventually(t, "both frames", func() bool { return seen.all() == "connect receive receive" })
	go func() { _ = n.gateway.Drain(t.Context(), 0) }()
	c.ExpectClose(t, 1012)
	<-ended
	got := <-endings
	if !got.alive || got.cause == nil {
		t.Errorf("Disconnect: got %+v, want a cause and a context that lives and has a deadline", got)
	}
	n.expectConnections(0)
	if got := seen.all(); got != "connect receive receive disconnect" {
		t.Errorf("hooks: got %s", got)
	}
}

// TestEventHandler: a consumer may withhold an event or answer with something of its own, which
// stands where the event would have stood.
func TestEventHandler(t *testing.T) {
	h := &hooks{connect: joining("all")}
	route := h.route("/ws/h")
	route.New = func() consumer.OrganizationAwareConsumer {
		return handling{h, func(_ context.Context, c consumer.Conn, e *event.Event) bool {
			switch {
			case bytes.Contains(e.Payload(), []byte("withhold")):
				return false
			case bytes.Contains(e.Payload(), []byte("change")):
				_ = c.Send(map[string]string{"type": "changed"})
				return false
			}
			return true
		}}
	}
	n := startNode(t, setup{routes: []consumer.Route{route}})
	c := n.connect("/ws/h", "ada", "acme")
	n.publish("acme", "all", "withhold")
	n.publish("acme", "all", "change")
	c.Expect(t, `{"type":"changed"}`)
	c.Expect(t, n.publish("acme", "all", "forward"))
}

// TestEachHookHasTheCurrentUser: whatever consumer serves a connection, its hooks and what it starts run as
// the connection's user.
func TestEachHookHasTheCurrentUser(t *testing.T) {
	seen := new(calls)
	note := func(ctx context.Context, hook string) {
		org, _ := orgctx.From(ctx)
		user, _ := orgctx.UserFrom(ctx)
		seen.add(fmt.Sprint(hook, "=", org, "/", user))
	}
	h := &hooks{
		connect: func(ctx context.Context, c consumer.Conn) error {
			note(ctx, "Connect")
			c.Go(func(ctx context.Context) error { note(ctx, "Go"); return nil })
			return c.Join(ctx, "all")
		},
		receive:    func(ctx context.Context, _ consumer.Conn, _ event.RawMessage) error { note(ctx, "Receive"); return nil },
		disconnect: func(ctx context.Context, _ consumer.Conn, _ error) { note(ctx, "Disconnect") },
	}
	route := h.route("/ws/h")
	route.New = func() consumer.OrganizationAwareConsumer {
		return handling{h, func(ctx context.Context, _ consumer.Conn, _ *event.Event) bool { note(ctx, "HandleEvent"); return true }}
	}
	n := startNode(t, setup{routes: []consumer.Route{route}})
	c := n.connect("/ws/h", "ada", "acme")
	_ = c.SendText("x")
	c.Expect(t, n.publish("acme", "all", "x"))
	testkit.Eventually(t, "the frame", func() bool { return strings.Contains(seen.all(), "Receive") })
	_ = c.Close()
	n.expectConnections(0)
	for _, hook := range []string{"Connect", "Go", "Receive", "HandleEvent", "Disconnect"} {
		if !strings.Contains(seen.all(), hook+"=acme/ada") {
			t.Errorf("%s: got no acme/ada in %s", hook, seen.all())
		}
	}
}

// TestUserWithoutOrganization: on a route that allows it, hooks run as a user and for no organization.
func TestUserWithoutOrganization(t *testing.T) {
	seen := new(calls)
	h := &hooks{connect: func(ctx context.Context, _ consumer.Conn) error {
		_, ok := orgctx.From(ctx)
		user, _ := orgctx.UserFrom(ctx)
		seen.add(fmt.Sprint(ok, " ", user))
		return nil
	}}
	route := h.route("/ws/h")
	route.WithoutOrganization = true
	n := startNode(t, setup{routes: []consumer.Route{route}})
	n.connect("/ws/h", "ada", "")
	if got := seen.all(); got != "false ada" {
		t.Errorf("got %q, want no organization and ada", got)
	}
}

// TestEndFromAnywhere: causes become close codes, and the texts of errors stay here.
func TestEndFromAnywhere(t *testing.T) {
	tests := map[string]struct {
		cause error
		code  int
	}{
		"done":       {consumer.ErrDone, 1000},
		"forbidden":  {consumer.ErrForbidden, 4403},
		"not found":  {errors.Join(consumer.ErrNotFound, errDown), 4404},
		"text":       {consumer.ErrTextRequired, 1003},
		"unknown":    {errDown, 1011},
		"out of org": {orgctx.ErrNoOrganization, 4403},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := &hooks{receive: func(_ context.Context, c consumer.Conn, _ event.RawMessage) error {
				c.End(test.cause)
				c.End(consumer.ErrDone) // the first counts
				return nil
			}}
			n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/h")}})
			c := n.connect("/ws/h", "ada", "acme")
			_ = c.SendText("x")
			_, reason := c.ExpectClose(t, test.code)
			for _, bad := range goText {
				if strings.Contains(reason, bad) {
					t.Errorf("the reason %q tells of %q", reason, bad)
				}
			}
		})
	}
}

// TestSnapshotBeforeLive: what Connect sends comes before every event, even one that was published
// while Connect ran.
func TestSnapshotBeforeLive(t *testing.T) {
	var n *node
	during := make(chan string, 1) // one connection
	h := &hooks{connect: func(ctx context.Context, c consumer.Conn) error {
		if err := c.Send(map[string]string{"type": "snapshot"}); err != nil {
			return err
		}
		if err := c.Join(ctx, "all"); err != nil {
			return err
		}
		during <- n.publish("acme", "all", "during connect")
		return nil
	}}
	n = startNode(t, setup{routes: []consumer.Route{h.route("/ws/h")}})
	c := n.connect("/ws/h", "ada", "acme")
	c.Expect(t, `{"type":"snapshot"}`)
	c.Expect(t, <-during)
	c.Expect(t, n.publish("acme", "all", "after"))
}

// TestWelcome: the subprotocol begins with a welcome frame; without it pages see what they always saw.
func TestWelcome(t *testing.T) {
	n := startNode(t, setup{})
	h := n.handshake("/ws/connection_test/", "ada", "acme", nil)
	h.Header["Sec-Websocket-Protocol"] = []string{"other, " + consumer.ProtocolV1}
	c, answer := testkit.Try(t, n.dial, h)
	if c == nil || answer.Header.Get("Sec-Websocket-Protocol") != consumer.ProtocolV1 {
		t.Fatalf("got %+v, want the subprotocol", answer)
	}
	welcome, err := c.Next()
	if err != nil || !strings.HasPrefix(welcome, `{"type":"welcome","organization_id":"acme","user_id":"ada","user_group":"user.ada","connection_id":"`) {
		t.Errorf("got %s, %v, want welcome", welcome, err)
	}
	c.Expect(t, `{"type":"greeting","message":"connected"}`)
	_ = c.SendText(`{"type":"message","message":"hello <b>"}`)
	c.Expect(t, `{"type":"echo","message":"hello <b>"}`)

	plain := n.connect("/ws/connection_test/", "ada", "acme")
	plain.Expect(t, `{"type":"greeting","message":"connected"}`)
}
