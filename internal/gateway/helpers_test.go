package gateway_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"orgcast/internal/consumer"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/hub"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
	"orgcast/internal/session"
	"orgcast/internal/socket"
	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
	"orgcast/internal/trail"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == handshakeClientArg { // started by BenchmarkHandshake
		handshakeClient(os.Stdin, os.Stdout)
		return
	}
	testkit.Main(m)
}

const (
	origin     = "https://app.example.com"
	sessionKey = "0123456789abcdef0123456789abcdef"
	signingKey = "fedcba9876543210fedcba9876543210"
	// maxGroups is how many groups a connection may join by default.
	maxGroups = gateway.DefaultGroupsPerConnection
)

func mustOrg(tb testing.TB, text string) orgctx.ID {
	tb.Helper()
	id, err := orgctx.ParseID(text)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func mustGroup(tb testing.TB, org, name string) event.Group {
	tb.Helper()
	g, err := event.NewGroup(mustOrg(tb, org), name)
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

// people is the directory of most tests: ada and alan of acme, grace of globex, sam who is suspended in acme,
// and the suspended organization initech with ian.
type people struct{}

var errDown = errors.New("dial tcp 10.1.2.3:6379: connection refused")

func (people) Admit(_ context.Context, org orgctx.ID, user string) (directory.Member, error) {
	switch org.String() + "/" + user {
	case "acme/ada":
		return directory.Member{Role: "admin"}, nil
	case "acme/alan", "globex/grace", "globex/ada":
		return directory.Member{}, nil
	case "initech/ian":
		return directory.Member{}, directory.ErrOrganizationSuspended
	case "down/ada":
		return directory.Member{}, errors.Join(directory.ErrUnavailable, errDown)
	}
	if org.String() == "acme" || org.String() == "globex" {
		return directory.Member{}, directory.ErrNotMember
	}
	return directory.Member{}, directory.ErrOrganizationUnknown
}

// bus is what the tests need of both buses.
type bus interface {
	hub.Bus
	Run(ctx context.Context, sink pubsub.Sink) error
	Publish(ctx context.Context, g event.Group, payload []byte) error
}

// node is a gateway at work on a loopback port or, inside a synctest bubble, in memory.
type node struct {
	tb       testing.TB
	gateway  *gateway.Server
	hub      *hub.Hub
	bus      bus
	sessions *session.CookieStore
	vault    *vault // of the sessions that cookie makes
	metrics  *prometheus.Registry
	trail    *trail.Trail
	dial     testkit.DialFunc
	slowAddr string // for connections that take little, if the test has any; see slowNode
	over     via
	http     *http.Server
	stop     func() // idempotent
}

// setup is what a test changes of a node.
type setup struct {
	options gateway.Options // Origins, Routes and the like are filled in if they are zero
	routes  []consumer.Route
	bus     bus               // default: in memory
	pipe    *testkit.Listener // default: a loopback port
	now     func() time.Time  // of the session store
	log     *zap.Logger
	over    via               // default: WebSockets
	store   storeKind         // default: signed cookies
	vault   *vault            // default: a new one of that kind
	server  *redistest.Server // for what needs one; default: a new one
	// forgetful nodes have no trail.
	forgetful bool
	plain     bool // never over TLS
}

func cookieStore(tb testing.TB, now func() time.Time, key string) *session.CookieStore {
	tb.Helper()
	store, err := session.NewCookieStore([]session.KeyPair{{Hash: []byte(key)}}, session.Options{Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	return store
}

func startNode(tb testing.TB, s setup) *node {
	tb.Helper()
	n := &node{tb: tb, over: s.over, bus: s.bus, metrics: prometheus.NewRegistry(), sessions: cookieStore(tb, s.now, sessionKey)}
	if n.bus == nil {
		n.bus = pubsub.NewMemory()
	}
	if !s.forgetful {
		n.trail = trail.New(trail.Options{BytesPerOrganization: 1 << 20, Bytes: 4 << 20})
	}
	n.hub = hub.New(n.bus, hub.Options{Trail: n.trail})
	n.vault = s.vault
	switch {
	case n.vault != nil:
	case s.store.open != nil:
		n.vault = s.store.open(tb, &s)
	default:
		n.vault = signedVault(tb, n.sessions)
	}
	o := s.options
	if o.Hub == nil {
		o.Hub = n.hub
	}
	if o.Sessions == nil {
		o.Sessions = n.vault.Store
	}
	if o.Membership == nil {
		o.Membership = people{}
	}
	if o.Origins.Empty() {
		origins, err := gateway.ParseOrigins([]string{origin})
		if err != nil {
			tb.Fatal(err)
		}
		o.Origins = origins
	}
	if o.Routes == nil {
		o.Routes = newRoutes(tb, s.routes...)
	}
	if o.PingInterval == 0 && s.pipe == nil {
		o.PingInterval = time.Hour // browsers that do not read answer no ping, and a busy machine takes its time
	}
	o.Registerer = n.metrics
	o.Trail = n.trail
	o.Log = s.log
	o.Carriers = []gateway.Carrier{streamsLike(o)}

	ctx, cancel := context.WithCancelCause(context.Background())
	var err error
	if n.gateway, err = gateway.New(ctx, o); err != nil {
		tb.Fatal(err)
	}
	busCtx, stopBus := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.bus.Run(busCtx, n.hub); err != nil {
			tb.Errorf("bus: %v", err)
		}
	})
	n.http = &http.Server{Handler: n.gateway, ErrorLog: zap.NewStdLog(zap.NewNop()), ReadHeaderTimeout: time.Minute}
	var listener net.Listener = s.pipe
	if s.pipe == nil {
		tcp := httptest.NewUnstartedServer(nil) // for its loopback listener alone
		listener = tcp.Listener
		n.dial = testkit.DialTCP(listener.Addr().String())
		if *overTLS && !s.plain {
			n.dial, listener = dialTLS(n.dial), underTLS(listener)
		} else {
			listener = socket.Lend(listener)
			n.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return socket.WithLent(ctx, c, nil) }
		}
	} else {
		n.dial = s.pipe.Dial
	}
	running.Go(func() { _ = n.http.Serve(listener) }) // until Close
	n.stop = sync.OnceFunc(func() {
		cancel(context.Canceled)
		n.gateway.Wait()
		_ = n.http.Close()
		_ = listener.Close()
		stopBus()
		running.Wait()
	})
	tb.Cleanup(func() {
		n.stop()
		if got := n.gateway.Violations(); got != 0 && !strings.HasPrefix(tb.Name(), "TestIsolation") {
			tb.Errorf("isolation violations: got %d, want 0", got)
		}
		n.expectEmpty()
	})
	return n
}

// expectEmpty sees that nothing of any connection remains.
func (n *node) expectEmpty() {
	n.tb.Helper()
	if got := n.gateway.Connections(); got != 0 {
		n.tb.Errorf("connections left: %d", got)
	}
	for _, org := range []string{"acme", "globex"} {
		if got := n.trail.Ask(trail.Query{Organization: mustOrg(n.tb, org)}).Open; got != 0 {
			n.tb.Errorf("connections of %s left in the trail: %d", org, got)
		}
	}
	if got := n.hub.Groups(); got != 0 {
		n.tb.Errorf("groups left: %d", got)
	}
	if got := n.metric("orgcast_connections"); got != 0 {
		n.tb.Errorf("orgcast_connections: got %v, want 0", got)
	}
	if got := n.metric("orgcast_queue_bytes"); got != 0 {
		n.tb.Errorf("orgcast_queue_bytes: got %v, want 0", got)
	}
}

// newRoutes are the usual routes and those of a test.
func newRoutes(tb testing.TB, more ...consumer.Route) *consumer.Registry {
	tb.Helper()
	policy, err := consumer.ParsePolicy(consumer.DefaultPolicy, []byte(signingKey))
	if err != nil {
		tb.Fatal(err)
	}
	events := consumer.JSON(consumer.Events{Policy: policy})
	routes := new(consumer.Registry)
	for _, route := range append([]consumer.Route{
		{Pattern: "/ws/events", New: func() consumer.OrganizationAwareConsumer { return events }},
		{Pattern: "/ws/connection_test/", WithoutOrganization: true, New: func() consumer.OrganizationAwareConsumer { return consumer.JSON(consumer.ConnectionTest{}) }},
	}, more...) {
		if err := routes.Add(route); err != nil {
			tb.Fatal(err)
		}
	}
	return routes
}

// cookie returns a real session cookie as it stands in a Cookie header. org may be empty.
func (n *node) cookie(user, org string) string {
	n.tb.Helper()
	return n.vault.login(user, org)
}

// minter is both kinds of session store.
type minter interface {
	Mint(ctx context.Context, g session.Grant) (*http.Cookie, error)
}

func mint(tb testing.TB, store minter, user, org string, life time.Duration) string {
	tb.Helper()
	grant := session.Grant{UserID: user, Lifetime: life}
	if org != "" {
		grant.Organization = mustOrg(tb, org)
	}
	c, err := store.Mint(context.Background(), grant)
	if err != nil {
		tb.Fatal(err)
	}
	return c.Name + "=" + c.Value
}

// handshake is one that succeeds unless header changes it.
func (n *node) handshake(path, user, org string, header http.Header) testkit.Handshake {
	n.tb.Helper()
	all := http.Header{"Origin": {origin}, "Cookie": {n.cookie(user, org)}}
	maps.Copy(all, header)
	return n.over.handshake(path, all)
}

func (n *node) connect(path, user, org string) *testkit.Client {
	n.tb.Helper()
	return n.over.connect(n.tb, n.dial, path, http.Header{"Origin": {origin}, "Cookie": {n.cookie(user, org)}})
}

// connectAs connects with a subprotocol, or without one, and reads the welcome that comes with it.
func (n *node) connectAs(path, protocol, user, org string) *testkit.Client {
	n.tb.Helper()
	if protocol == "" {
		return n.connect(path, user, org)
	}
	c := testkit.Connect(n.tb, n.dial, n.handshake(path, user, org, http.Header{"Sec-Websocket-Protocol": {protocol}}))
	if _, err := c.Next(); err != nil {
		n.tb.Fatal(err)
	}
	return c
}

// subscribe connects to /ws/events and joins groups.
func (n *node) subscribe(user, org string, groups ...string) *testkit.Client {
	n.tb.Helper()
	return n.subscribeAs(nil, user, org, groups...)
}

// subscribeAs is subscribe with other header lines in the handshake.
func (n *node) subscribeAs(header http.Header, user, org string, groups ...string) *testkit.Client {
	n.tb.Helper()
	all := http.Header{"Origin": {origin}, "Cookie": {n.cookie(user, org)}}
	maps.Copy(all, header)
	return n.over.subscribe(n.tb, n.dial, all, groups...)
}

// publish publishes an event and returns its payload.
func (n *node) publish(org, group, text string) string {
	n.tb.Helper()
	payload := `{"type":"note","organization_id":"` + org + `","text":"` + text + `"}`
	if err := n.bus.Publish(context.Background(), mustGroup(n.tb, org, group), []byte(payload)); err != nil {
		n.tb.Fatal(err)
	}
	return payload
}

// metric returns the sum of a metric over the series that have all the labels, as NAME=VALUE.
func (n *node) metric(name string, labels ...string) float64 {
	n.tb.Helper()
	families, err := n.metrics.Gather()
	if err != nil {
		n.tb.Fatal(err)
	}
	var sum float64
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if hasLabels(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetHistogram().GetSampleSum()
			}
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, labels []string) bool {
	for _, want := range labels {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetName()+"="+l.GetValue() == want
		}
		if !found {
			return false
		}
	}
	return true
}

