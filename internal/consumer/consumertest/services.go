package consumertest

import (
	"context"
	"encoding/json"
	"sync"

	"orgcast/internal/consumer"
	"orgcast/internal/orgctx"
)

// Services do all that consumers can ask for, as far as Err allows, and record it. They refuse a
// context without organisation, as the real ones do. They are safe for concurrent use.
type Services struct {
	// Err is what every call returns, if it is set. Set it before the call.
	Err error

	mu     sync.Mutex
	calls  []string
	once   map[string]string // work by organisation, kind and idempotency key
	owners map[string]string // users by organisation, kind and id
}

var (
	_ consumer.Dispatcher = (*Services)(nil)
	_ consumer.Recorder   = (*Services)(nil)
	_ consumer.Inputs     = (*Services)(nil)
	_ consumer.Owners     = (*Services)(nil)
)

// Calls returns what was asked for since the last call, each as one JSON object. Claims are left out.
func (s *Services) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// begin returns the organisation that a call is for, and notes it.
func (s *Services) begin(ctx context.Context, call any) (org string, err error) {
	id, ok := orgctx.From(ctx)
	switch {
	case !ok:
		return "", orgctx.ErrNoOrganization
	case s.Err != nil:
		return "", s.Err
	case call == nil:
		return id.String(), nil
	}
	b, err := json.Marshal(call)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, string(b))
	return id.String(), nil
}

// Dispatch implements [consumer.Dispatcher].
func (s *Services) Dispatch(ctx context.Context, w consumer.Work) (string, error) {
	org, err := s.begin(ctx, map[string]any{"dispatch": w.Kind, "id": w.ID, "once": w.Idempotency, "group": w.Group, "user": w.User, "payload": w.Payload})
	if err != nil || w.Idempotency == "" {
		return w.ID, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return first(&s.once, org+" "+w.Kind+" "+w.Idempotency, w.ID), nil
}

// Record implements [consumer.Recorder].
func (s *Services) Record(ctx context.Context, name, key string, v any) error {
	_, err := s.begin(ctx, map[string]any{"record": v, "group": name, "once": key})
	return err
}

// Answer implements [consumer.Inputs].
func (s *Services) Answer(ctx context.Context, execution string, taskIndex int, input string) error {
	_, err := s.begin(ctx, map[string]any{"answer": input, "execution": execution, "task_index": taskIndex})
	return err
}

// Claim implements [consumer.Owners].
func (s *Services) Claim(ctx context.Context, kind, id, user string) (owner bool, err error) {
	org, err := s.begin(ctx, nil)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return first(&s.owners, org+" "+kind+" "+id, user) == user, nil
}

// first returns what is known under a name, which is value if nothing was.
func first(known *map[string]string, name, value string) string {
	if *known == nil {
		*known = make(map[string]string)
	}
	if _, ok := (*known)[name]; !ok {
		(*known)[name] = value
	}
	return (*known)[name]
}
