// Package outgoing makes the gateway's HTTP calls to other programs: hooks of routes, and whatever else an
// operator or an organization names by a URL. Every call is signed or carries a key, has a deadline, reads a bounded answer,
// follows no redirect and uses no proxy. Each organization has a bounded number of calls under way, and a circuit
// breaker of its own, so a slow or dead receiver of one organization delays no other.
//
// A URL that an operator wrote may lead anywhere. One that comes from an organization's data leads to public
// addresses only, and to networks that the operator lists.
package outgoing

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orgcast/internal/orgctx"
	"orgcast/internal/tracing"
)

// Why a call brought no answer. Other errors come from the network.
var (
	// ErrCircuitOpen is returned without a call after several calls in a row have failed.
	ErrCircuitOpen = errors.New("outgoing: circuit open after repeated failures")
	// ErrBusy is returned without a call if all calls that the organization may make at once are under way.
	ErrBusy = errors.New("outgoing: too many calls of this organization under way")
	// ErrTimeout is returned if the answer was not complete in time.
	ErrTimeout = errors.New("outgoing: no complete answer in time")
	// ErrTooLarge is returned for an answer that is longer than the limit.
	ErrTooLarge = errors.New("outgoing: answer is larger than the limit")
	// ErrPrivateAddress is returned for a URL of an organization that leads to an address that is not public.
	ErrPrivateAddress = errors.New("outgoing: address is not public")
	// ErrAbandoned is returned, wrapping the cause, if the caller's context ended first.
	ErrAbandoned = errors.New("outgoing: abandoned")
)

const (
	// dialTimeout bounds one attempt to connect: three SYN packets.
	dialTimeout = 5 * time.Second
	// handshakeTimeout bounds the TLS handshake.
	handshakeTimeout = 5 * time.Second
	// idleTimeout is how long a connection waits for its next call. Servers commonly keep one for 60 s or more.
	idleTimeout = 55 * time.Second
	// idlePerHost is how many connections wait for each host.
	idlePerHost = 32
	// maxHeader is the longest header of an answer, in bytes.
	maxHeader = 32 << 10
)

// Defaults of [EndpointOptions].
const (
	DefaultTimeout         = 2 * time.Second
	DefaultMaxAnswer       = 256 << 10
	DefaultPerOrganization = 16
)

// Options are those of a [Client].
type Options struct {
	// PrivateNetworks are networks that URLs of organizations may lead to although they are not public.
	PrivateNetworks []netip.Prefix
	// Registerer takes the metrics. It may be nil.
	Registerer prometheus.Registerer
	// Tracer makes a span of each call, which the receiver is told. It may be nil.
	Tracer *tracing.Tracer
}

// Client keeps the connections of all calls. It is safe for concurrent use.
type Client struct {
	operator, organization *http.Client // they share no connection
	metrics                *metrics
	tracer                 *tracing.Tracer
}

// New returns a Client.
func New(o Options) *Client {
	own := reach{networks: o.PrivateNetworks}
	return &Client{
		operator:     newHTTPClient(net.Dialer{Timeout: dialTimeout}),
		organization: newHTTPClient(net.Dialer{Timeout: dialTimeout, ControlContext: own.control}),
		metrics:      newMetrics(o.Registerer),
		tracer:       o.Tracer,
	}
}

func newHTTPClient(dialer net.Dialer) *http.Client {
	return &http.Client{
		// A redirect could lead where the URL may not, and would repeat a call that was signed for another receiver.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // a variable of the environment must not see, or answer, what is meant for others
			DialContext:            dialer.DialContext,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true, // a small answer must not become a large one
			MaxIdleConnsPerHost:    idlePerHost,
			IdleConnTimeout:        idleTimeout,
			TLSHandshakeTimeout:    handshakeTimeout,
			MaxResponseHeaderBytes: maxHeader,
		},
	}
}

// Close closes connections that wait. Calls that are under way end with their contexts.
func (c *Client) Close() {
	c.operator.CloseIdleConnections()
	c.organization.CloseIdleConnections()
}

// EndpointOptions describe one receiver of calls.
type EndpointOptions struct {
	// Purpose names the kind of call in metrics: "hook".
	Purpose string
	// URL is where calls go, http or https.
	URL string
	// FromOrganization says that the URL comes from an organization's data, so that it must lead to a public
	// address or one of [Options.PrivateNetworks].
	FromOrganization bool
	// Keys sign each call. Without any, calls are not signed.
	Keys Keys
	// Bearer returns the key that each call carries in the header Authorization, for receivers that expect one. It
	// may be nil.
	Bearer func() string
	// Timeout bounds a call, from waiting for its turn to the last byte of the answer.
	Timeout time.Duration
	// MaxAnswer is the longest body of an answer, in bytes.
	MaxAnswer int
	// PerOrganization is how many calls of one organization may be under way at once.
	PerOrganization int
}

// CheckURL returns what is wrong with a URL of an endpoint.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("is not a valid URL") // its text may hold a secret
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("must begin with http:// or https://")
	case u.Hostname() == "":
		return errors.New("must name a host")
	case u.User != nil:
		return errors.New("must not contain a user or password: calls carry a signature or a key of their own")
	case u.Fragment != "":
		return errors.New("must not contain a fragment")
	}
	return nil
}

