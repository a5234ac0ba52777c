package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/loglimit"
	"orgcast/internal/orgctx"
)

// Options are the parts of the console of organizations. All are required, except where they say
// otherwise.
type Options struct {
	Reports Reports
	// Usage returns what an organization used in each of the last 24 hours. It may be nil.
	Usage   func(ctx context.Context, org orgctx.ID) ([]Hour, error)
	Revoker Revoker
	// Admit returns nil if a user is an active member of an active organization, [ErrNotAllowed]
	// if not, and another error if nobody can say.
	Admit func(ctx context.Context, who Administrator) error
	// Violated is called for each row of another organization that was held back. It must not block.
	Violated func()
	// Log and Registerer may be nil.
	Log        *zap.Logger
	Registerer prometheus.Registerer
	// Now is the clock. Default: [time.Now].
	Now func() time.Time
}

// Members serves the console of organizations: the page, and what answers it.
type Members struct {
	scope   scope
	page    http.Handler
	pace    *pace
	now     func() time.Time
	log     *zap.Logger
	results *prometheus.CounterVec
	key     atomic.Pointer[[]byte]

	mu      sync.Mutex
	refused loglimit.Limiter
}

const (
	// maxBody bounds the body of a request, in bytes.
	maxBody = 1 << 10
	// patience bounds an answer, with a question to all nodes.
	patience = 5 * time.Second
)

// New returns the console of organizations. It refuses everything until [Members.SetKey].
func New(o Options) *Members {
	o.Log = cmp.Or(o.Log, zap.NewNop()).Named("console")
	m := &Members{scope: scope{o}, page: Page(Organization), now: o.Now, log: o.Log}
	if m.now == nil {
		m.now = time.Now
	}
	m.pace = newPace(m.now())
	m.results = newResults(o.Registerer)
	m.SetKey("")
	return m
}

// SetKey replaces the key of tokens. Without a key, every token is refused.
func (m *Members) SetKey(key string) {
	b := []byte(key)
	m.key.Store(&b)
}

// methods returns the paths and their methods.
func methods() map[string]string {
	return map[string]string{
		"v1/devices": http.MethodGet, "v1/health": http.MethodGet, "v1/usage": http.MethodGet, "v1/revoke": http.MethodPost,
	}
}

// ServeHTTP implements http.Handler. The path of a request begins below the console's own.
func (m *Members) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method, known := methods()[r.URL.Path]
	if !known && len(r.URL.Path) >= 3 && r.URL.Path[:3] == "v1/" {
		m.answer(w, r, nil, errPath)
		return
	}
	if !known {
		m.page.ServeHTTP(w, r)
		return
	}
	if r.Method != method {
		w.Header().Set("Allow", method)
		m.answer(w, r, nil, errMethod)
		return
	}
	body, err := m.serve(w, r)
	m.answer(w, r, body, err)
}

// serve authenticates a request and does what it asks for. Until the token is verified, a request
// costs one HMAC, and nothing waits.
func (m *Members) serve(w http.ResponseWriter, r *http.Request) (any, error) {
	now := m.now()
	who, err := authenticate(r, *m.key.Load(), now)
	if err != nil {
		return nil, err
	}
	if err := m.pace.take(who.Organization, now); err != nil {
		return nil, err
	}
	defer m.pace.give()
	ctx, cancel := context.WithTimeout(orgctx.WithMember(r.Context(), who.Organization, orgctx.User(who.UserID)), patience)
	defer cancel()
	if err := m.scope.Admit(ctx, who); err != nil {
		return nil, err
	}
	if r.Method == http.MethodPost {
		id, err := connectionOf(w, r)
		if err != nil {
			return nil, err
		}
		return m.scope.revoke(ctx, who, id)
	}
	var allowed []string
	if r.URL.Path == "v1/devices" {
		allowed = []string{"user_id", "cursor"}
	}
	parameters, err := parametersOf(r.URL.RawQuery, allowed)
	if err != nil {
		return nil, err
	}
	switch r.URL.Path {
	case "v1/devices":
		return m.scope.devices(ctx, parameters)
	case "v1/health":
		return m.scope.health(ctx)
	default:
		return m.scope.usage(ctx)
	}
}

// parametersOf returns the parameters of a request.
func parametersOf(query string, allowed []string) (map[string]string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, errParameter
	}
	parameters := make(map[string]string)
	for name, list := range values {
		if len(list) != 1 || !slices.Contains(allowed, name) {
			return nil, errParameter
		}
		parameters[name] = list[0]
	}
	return parameters, nil
}

// connectionOf returns the connection that a request names.
func connectionOf(w http.ResponseWriter, r *http.Request) (string, error) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil || r.URL.RawQuery != "" {
		return "", errBody
	}
	var fields map[string]string // a field may stand there twice; both are of the same administrator
	if json.Unmarshal(text, &fields) != nil || len(fields) != 1 || !orgctx.ValidID(fields["connection_id"]) {
		return "", errBody
	}
	return fields["connection_id"], nil
}

// answer sends an answer, counts it and logs why a request came to nothing.
func (m *Members) answer(w http.ResponseWriter, r *http.Request, body any, err error) {
	secure(w.Header())
	if err == nil {
		m.results.WithLabelValues(codeOK).Inc()
		send(w, http.StatusOK, body)
		return
	}
	p := problemOf(err)
	m.results.WithLabelValues(p.code).Inc()
	refuse(w, p)
	m.mu.Lock()
	suppressed, ok := m.refused.Allow(m.now())
	m.mu.Unlock()
	if !ok {
		return
	}
	fields := []zap.Field{zap.String("reason", p.code), zap.Int("status", p.status), zap.String("remote", r.RemoteAddr), zap.Int("suppressed", suppressed)}
	if p.status < http.StatusInternalServerError || errors.Is(err, ErrBusy) {
		m.log.Info("console request refused", fields...)
		return
	}
	m.log.Warn("console request failed", append(fields, zap.Error(err))...)
}
