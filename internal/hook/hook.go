// Package hook asks other programs what a declared route decides. Each question is one signed HTTP
// call; what comes back is checked before anything of it is done. A hook that fails, lies or does
// not answer in time has decided nothing: connections are refused, messages are answered with the
// error unavailable.
package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/orgctx"
	"orgcast/internal/outgoing"
)

// Hook is the program of one route. It is safe for concurrent use.
type Hook struct {
	path     string
	endpoint *outgoing.Endpoint
	on       []string
	log      *zap.Logger
}

var _ consumer.Hook = (*Hook)(nil)

// Options describe a [Hook].
type Options struct {
	// Path is the pattern of its route, for the log.
	Path string
	// Endpoint is where the program listens.
	Endpoint *outgoing.Endpoint
	// On lists the events that it is asked about.
	On  []string
	Log *zap.Logger
}

// New returns a Hook.
func New(o Options) *Hook {
	return &Hook{path: o.Path, endpoint: o.Endpoint, on: o.On, log: o.Log.Named("hook").With(zap.String("route", o.Path))}
}

// Asks implements [consumer.Hook].
func (h *Hook) Asks(event string) bool { return slices.Contains(h.on, event) }

// Ask implements [consumer.Hook].
func (h *Hook) Ask(ctx context.Context, id string, question json.RawMessage) (consumer.HookAnswer, error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return consumer.HookAnswer{}, orgctx.ErrNoOrganization
	}
	answer, err := h.endpoint.Post(ctx, outgoing.Call{Organization: org, ID: id, Body: question})
	if err != nil {
		return consumer.HookAnswer{}, h.failed(org, err)
	}
	switch answer.Status {
	case http.StatusOK:
	case http.StatusForbidden:
		return consumer.HookAnswer{}, consumer.ErrForbidden
	case http.StatusNotFound:
		return consumer.HookAnswer{}, consumer.ErrNotFound
	default:
		return consumer.HookAnswer{}, h.failed(org, fmt.Errorf("hook: status %d", answer.Status))
	}
	decided, err := Decode(org, answer.Body)
	if err != nil {
		return consumer.HookAnswer{}, h.failed(org, err)
	}
	return decided, nil
}

// failed logs why a hook has decided nothing.
func (h *Hook) failed(org orgctx.ID, err error) error {
	if errors.Is(err, outgoing.ErrAbandoned) {
		return err // the connection ended first
	}
	h.log.Warn("hook failed", zap.Stringer("organization_id", org), zap.Error(err))
	return err
}

// Failed implements [consumer.Hook].
func (h *Hook) Failed(ctx context.Context, err error) {
	if org, _ := orgctx.From(ctx); err != nil { // zero if there is none
		_ = h.failed(org, err)
	}
}

// Tell tells the program something for the organization of ctx, whatever it thinks of it. An error
// says that it may not have heard it, and may be told again under the same id.
func (h *Hook) Tell(ctx context.Context, id string, question json.RawMessage) error {
	org, ok := orgctx.From(ctx)
	if !ok {
		return orgctx.ErrNoOrganization
	}
	answer, err := h.endpoint.Post(ctx, outgoing.Call{Organization: org, ID: id, Body: question})
	switch {
	case err != nil:
		return err
	case answer.Status == http.StatusTooManyRequests, answer.Status >= http.StatusInternalServerError:
		return fmt.Errorf("hook: status %d", answer.Status)
	}
	return nil
}
