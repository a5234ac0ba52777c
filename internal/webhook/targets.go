package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
	"orgcast/internal/outgoing"
)

// Fields of an organization's hash.
const (
	fieldURL = "webhook_url"
	fieldKey = "webhook_key"
)

const (
	// targetFor is how long what a hash says is kept before it is read again.
	targetFor = 5 * time.Second
	// unreadFor is the pause after a hash could not be read. The last known target counts meanwhile.
	unreadFor = time.Second
	// sweepTargets is the number of kept targets at which expired ones are dropped.
	sweepTargets = 1024
)

// ErrNoReceiver is returned for an organization without a receiver.
var ErrNoReceiver = errors.New("webhook: the organization has no receiver")

var (
	// errMisconfigured is what all other reasons for which there can be no call wrap.
	errMisconfigured = errors.New("webhook: misconfigured")
	errNotHTTPS      = errors.New(fieldURL + " must begin with https://")
	errNoKey         = errors.New("no key: set --webhook-key, or the field webhook_key of the organization")
)

// TargetsOptions are the options of [NewTargets].
type TargetsOptions struct {
	// URL is the receiver of all organizations that have none of their own. It may be empty.
	URL string
	// Own says that an organization's hash may name its receiver.
	Own bool
	// Timeout bounds a call. Default [DefaultTimeout].
	Timeout time.Duration
	// Log gets hashes that cannot be read or are wrong. It may be nil.
	Log *zap.Logger
}

// Targets know where the webhooks of an organization go, and the keys that sign them. They are safe
// for concurrent use.
type Targets struct {
	state  redis.Cmdable
	keys   keyspace.Keyspace
	calls  *outgoing.Client
	opt    TargetsOptions
	common *outgoing.Endpoint // nil without a URL

	mu      sync.Mutex // not held during I/O
	masters []string
	known   map[orgctx.ID]*target
	sweep   int
}

// target is what is known of one organization.
type target struct {
	url      string // of its own, or empty
	endpoint *outgoing.Endpoint
	keys     outgoing.Keys
	err      error
	until    time.Time
}

// NewTargets returns the targets. state is the Redis that has the hashes of organizations.
func NewTargets(state redis.Cmdable, keys keyspace.Keyspace, calls *outgoing.Client, o TargetsOptions) (*Targets, error) {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	o.Log = o.Log.Named("webhook")
	t := &Targets{state: state, keys: keys, calls: calls, opt: o, known: make(map[orgctx.ID]*target), sweep: sweepTargets}
	if o.URL == "" {
		return t, nil
	}
	var err error
	t.common, err = t.endpoint(o.URL, false)
	return t, err
}

func (t *Targets) endpoint(url string, own bool) (*outgoing.Endpoint, error) {
	return t.calls.Endpoint(outgoing.EndpointOptions{
		Purpose: "webhook", URL: url, FromOrganization: own, Timeout: t.opt.Timeout, MaxAnswer: maxAnswer,
	})
}

// timeout returns the bound of a call.
func (t *Targets) timeout() time.Duration { return t.opt.Timeout }

// maxAnswer bounds the answers of receivers, which are not read.
const maxAnswer = 64 << 10

// SetMasters replaces the master keys. The keys of organizations follow from them.
func (t *Targets) SetMasters(masters []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.masters = masters
	clear(t.known)
}

// Wants reports whether an organization has a receiver. If that cannot be found out, it reports true.
func (t *Targets) Wants(ctx context.Context, org orgctx.ID) bool {
	if t.common != nil {
		return true
	}
	_, err := t.of(ctx, org)
	return !errors.Is(err, ErrNoReceiver)
}

// of returns the target of an organization, or [ErrNoReceiver].
func (t *Targets) of(ctx context.Context, org orgctx.ID) (*target, error) {
	now := time.Now()
	t.mu.Lock()
	last, masters := t.known[org], t.masters
	t.mu.Unlock()
	if last != nil && now.Before(last.until) {
		return last, last.err
	}
	next, err := t.read(ctx, org, masters, last)
	switch {
	case err == nil:
		next.until = now.Add(targetFor)
	case last != nil:
		again := *last
		next, again.until = &again, now.Add(unreadFor)
	default:
		next = &target{err: err, until: now.Add(unreadFor)}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known[org] = next
	if len(t.known) >= t.sweep {
		maps.DeleteFunc(t.known, func(_ orgctx.ID, k *target) bool { return !now.Before(k.until) })
		t.sweep = max(sweepTargets, 2*len(t.known))
	}
	return next, next.err
}

// read reads the target of an organization. last may be nil.
func (t *Targets) read(ctx context.Context, org orgctx.ID, masters []string, last *target) (*target, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	values, err := t.state.HMGet(ctx, t.keys.Organization(org), fieldURL, fieldKey).Result()
	if err != nil {
		return nil, fmt.Errorf("read the receiver of webhooks: %w", err)
	}
	next := &target{endpoint: t.common}
	own, _ := values[0].(string)
	if t.opt.Own {
		next.url = own
	}
	switch {
	case next.url == "":
	case last != nil && last.url == next.url && last.endpoint != nil:
		next.endpoint = last.endpoint // it knows whether the receiver fails
	default:
		next.endpoint, err = t.ownEndpoint(next.url)
	}
	if err == nil && next.endpoint == nil {
		next.err = ErrNoReceiver
		return next, nil
	}
	key, _ := values[1].(string)
	if err == nil {
		next.keys, err = signingKeys(org, key, masters)
	}
	if err != nil {
		t.opt.Log.Warn("organization cannot have webhooks", zap.Stringer("organization_id", org), zap.Error(err))
		next.err = fmt.Errorf("%w: %w", errMisconfigured, err)
	}
	return next, nil
}

func (t *Targets) ownEndpoint(url string) (*outgoing.Endpoint, error) {
	if !strings.HasPrefix(url, "https://") {
		return nil, errNotHTTPS
	}
	return t.endpoint(url, true)
}

// signingKeys returns the keys of an organization: its own, or one from each master key.
func signingKeys(org orgctx.ID, own string, masters []string) (outgoing.Keys, error) {
	text := own
	if own == "" {
		text = DeriveKeys(org, masters)
	}
	if text == "" {
		return outgoing.Keys{}, errNoKey
	}
	keys, err := outgoing.ParseKeys(text)
	if err != nil {
		return outgoing.Keys{}, fmt.Errorf("%s %w", fieldKey, err)
	}
	return keys, nil
}

// DeriveKeys returns the keys of an organization that follow from the master keys: for each the
// HMAC-SHA256, with it, of "orgcast.v1.webhook\nORGANIZATION", in the form whsec_BASE64, separated by
// spaces.
func DeriveKeys(org orgctx.ID, masters []string) string {
	keys := make([]string, len(masters))
	for i, master := range masters {
		h := hmac.New(sha256.New, []byte(master))
		h.Write([]byte("orgcast.v1.webhook\n" + org.String()))
		keys[i] = "whsec_" + base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	return strings.Join(keys, " ")
}

// ReadKeys returns the keys of an organization, its own or those that follow from the master keys.
func ReadKeys(ctx context.Context, state redis.Cmdable, keys keyspace.Keyspace, org orgctx.ID, masters []string) (string, error) {
	own, err := state.HGet(ctx, keys.Organization(org), fieldKey).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", fmt.Errorf("read the key of the organization: %w", err)
	}
	if _, err := signingKeys(org, own, masters); err != nil {
		return "", err
	}
	if own == "" {
		own = DeriveKeys(org, masters)
	}
	return strings.Join(strings.Fields(own), " "), nil
}
