package app

import (
	"context"
	"fmt"
	"sync/atomic"

	"orgcast/internal/orgctx"
	"orgcast/internal/outgoing"
	"orgcast/internal/session"
)

const (
	// questionCalls is how many questions to the web application may be in progress. More would
	// only wait there.
	questionCalls = 16
	// maxAnswer is the longest answer about a batch of cookies, in bytes.
	maxAnswer = 1 << 20
)

// webStore creates the store that asks the web application.
func (o *Options) webStore(cookie string, p storeParts, s *Sessions) (*session.WebStore, error) {
	site := new(webApplication)
	site.key.Store(&o.SessionURLKey)
	var err error
	site.endpoint, err = p.calls.Endpoint(outgoing.EndpointOptions{
		Purpose: "session", URL: o.SessionURL, Bearer: func() string { return *site.key.Load() },
		Timeout: o.SessionURLTimeout, MaxAnswer: maxAnswer, PerOrganization: questionCalls,
	})
	if err != nil {
		return nil, fmt.Errorf("--session-url: %w", err)
	}
	store, err := session.NewWebStore(session.WebOptions{
		Cookie: cookie, Pick: session.Pick(o.SessionCookiePick), Batch: o.SessionURLBatch, Ask: site, Asked: p.asked,
	})
	if err != nil {
		return nil, err
	}
	s.undo = append(s.undo, store.Close)
	p.reloads.add(func(next *Options) (func(), error) {
		key := next.SessionURLKey
		return func() { site.key.Store(&key) }, nil
	})
	return store, nil
}

// webApplication says which user a cookie belongs to.
type webApplication struct {
	endpoint *outgoing.Endpoint
	key      atomic.Pointer[string] // replaced by a reload
}

var _ session.Asker = (*webApplication)(nil)

// Ask implements [session.Asker].
func (w *webApplication) Ask(ctx context.Context, question []byte) (status int, answer []byte, err error) {
	// The question is about users of all organizations, so they share its limit and its circuit
	// breaker.
	a, err := w.endpoint.Post(ctx, outgoing.Call{Organization: orgctx.ID{}, Body: question})
	return a.Status, a.Body, err
}
