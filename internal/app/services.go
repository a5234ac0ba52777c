package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
	"orgcast/internal/quota"
	"orgcast/internal/task"
)

// Services implements the services of consumers with tasks, bus and directory. It translates
// errors, and logs those that consumers only see as unavailable.
type Services struct {
	dispatcher *task.Dispatcher
	asks       *task.Asks
	requests   *task.Requests
	bus        *pubsub.Redis
	objects    *directory.Objects
	directory  directory.Directory
	bytes      *quota.Bytes
	kinds      kindsSeen
	log        *zap.Logger
}

var (
	_ consumer.Dispatcher = (*Services)(nil)
	_ consumer.Recorder   = (*Services)(nil)
	_ consumer.Inputs     = (*Services)(nil)
	_ consumer.Owners     = (*Services)(nil)
	_ consumer.Requests   = (*Services)(nil)
)

// NewServices creates the services from parts of a node that [New] creates earlier.
func NewServices(n *Node) (*Services, error) {
	n.tasks = quota.NewTasks(n.Redis.State, n.Keys, n.Options.taskLimit(), n.Log)
	dispatcher, err1 := task.NewDispatcher(n.Redis.Events, n.Keys, task.DispatcherOptions{Limit: n.limitTasks, Registerer: n.Metrics})
	asks, err2 := task.NewAsks(n.Redis.Events, n.Keys)
	objects, err3 := directory.NewObjects(n.Redis.Events, n.Keys, n.Log)
	requests, err4 := task.NewRequests(n.Redis.Events, n.Keys)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	o := n.Options
	bytes := quota.NewBytes(n.Redis.Events, n.Redis.State, n.Keys, quota.BytesOptions{
		PerOrganization: int64(o.MemberBytesPerOrganization), PerUser: int64(o.MemberBytesPerUser), Log: n.Log, Registerer: n.Metrics,
	})
	return &Services{dispatcher: dispatcher, asks: asks, requests: requests, bus: n.Bus, objects: objects, directory: n.Directory, bytes: bytes, log: n.Log.Named("consumer")}, nil
}

// limitTasks returns the limits of an organization's waiting tasks.
func (n *Node) limitTasks(ctx context.Context, org orgctx.ID) task.Limit {
	return task.Limit(n.tasks.Limit(ctx, org))
}

// What a record takes in Redis in addition to its own bytes: a stream entry with its share of the
// index, and the keys that remember it. Without these, many small messages would cost almost
// nothing.
const (
	overheadOfEvent   = 256
	overheadOfTask    = 512
	overheadOfInput   = 128
	overheadOfRequest = 256
)

// charge charges the user whose frame is handled, and the organization, for bytes that are about to
// be written.
func (s *Services) charge(ctx context.Context, bytes int) error {
	org, ok := orgctx.From(ctx)
	if !ok {
		return orgctx.ErrNoOrganization
	}
	user, ok := orgctx.UserFrom(ctx)
	if !ok {
		return errors.New("charge: no user in the context") // a bug: nothing may be uncharged
	}
	err := s.bytes.Charge(ctx, org, string(user), bytes)
	if errors.Is(err, quota.ErrSpent) {
		return consumer.ErrQuotaExceeded
	}
	return s.unavailable(ctx, err)
}

// Dispatch implements [consumer.Dispatcher].
func (s *Services) Dispatch(ctx context.Context, w consumer.Work) (string, error) {
	group, err := groupOf(ctx, w.Group)
	if err != nil {
		return "", err
	}
	payload, err := event.Marshal(w.Payload)
	if err != nil {
		return "", fmt.Errorf("dispatch %s: %w", w.Kind, err)
	}
	if err := s.charge(ctx, overheadOfTask+len(payload)); err != nil {
		return "", err
	}
	s.kinds.note(w.Kind)
	id, err := s.dispatcher.Dispatch(ctx, task.Task{
		Kind: w.Kind, ID: w.ID, Idempotency: w.Idempotency, Group: group, UserID: w.User, Payload: payload,
	})
	switch {
	case errors.Is(err, task.ErrBacklog):
		return "", consumer.ErrTooManyTasks
	case errors.Is(err, task.ErrMalformed): // its payload is too long, so trying again will not help
		return "", errors.Join(event.ErrBadFields, err)
	}
	return id, s.unavailable(ctx, err)
}

