package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// smallWindow is the receive buffer of browsers that are to fall behind soon, in bytes.
const smallWindow = 16 << 10

// narrow is a dial function whose connections take little before the server has to wait.
func narrow(addr string) testkit.DialFunc {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if controlErr := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, smallWindow)
		}); controlErr != nil {
			return controlErr
		}
		return err
	}}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
}

// v1 is the header that asks for the subprotocol.
func v1() http.Header { return http.Header{"Sec-Websocket-Protocol": {consumer.ProtocolV1}} }

// numbers makes numbered events, each group counting for itself.
type numbers struct {
	tb   testing.TB
	next map[event.Group]int
}

func newNumbers(tb testing.TB) *numbers {
	tb.Helper()
	return &numbers{tb: tb, next: make(map[event.Group]int)}
}

// event makes the group's next event.
func (n *numbers) event(g event.Group, typ string, size int) *event.Event {
	n.tb.Helper()
	n.next[g]++
	payload := fmt.Sprintf(`{"type":%q,"organization_id":%q,"in":%q,"n":%d,"pad":%q}`,
		typ, g.Organization(), g.Name(), n.next[g], strings.Repeat("x", size))
	e, err := event.Decode(g, payload, event.DefaultMaxSize, time.Now())
	if err != nil {
		n.tb.Fatal(err)
	}
	return e
}

// reading checks what a connection gets of numbered events.
type reading struct {
	org string
	// gaps says that gap frames are due wherever something is missing.
	gaps bool
	// spurious says that gap frames may also stand where nothing is missing.
	spurious bool

	last    map[string]int  // by group
	newest  map[string]int  // by group and type
	gap     map[string]bool // told, and nothing of the group came since
	missing int             // events left out
	gapped  int             // gap frames
	count   int             // events
}

func newReading(org string, gaps bool) *reading {
	return &reading{org: org, gaps: gaps, last: map[string]int{}, newest: map[string]int{}, gap: map[string]bool{}}
}

// take checks one frame and returns the type of its event, "" for other frames.
func (r *reading) take(text string) (typ string, err error) {
	var f struct {
		Type, In, Group string
		OrganizationID  string `json:"organization_id"`
		N               int
	}
	if err := json.Unmarshal(testkit.Flat(text), &f); err != nil {
		return "", err
	}
	switch {
	case f.Type == "gap" && !r.gaps:
		return "", errors.New("a gap frame for a client that does not know it")
	case f.Type == "gap":
		r.gap[f.Group] = true
		r.gapped++
		return "", nil
	case f.In == "":
		return "", nil // an answer or the welcome
	case f.OrganizationID != r.org:
		return "", fmt.Errorf("an event of %s: %.100s", f.OrganizationID, text)
	}
	holes := f.N - r.last[f.In] - 1
	switch {
	case holes < 0:
		return "", fmt.Errorf("group %s: number %d after %d", f.In, f.N, r.last[f.In])
	case holes > 0 && r.gaps && !r.gap[f.In]:
		return "", fmt.Errorf("group %s: number %d after %d, and no gap frame between", f.In, f.N, r.last[f.In])
	case holes == 0 && r.gap[f.In] && !r.spurious:
		return "", fmt.Errorf("group %s: a gap frame before number %d, and nothing is missing", f.In, f.N)
	}
	r.missing += holes
	r.count++
	r.last[f.In] = f.N
	r.newest[f.In+"/"+f.Type] = f.N
	r.gap[f.In] = false
	return f.Type, nil
}

// until reads up to the first event of a type.
func (r *reading) until(tb testing.TB, c *testkit.Client, last string) {
	tb.Helper()
	for {
		text, err := c.Next()
		if err != nil {
			tb.Fatalf("after %d events: %v", r.count, err)
		}
		typ, err := r.take(text)
		if err != nil {
			tb.Fatal(err)
		}
		if typ == last {
			return
		}
	}
}

// slowNode is a node with a route for each policy, whose connections join the groups a and b.
func slowNode(tb testing.TB, over via, o gateway.Options) *node {
	tb.Helper()
	h := &hooks{connect: joining("a", "b")}
	var routes []consumer.Route
	for i, name := range consumer.WhenFullNames() {
		route := h.route("/ws/" + name)
		route.WhenFull = consumer.WhenFull(i)
		routes = append(routes, route)
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 64 << 10
	}
	o.WriteTimeout, o.CloseTimeout = time.Hour, testkit.Patience // what is tested is not these
	n := startNode(tb, setup{over: over, options: o, routes: routes})
	n.slowAddr = n.listen(true, false)
	return n
}

// listen opens another listener of the node, and returns its address. On the connections of a
// cramped one, a browser that does not read is behind soon.
func (n *node) listen(slow, secure bool) (addr string) {
	n.tb.Helper()
	server := httptest.NewUnstartedServer(n.gateway)
	if slow {
		server.Listener = cramped{server.Listener}
	}
	if secure || *overTLS {
		server.Listener = underTLS(server.Listener)
	}
	server.Start()
	n.tb.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// connectSlow connects a browser that takes little and reads nothing for now.
func (n *node) connectSlow(path, user, org string, header http.Header) *testkit.Client {
	n.tb.Helper()
	all := http.Header{"Origin": {origin}, "Cookie": {n.cookie(user, org)}}
	maps.Copy(all, header)
	addr := n.slowAddr
	if addr == "" {
		addr = n.addr()
	}
	return n.over.connect(n.tb, asAsked(narrow(addr)), path, all)
}

// addr is the loopback port of the node.
func (n *node) addr() string {
	n.tb.Helper()
	c, err := n.dial(n.tb.Context())
	if err != nil {
		n.tb.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.RemoteAddr().String()
}

func (n *node) dropped(reason string) int {
	n.tb.Helper()
	return int(n.metric("orgcast_deliveries_dropped_total", "reason="+reason))
}