// Endpoint is one receiver of calls. It is safe for concurrent use.
type Endpoint struct {
	opt     EndpointOptions
	http    *http.Client
	metrics *metrics
	tracer  *tracing.Tracer
	turns   *turns
	circuit *circuit
}

func (o EndpointOptions) withDefaults() EndpointOptions {
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.MaxAnswer = cmp.Or(o.MaxAnswer, DefaultMaxAnswer)
	o.PerOrganization = cmp.Or(o.PerOrganization, DefaultPerOrganization)
	return o
}

// Endpoint returns a receiver. Zero options have their defaults.
func (c *Client) Endpoint(o EndpointOptions) (*Endpoint, error) {
	if err := CheckURL(o.URL); err != nil {
		return nil, fmt.Errorf("outgoing: url %w", err)
	}
	o = o.withDefaults()
	e := &Endpoint{opt: o, http: c.operator, metrics: c.metrics, tracer: c.tracer, turns: newTurns(o.PerOrganization), circuit: newCircuit(time.Now)}
	if o.FromOrganization {
		e.http = c.organization
	}
	return e, nil
}

// Call is one call.
type Call struct {
	// Organization is the one that the call is about.
	Organization orgctx.ID
	// ID names what is told. A call that is made again has the same one, so that receivers can tell.
	ID string
	// Body is JSON.
	Body []byte
	// Keys sign the call instead of those of the endpoint. The zero Keys do not.
	Keys Keys
}

// Answer is what a receiver said.
type Answer struct {
	Status int
	Body   []byte
}

// Post makes a call and returns the answer, whatever its status. It waits for its turn, no longer than the
// endpoint's timeout in all. A connection that turns out to be closed is replaced, under the same ID.
func (e *Endpoint) Post(ctx context.Context, call Call) (Answer, error) {
	return e.call(ctx, http.MethodPost, call)
}

// Get is Post for what is only read: it has no body and belongs to no organization.
func (e *Endpoint) Get(ctx context.Context) (Answer, error) {
	return e.call(ctx, http.MethodGet, Call{})
}

func (e *Endpoint) call(ctx context.Context, method string, call Call) (Answer, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, e.opt.Timeout, ErrTimeout)
	defer cancel()
	ctx, span := e.tracer.Start(ctx, e.opt.Purpose, tracing.Client)
	defer span.End()
	span.Text("organization_id", call.Organization.String())
	answer, err := e.inTurn(ctx, method, call)
	result := resultOf(answer, err)
	span.Number("http.response.status_code", answer.Status)
	if err != nil {
		span.Fail(result)
	}
	e.metrics.observe(e.opt.Purpose, result, time.Since(began))
	return answer, err
}

func (e *Endpoint) inTurn(ctx context.Context, method string, call Call) (Answer, error) {
	if !e.circuit.allows(call.Organization) {
		return Answer{}, ErrCircuitOpen
	}
	leave, err := e.turns.take(ctx, call.Organization)
	if err != nil {
		e.circuit.abandoned(call.Organization)
		return Answer{}, err
	}
	defer leave()
	answer, err := e.send(ctx, method, call)
	switch {
	case errors.Is(err, ErrAbandoned):
		e.circuit.abandoned(call.Organization) // says nothing of the receiver
	case err != nil || answer.Status >= http.StatusInternalServerError:
		e.circuit.failed(call.Organization)
	default:
		e.circuit.succeeded(call.Organization)
	}
	return answer, err
}

func (e *Endpoint) send(ctx context.Context, method string, call Call) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, e.opt.URL, bytes.NewReader(call.Body))
	if err != nil {
		return Answer{}, errors.New("outgoing: request cannot be made")
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("User-Agent", "orgcast")
	// Without a value it is not sent. It lets the transport repeat a call on another connection when the one
	// that it has waited on was closed meanwhile.
	request.Header["Idempotency-Key"] = nil
	if e.opt.Bearer != nil {
		request.Header.Set("Authorization", "Bearer "+e.opt.Bearer())
	}
	if e.tracer != nil {
		tracing.ToHeader(ctx, request.Header)
	}
	keys := e.opt.Keys
	if len(call.Keys.keys) > 0 {
		keys = call.Keys
	}
	keys.sign(request.Header, call.ID, time.Now(), call.Body)
	response, err := e.http.Do(request)
	if err != nil {
		return Answer{}, failure(ctx, err)
	}
	defer func() { _ = response.Body.Close() }() // read to its end, or given up
	body, err := io.ReadAll(io.LimitReader(response.Body, int64(e.opt.MaxAnswer)+1))
	switch {
	case err != nil:
		return Answer{}, failure(ctx, err)
	case len(body) > e.opt.MaxAnswer:
		return Answer{}, ErrTooLarge
	}
	return Answer{Status: response.StatusCode, Body: body}, nil
}

// failure returns the reason for an error of the HTTP client, without the URL, which may hold a secret.
func failure(ctx context.Context, err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	switch {
	case errors.Is(err, ErrPrivateAddress):
		return ErrPrivateAddress // not where the name led
	case ctx.Err() != nil:
		return ended(ctx)
	}
	return fmt.Errorf("outgoing: %w", err)
}

// ended returns the error for a context that has ended: [ErrTimeout], or [ErrAbandoned] if not for want of time.
func ended(ctx context.Context) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, ErrTimeout) || errors.Is(cause, context.DeadlineExceeded) {
		return ErrTimeout
	}
	return fmt.Errorf("%w: %w", ErrAbandoned, cause)
}