// expectMetric waits until a metric has a value.
func (n *node) expectMetric(want float64, name string, labels ...string) {
	n.tb.Helper()
	testkit.Eventually(n.tb, name, func() bool { return n.metric(name, labels...) == want })
}

// hooks is a consumer made of functions, each of which may be nil, that notes the calls.
type hooks struct {
	connect    func(ctx context.Context, c consumer.Conn) error
	receive    func(ctx context.Context, c consumer.Conn, f event.RawMessage) error
	disconnect func(ctx context.Context, c consumer.Conn, cause error)

	calls *calls
}

// calls is a list of what happened, safe for concurrent use.
type calls struct {
	mu   sync.Mutex
	list []string
}

func (c *calls) add(text string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, text)
}

func (c *calls) all() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.list, " ")
}

func (h *hooks) Connect(ctx context.Context, c consumer.Conn) error {
	h.calls.add("connect")
	if h.connect == nil {
		return nil
	}
	return h.connect(ctx, c)
}

func (h *hooks) Receive(ctx context.Context, c consumer.Conn, f event.RawMessage) error {
	h.calls.add("receive")
	if h.receive == nil {
		return nil
	}
	return h.receive(ctx, c, f)
}

func (h *hooks) Disconnect(ctx context.Context, c consumer.Conn, cause error) {
	h.calls.add("disconnect")
	if h.disconnect != nil {
		h.disconnect(ctx, c, cause)
	}
}

