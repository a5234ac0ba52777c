package consumertest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"sync"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Services implement all services of consumers, as far as Err allows, and record the calls. They
// refuse a context without organization, as the real ones do. They are safe for concurrent use.
type Services struct {
	// Err is the error that every call returns, if it is set. Set it before the call.
	Err error

	// DispatchErr is the error that Dispatch returns, if it is set. Set it before the call.
	DispatchErr error

	mu       sync.Mutex
	calls    []string
	once     map[string]string         // work by organization, kind and idempotency key
	owners   map[string]string         // users by organization, kind and id
	requests map[string]string         // content by organization, user and id
	works    map[string]string         // of requests
	done     map[string]bool           // by work
	recorded map[string]event.Position // by organization, group and key
}

var (
	_ consumer.Requests   = (*Services)(nil)
	_ consumer.Dispatcher = (*Services)(nil)
	_ consumer.Recorder   = (*Services)(nil)
	_ consumer.Inputs     = (*Services)(nil)
	_ consumer.Owners     = (*Services)(nil)
)

// Calls returns the calls since the last one of Calls, each as one JSON object, without claims.
func (s *Services) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// called returns the organization that a call is for, and records the call.
func (s *Services) called(ctx context.Context, call any) (org string, err error) {
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
	org, err := s.called(ctx, map[string]any{"dispatch": w.Kind, "id": w.ID, "once": w.Idempotency, "group": w.Group, "user": w.User, "payload": w.Payload})
	if err == nil {
		err = s.DispatchErr
	}
	if err != nil || w.Idempotency == "" {
		return w.ID, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return first(&s.once, org+" "+w.Kind+" "+w.Idempotency, w.ID), nil
}

// Withdraw implements [consumer.Dispatcher]. It always withdraws.
func (s *Services) Withdraw(ctx context.Context, _, _ string) (bool, error) {
	_, err := s.called(ctx, nil)
	return err == nil, err
}

// Record implements [consumer.Recorder].
func (s *Services) Record(ctx context.Context, name, key string, v any) error {
	org, err := s.called(ctx, map[string]any{"record": v, "group": name, "once": key})
	if err == nil && key != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.recorded == nil {
			s.recorded = make(map[string]event.Position)
		}
		if _, ok := s.recorded[org+" "+name+" "+key]; !ok {
			s.recorded[org+" "+name+" "+key] = event.NewPosition(recordedFrom, uint64(len(s.recorded)))
		}
	}
	return err
}

// recordedFrom is the millisecond of recorded events.
const recordedFrom = 1_800_000_000_000

// RecordFailure implements [consumer.Recorder].
func (s *Services) RecordFailure(ctx context.Context, name, key string, v any) error {
	return s.Record(ctx, name, key, v)
}

// Recorded implements [consumer.Recorder].
func (s *Services) Recorded(ctx context.Context, name, key string) (event.Position, bool, error) {
	org, err := s.called(ctx, nil)
	if err != nil {
		return event.Position{}, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.recorded[org+" "+name+" "+key]
	return at, ok, nil
}

// Answer implements [consumer.Inputs].
func (s *Services) Answer(ctx context.Context, a consumer.Answer) error {
	_, err := s.called(ctx, map[string]any{"answer": a.Input, "execution": a.Execution, "task_index": a.TaskIndex, "once": a.Key})
	return err
}

// Begin implements [consumer.Requests].
func (s *Services) Begin(ctx context.Context, id string, content any) (consumer.Request, error) {
	org, err := s.called(ctx, nil)
	if err != nil {
		return consumer.Request{}, err
	}
	user, ok := orgctx.UserFrom(ctx)
	if !ok {
		return consumer.Request{}, errors.New("consumertest: no user in the context")
	}
	b, err := json.Marshal(content)
	if err != nil {
		return consumer.Request{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := org + " " + string(user) + " " + id
	_, known := s.requests[name]
	if first(&s.requests, name, string(b)) != string(b) {
		return consumer.Request{}, consumer.ErrConflict
	}
	r := consumer.Request{ID: id, New: !known, Work: first(&s.works, name, rand.Text()), Note: name}
	r.Done = s.done[r.Work]
	return r, nil
}

// Finish implements [consumer.Requests].
func (s *Services) Finish(_ context.Context, r consumer.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		s.done = make(map[string]bool)
	}
	s.done[r.Work] = true
	return nil
}

// Again implements [consumer.Requests].
func (s *Services) Again(_ context.Context, r consumer.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, ok := r.Note.(string); ok {
		delete(s.works, name)
	}
	return nil
}

// Claim implements [consumer.Owners].
func (s *Services) Claim(ctx context.Context, kind, id, user string) (owner bool, err error) {
	org, err := s.called(ctx, nil)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return first(&s.owners, org+" "+kind+" "+id, user) == user, nil
}

// first returns the value under a name, and sets it to value if there is none.
func first(known *map[string]string, name, value string) string {
	if *known == nil {
		*known = make(map[string]string)
	}
	if _, ok := (*known)[name]; !ok {
		(*known)[name] = value
	}
	return (*known)[name]
}