// Withdraw implements [consumer.Dispatcher].
func (s *Services) Withdraw(ctx context.Context, kind, id string) (bool, error) {
	withdrawn, err := s.dispatcher.Withdraw(ctx, kind, id)
	return withdrawn, s.unavailable(ctx, err)
}

// Record implements [consumer.Recorder].
func (s *Services) Record(ctx context.Context, name, key string, v any) error {
	return s.record(ctx, name, key, v, s.charge)
}

// RecordFailure implements [consumer.Recorder].
func (s *Services) RecordFailure(ctx context.Context, name, key string, v any) error {
	return s.record(ctx, name, key, v, func(context.Context, int) error { return nil })
}

func (s *Services) record(ctx context.Context, name, key string, v any, charge func(context.Context, int) error) error {
	group, err := groupOf(ctx, name)
	if err != nil {
		return err
	}
	object, err := event.Marshal(v)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	payload, err := event.WithOrganization(group.Organization(), object)
	if err != nil {
		return err
	}
	if err := charge(ctx, overheadOfEvent+len(payload)); err != nil {
		return err
	}
	_, err = s.bus.Record(ctx, group, payload, event.Recording{IdempotencyKey: key})
	if errors.Is(err, event.ErrTooLarge) { // trying again will not help
		return errors.Join(event.ErrBadFields, err)
	}
	return s.unavailable(ctx, err)
}

// Recorded implements [consumer.Recorder].
func (s *Services) Recorded(ctx context.Context, name, key string) (at event.Position, ok bool, err error) {
	group, err := groupOf(ctx, name)
	if err != nil {
		return event.Position{}, false, err
	}
	at, ok, err = s.bus.Recorded(ctx, group, key)
	return at, ok, s.unavailable(ctx, err)
}

// Begin implements [consumer.Requests].
func (s *Services) Begin(ctx context.Context, id string, content any) (consumer.Request, error) {
	b, err := json.Marshal(content)
	if err != nil {
		return consumer.Request{}, fmt.Errorf("begin request: %w", err)
	}
	if err := s.charge(ctx, overheadOfRequest); err != nil {
		return consumer.Request{}, err
	}
	q, err := s.requests.Begin(ctx, id, b)
	if errors.Is(err, task.ErrConflict) {
		return consumer.Request{}, consumer.ErrConflict
	}
	return consumer.Request{ID: id, Work: q.Work, Done: q.Done, New: q.New, Note: q}, s.unavailable(ctx, err)
}

// Finish implements [consumer.Requests].
func (s *Services) Finish(ctx context.Context, r consumer.Request) error {
	q, _ := r.Note.(task.Request) // as Begin returned it
	return s.unavailable(ctx, s.requests.Done(ctx, q))
}

// Again implements [consumer.Requests].
func (s *Services) Again(ctx context.Context, r consumer.Request) error {
	q, _ := r.Note.(task.Request) // as Begin returned it
	return s.unavailable(ctx, s.requests.Again(ctx, q))
}

// Answer implements [consumer.Inputs].
func (s *Services) Answer(ctx context.Context, a consumer.Answer) error {
	if err := s.charge(ctx, overheadOfInput+len(a.Input)); err != nil {
		return err
	}
	switch err := s.asks.AnswerOnce(ctx, a.Execution, a.TaskIndex, a.Input, a.Key); {
	case errors.Is(err, task.ErrAskNotFound):
		return consumer.ErrInputClosed
	case errors.Is(err, task.ErrAskAnswered):
		return consumer.ErrInputTaken
	default:
		return s.unavailable(ctx, err)
	}
}

// Claim implements [consumer.Owners].
func (s *Services) Claim(ctx context.Context, kind, id, user string) (owner bool, err error) {
	owner, err = s.objects.Claim(ctx, kind, id, user)
	return owner, s.unavailable(ctx, err)
}

// unavailable logs an error that is not an answer.
func (s *Services) unavailable(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	org, _ := orgctx.From(ctx) // zero if there is none
	s.log.Warn("service unavailable", zap.Stringer("organization_id", org), zap.Error(err))
	return errors.Join(consumer.ErrUnavailable, err)
}

// groupOf returns the group called name of the context's organization.
func groupOf(ctx context.Context, name string) (event.Group, error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return event.Group{}, orgctx.ErrNoOrganization
	}
	return event.NewGroup(org, name)
}
