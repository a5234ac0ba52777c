package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/consumer"
	"orgcast/internal/directory"
	"orgcast/internal/gateway"
	"orgcast/internal/orgctx"
	"orgcast/internal/quota"
	"orgcast/internal/session"
	"orgcast/internal/testkit"
)

// slow is whatever a handshake asks, and takes until nobody waits for the answer any more.
type slow struct{ asked chan struct{} }

func (s slow) ask(ctx context.Context) error {
	close(s.asked)
	<-ctx.Done()
	return ctx.Err()
}

func (s slow) Resolve(ctx context.Context, _ *http.Request) (session.Identity, error) {
	return session.Identity{}, fmt.Errorf("%w: %w", session.ErrUnavailable, s.ask(ctx))
}

func (s slow) Admit(ctx context.Context, _ orgctx.ID, _ string) (directory.Member, error) {
	return directory.Member{}, fmt.Errorf("%w: %w", directory.ErrUnavailable, s.ask(ctx))
}

func (s slow) Take(ctx context.Context, _ orgctx.ID) error {
	return fmt.Errorf("%w: %w", quota.ErrUnavailable, s.ask(ctx))
}

func (slow) Give(orgctx.ID) {}

// TestLeavingDuringTheHandshake: a browser that leaves before it has its answer is no overload and
// no fault of the gateway, of which an alert would tell.
func TestLeavingDuringTheHandshake(t *testing.T) {
	for name, set := range map[string]func(s slow, o *setup){
		"session":   func(s slow, o *setup) { o.options.Sessions = s },
		"directory": func(s slow, o *setup) { o.options.Membership = s },
		"quota":     func(s slow, o *setup) { o.options.Quota = s },
		"Connect": func(s slow, o *setup) {
			h := &hooks{connect: func(ctx context.Context, _ consumer.Conn) error { return s.ask(ctx) }}
			o.routes = []consumer.Route{h.route("/ws/h")}
		},
		"Connect, the cause": func(s slow, o *setup) {
			h := &hooks{connect: func(ctx context.Context, _ consumer.Conn) error {
				_ = s.ask(ctx)
				return context.Cause(ctx)
			}}
			o.routes = []consumer.Route{h.route("/ws/h")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := slow{asked: make(chan struct{})}
			o := setup{routes: []consumer.Route{(&hooks{}).route("/ws/h")}}
			set(s, &o)
			n := startNode(t, o)
			conn, err := n.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write(n.handshake("/ws/h", "ada", "acme", nil).Bytes()); err != nil {
				t.Fatal(err)
			}
			<-s.asked
			_ = conn.Close()
			n.expectMetric(1, "orgcast_connections_refused_total")
			if got := n.metric("orgcast_connections_refused_total", "reason=handshake"); got != 1 {
				t.Errorf("handshakes that failed: got %v, want 1", got)
			}
			n.expectEmpty()
		})
	}
}

// TestLateConnectIsOverload: browsers are told when to come back, whatever a Connect hook returns
// that has run out of time.
func TestLateConnectIsOverload(t *testing.T) {
	h := &hooks{connect: func(ctx context.Context, _ consumer.Conn) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	route := h.route("/ws/h")
	route.Explain = true
	n := startNode(t, setup{routes: []consumer.Route{route}, options: gateway.Options{HookTimeout: time.Millisecond}})
	_, reason := testkit.Connect(t, n.dial, n.handshake("/ws/h", "ada", "acme", nil)).ExpectClose(t, 1013)
	if reason != `{"retry_after_ms":5000}` {
		t.Errorf("got %q, want a time", reason)
	}
}

// TestDoneAtOnce: a consumer that is done before it has begun refuses, and that is no fault of the
// gateway.
func TestDoneAtOnce(t *testing.T) {
	h := &hooks{connect: func(context.Context, consumer.Conn) error { return consumer.ErrDone }}
	n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/h")}})
	n.expectRefused(t, n.handshake("/ws/h", "ada", "acme", nil), 403, "forbidden", false)
	n.expectMetric(0, "orgcast_connections_refused_total", "reason=internal")
}

// section returns the part of docs/protocol.md under a heading.
func section(tb testing.TB, heading string) string {
	tb.Helper()
	page, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		tb.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "\n## "+heading+"\n")
	if !ok {
		tb.Fatalf("docs/protocol.md has no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// row returns the cells of a line of a table, nil of another line.
func row(line string) []string {
	if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") {
		return nil
	}
	cells := strings.Split(strings.Trim(line, "|"), "|")
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells
}

// TestRefusalsInDocs: docs/protocol.md has every code with which a handshake is refused, with its
// status and whether the client is told when to come back, and no other.
func TestRefusalsInDocs(t *testing.T) {
	type refusal struct {
		code   string
		status int
		retry  bool
	}
	want, got := make(map[refusal]bool), make(map[refusal]bool)
	for _, c := range gateway.Causes() {
		if c.Name != "" && c.Name != "handshake" { // nobody is left to be answered
			want[refusal{c.Name, c.Status, c.Retry}] = true
		}
	}
	for line := range strings.Lines(section(t, "Refusals")) {
		if cells := row(strings.TrimSpace(line)); len(cells) == 5 {
			if status, err := strconv.Atoi(cells[2]); err == nil {
				got[refusal{strings.Trim(cells[3], "`"), status, cells[4] != ""}] = true
			}
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(refusal{})); diff != "" {
		t.Errorf("causes.go (-), docs/protocol.md (+):\n%s", diff)
	}
}

// TestCloseCodesInDocs: docs/protocol.md has every close code that the gateway sends, with the
// texts of its frames, and no other.
func TestCloseCodesInDocs(t *testing.T) {
	type frame struct {
		code int
		text string
	}
	digits := regexp.MustCompile(`\d+`)
	want, got := make(map[frame]bool), make(map[frame]bool)
	for _, c := range gateway.Causes() {
		switch c.Name {
		case "no_handshake", "query_too_long", "too_many_connections": // they are never explained
		default:
			want[frame{c.Code, digits.ReplaceAllString(c.Text, "0")}] = true
		}
	}
	text := regexp.MustCompile("`([^`]*)`")
	code := 0
	for line := range strings.Lines(section(t, "Close codes")) {
		cells := row(strings.TrimSpace(line))
		if len(cells) != 4 {
			continue
		}
		if number, err := strconv.Atoi(cells[0]); err == nil {
			code = number
		} else if cells[0] != "" {
			continue // the head
		}
		if code == 1006 { // made by the browser
			continue
		}
		texts := text.FindAllStringSubmatch(cells[1], -1)
		if len(texts) == 0 {
			got[frame{code, ""}] = true
		}
		for _, m := range texts {
			got[frame{code, digits.ReplaceAllString(m[1], "0")}] = true
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(frame{})); diff != "" {
		t.Errorf("causes.go (-), docs/protocol.md (+):\n%s", diff)
	}
}