// route serves pattern with the hooks.
func (h *hooks) route(pattern string) consumer.Route {
	return consumer.Route{Pattern: pattern, New: func() consumer.OrganizationAwareConsumer { return h }}
}

// handling adds an event handler to hooks.
type handling struct {
	*hooks

	handle func(ctx context.Context, c consumer.Conn, e *event.Event) bool
}

func (h handling) HandleEvent(ctx context.Context, c consumer.Conn, e *event.Event) bool {
	return h.handle(ctx, c, e)
}

// frameSize returns how many bytes a WebSocket frame of an event has.
func frameSize(e *event.Event, s event.Shape) int {
	return len(socket.NewTextFrame(e.TextSize(s))) + e.TextSize(s)
}

// joining returns a Connect that joins groups.
func joining(groups ...string) func(context.Context, consumer.Conn) error {
	return func(ctx context.Context, c consumer.Conn) error {
		for _, g := range groups {
			if err := c.Join(ctx, g); err != nil {
				return err
			}
		}
		return nil
	}
}

func mustKeyspace(tb testing.TB) keyspace.Keyspace {
	tb.Helper()
	k, err := keyspace.New(keyspace.DefaultPrefix)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// calm are the options of a bus in tests without a fault of the link: a machine that is merely slow must not look
// like one.
func calm() pubsub.Options {
	return pubsub.Options{
		LinkTimeout: testkit.Patience, SubscribeTimeout: testkit.Patience, PublishTimeout: testkit.Patience, HistoryTimeout: testkit.Patience,
	}
}

// logTo returns a logger that writes everything to w.
func logTo(w io.Writer) *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(zapcore.AddSync(w)), zap.DebugLevel))
}
