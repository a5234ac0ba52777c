package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Defaults and bounds of a [WebStore].
const (
	// DefaultBatch is how many cookies one question has at most.
	DefaultBatch = 256
	// maxQuestion is the longest question, in bytes: Django and others accept a megabyte by default.
	maxQuestion = 900 << 10
	// maxCookie is the longest cookie that is asked about, in bytes. Browsers keep 4,096.
	maxCookie = 16 << 10
	// recheckCalls is how many questions about open connections are under way at once. Handshakes must not
	// have to wait for all of them.
	recheckCalls = 4
)

// Pick says which of several cookies with the same name counts.
type Pick string

// A web application and the gateway must pick the same one.
const (
	PickFirst Pick = "first" // as most frameworks do
	PickLast  Pick = "last"  // as Django does
)

// WebOptions are those of [NewWebStore].
type WebOptions struct {
	// Cookie is the name of the session cookie.
	Cookie string
	// Pick says which of several cookies counts. The zero Pick is [PickFirst].
	Pick Pick
	// Batch is how many cookies one question has at most. Zero is [DefaultBatch].
	Batch int
	// Ask makes the calls.
	Ask Asker
	// Asked is called with the number of cookies of each question. It may be nil.
	Asked func(cookies int)
	// Now tells the time. Nil is [time.Now].
	Now func() time.Time
}

// Asker calls the web application. Package app implements it with package outgoing.
type Asker interface {
	// Ask posts a question in JSON and returns status and body of the answer. It waits for the network, for a
	// bounded time, and is safe for concurrent use.
	Ask(ctx context.Context, question []byte) (status int, answer []byte, err error)
}

// WebStore asks the web application over HTTP which user a cookie belongs to. It does not know the format of a cookie:
// it sends the value as it is in the header. Handshakes that happen at the same time share a question.
//
// It is safe for concurrent use.
type WebStore struct {
	opt      WebOptions
	gatherer *gatherer
	answered atomic.Int64 // when the last answer came, in Unix nanoseconds
}

var _ Store = (*WebStore)(nil)

func (o WebOptions) withDefaults() WebOptions {
	o.Batch = cmp.Or(o.Batch, DefaultBatch)
	o.Pick = cmp.Or(o.Pick, PickFirst)
	if o.Asked == nil {
		o.Asked = func(int) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

func (o WebOptions) validate() error {
	switch {
	case o.Cookie == "" || o.Ask == nil:
		return errors.New("session: Cookie and Ask must be set")
	case o.Batch < 0:
		return errors.New("session: Batch must not be negative")
	case o.Pick != PickFirst && o.Pick != PickLast:
		return fmt.Errorf("session: Pick must be %s or %s", PickFirst, PickLast)
	}
	return nil
}

// NewWebStore returns a store. Close it after its last use.
func NewWebStore(o WebOptions) (*WebStore, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &WebStore{opt: o}
	s.gatherer = newGatherer(o.Batch, s.ask)
	return s, nil
}

// Close waits for questions that are under way, and answers further ones with [ErrUnavailable].
func (s *WebStore) Close() { s.gatherer.close() }

// Answered returns when the web application answered last, zero for never.
func (s *WebStore) Answered() time.Time {
	nanoseconds := s.answered.Load()
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanoseconds)
}

// cookie returns the value that the application would take, as it stands in the header.
func (s *WebStore) cookie(r *http.Request) (string, error) {
	value := rawCookie(r, s.opt.Cookie, s.opt.Pick)
	if value == "" {
		return "", ErrNone
	}
	if len(value) > maxCookie || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", ErrInvalid // a session cookie is plain ASCII: RFC 6265, section 4.1.1
	}
	return value, nil
}

// Bears implements [Bearer].
func (s *WebStore) Bears(r *http.Request) bool { return rawCookie(r, s.opt.Cookie, s.opt.Pick) != "" }

// Resolve implements [Resolver].
func (s *WebStore) Resolve(ctx context.Context, r *http.Request) (Identity, error) {
	value, err := s.cookie(r)
	if err != nil {
		return Identity{}, err
	}
	return s.gatherer.ask(ctx, value)
}

// Ticket implements [Store]: it is the cookie's value.
func (s *WebStore) Ticket(r *http.Request) string {
	value, _ := s.cookie(r)     // without one Recheck finds none
	return strings.Clone(value) // not the whole header with it
}

// Recheck implements [Store]. It asks once about each session. A session that the application does not know any
// more is [ErrStale]: applications give a session another key when the user logs in again, changes a password,
// or when secrets are exchanged, and the browser may have the new cookie.
func (s *WebStore) Recheck(ctx context.Context, held []Held) []Standing {
	questions := make(map[string]*question, len(held)) // several connections may share a session
	var batches []*batch
	for _, h := range held {
		if h.Ticket == "" || questions[h.Ticket] != nil {
			continue
		}
		q := newQuestion(h.Ticket)
		questions[h.Ticket] = q
		if n := len(batches); n == 0 || !batches[n-1].fits(q, s.opt.Batch) {
			batches = append(batches, new(batch))
		}
		batches[len(batches)-1].add(q)
	}
	calls := new(errgroup.Group)
	calls.SetLimit(recheckCalls)
	for _, b := range batches {
		calls.Go(func() error { s.ask(ctx, b.questions); return nil })
	}
	_ = calls.Wait() // each question has its own error
	out := make([]Standing, len(held))
	for i, h := range held {
		out[i] = Standing{Err: ErrNone}
		if q := questions[h.Ticket]; q != nil {
			out[i] = h.judge(q.identity, q.err)
		}
		if errors.Is(out[i].Err, ErrNone) || errors.Is(out[i].Err, ErrExpired) {
			out[i].Err = ErrStale
		}
	}
	return out
}

// ask asks about some cookies in one call, and answers each question.
func (s *WebStore) ask(ctx context.Context, questions []*question) {
	answers, err := s.call(ctx, questions)
	now := s.opt.Now()
	for i, q := range questions {
		if err != nil {
			q.identity, q.err = Identity{}, err
			continue
		}
		q.identity, q.err = answers[i].identity(now)
		if q.err == nil && q.identity.SessionID == "" {
			q.identity.SessionID = DeriveID(q.value)
		}
	}
}

func (s *WebStore) call(ctx context.Context, questions []*question) ([]webAnswer, error) {
	s.opt.Asked(len(questions))
	status, body, err := s.opt.Ask.Ask(ctx, encodeQuestions(questions))
	if err != nil {
		return nil, unavailable(err)
	}
	switch status {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, fmt.Errorf("%w: the web application answered %d: it does not accept the key", ErrUnavailable, status)
	case http.StatusNotFound:
		return nil, fmt.Errorf("%w: the web application answered 404: nothing answers at this path", ErrUnavailable)
	default:
		return nil, fmt.Errorf("%w: the web application answered %d", ErrUnavailable, status)
	}
	answers, err := parseAnswers(body, len(questions))
	if err != nil {
		return nil, unavailable(err)
	}
	s.answered.Store(time.Now().UnixNano())
	return answers, nil
}
