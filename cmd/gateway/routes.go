package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"orgcast/internal/consumer"
	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
	"orgcast/internal/quota"
	"orgcast/internal/task"
)

// namedRoute is a route with its name in --consumers.
type namedRoute struct {
	name string
	consumer.Route
}

// allRoutes says which consumer serves which path. A new consumer is a line here.
func allRoutes(s *settings, parts *services) ([]namedRoute, error) {
	policy, err := consumer.ParsePolicy(s.policy, []byte(s.signingKey))
	if err != nil {
		return nil, err
	}
	s.onReload(func(next *settings) (func(), error) {
		return func() { policy.SetSigningKey([]byte(next.signingKey)) }, nil
	})
	whenFull, _ := consumer.ParseWhenFull(s.whenFull) // a Choice
	// Twice as many as may be joined: a page may have been denied some and remember them.
	events := consumer.Events{Policy: policy, MaxGroups: s.groups}
	return []namedRoute{
		{"events", consumer.Route{Pattern: "/ws/events", New: same(events), WhenFull: whenFull}},
		{"connection_test", consumer.Route{Pattern: "/ws/connection_test/", New: same(consumer.ConnectionTest{}), WithoutOrganization: true}},
		{"chat", job("/ws/chat/", func() consumer.OrganizationAwareConsumer {
			return consumer.JSON(&consumer.Chat{Dispatcher: parts, Recorder: parts, Inputs: parts, Owners: parts, Requests: parts})
		})},
		{"research", job("/ws/research/{id:int}/", same(consumer.Research{Dispatcher: parts, Requests: parts}))},
		{"meta_tags", job("/ws/meta-tags/task/{id:id}/", same(consumer.MetaTagsTask{}))},
		{"crew_execution", job("/ws/crew_execution/{id:id}/", same(consumer.CrewExecution{Inputs: parts, Requests: parts}))},
		{"seo_audit", job("/ws/seo_audit/{id:int}/", same(consumer.SEOAudit{}))},
		{"crew_kanban", job("/ws/crew/{id:id}/kanban/", func() consumer.OrganizationAwareConsumer {
			return consumer.JSON(&consumer.CrewKanban{Inputs: parts, Requests: parts})
		})},
		{"optimization", job("/ws/image-optimizer/{id:int}/", func() consumer.OrganizationAwareConsumer { return consumer.JSON(new(consumer.Optimization)) })},
		{"crawl", job("/ws/crawl/{id:id}/", same(consumer.Crawl{}))},
	}, nil
}

// same serves all connections with one consumer, which keeps no state.
func same(h consumer.MessageHandler) func() consumer.OrganizationAwareConsumer {
	c := consumer.JSON(h)
	return func() consumer.OrganizationAwareConsumer { return c }
}

// job is the route of a consumer that pages watch for long: they have to know whether to come back.
func job(pattern string, fn func() consumer.OrganizationAwareConsumer) consumer.Route {
	return consumer.Route{Pattern: pattern, New: fn, Explain: true}
}

// everyConsumer stands in --consumers for all of them.
const everyConsumer = "all"

// checkConsumers lets --consumers be "all" or a list of names.
func checkConsumers(list []string) error {
	routes, err := allRoutes(&settings{policy: consumer.DefaultPolicy}, nil)
	if err != nil {
		return err
	}
	known := []string{everyConsumer}
	for _, r := range routes {
		known = append(known, r.name)
	}
	for _, name := range list {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%q is none of %s", name, strings.Join(known, ", "))
		}
	}
	if len(list) == 0 {
		return errors.New("names no consumer")
	}
	return nil
}

// newRoutes returns the routes that the settings ask for.
func newRoutes(n *node) (*consumer.Registry, error) {
	s := n.settings
	parts, err := newServices(n)
	if err != nil {
		return nil, err
	}
	all, err := allRoutes(s, parts)
	if err != nil {
		return nil, err
	}
	routes := new(consumer.Registry)
	for _, r := range all {
		if !slices.Contains(s.consumers, everyConsumer) && !slices.Contains(s.consumers, r.name) {
			continue
		}
		if err := routes.Add(r.Route); err != nil {
			return nil, err
		}
	}
	for _, r := range s.moreRoutes {
		if err := routes.Add(r.Route); err != nil {
			return nil, err
		}
	}
	return routes, nil
}

// services is what consumers need of tasks, bus and directory. It translates errors, and logs those
// that consumers only know as "not at the moment".
type services struct {
	dispatcher *task.Dispatcher
	asks       *task.Asks
	requests   *task.Requests
	bus        *pubsub.Redis
	objects    *directory.Objects
	bytes      *quota.Bytes
	log        *zap.Logger
}

var (
	_ consumer.Dispatcher = (*services)(nil)
	_ consumer.Recorder   = (*services)(nil)
	_ consumer.Inputs     = (*services)(nil)
	_ consumer.Owners     = (*services)(nil)
	_ consumer.Requests   = (*services)(nil)
)

func newServices(n *node) (*services, error) {
	dispatcher, err1 := task.NewDispatcher(n.redis.events, n.keys, task.DispatcherOptions{Registerer: n.metrics})
	asks, err2 := task.NewAsks(n.redis.events, n.keys)
	objects, err3 := directory.NewObjects(n.redis.events, n.keys, n.log)
	requests, err4 := task.NewRequests(n.redis.events, n.keys)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	s := n.settings
	bytes := quota.NewBytes(n.redis.events, n.redis.state, n.keys, quota.BytesOptions{
		PerOrganization: int64(s.memberBytesPerOrganization), PerUser: int64(s.memberBytesPerUser), Log: n.log, Registerer: n.metrics,
	})
	return &services{dispatcher: dispatcher, asks: asks, requests: requests, bus: n.bus, objects: objects, bytes: bytes, log: n.log.Named("consumer")}, nil
}

// What something takes in Redis in addition to its own bytes: a stream entry with its share of the index, and
// the keys that remember it. Otherwise many small messages would cost almost nothing.
const (
	overheadOfEvent   = 256
	overheadOfTask    = 512
	overheadOfInput   = 128
	overheadOfRequest = 256
)

// charge charges the user whose frame is handled, and the organization, for bytes that are about to be written.
func (s *services) charge(ctx context.Context, bytes int) error {
	org, ok := orgctx.From(ctx)
	if !ok {
		return orgctx.ErrNoOrganization
	}
	user, ok := orgctx.UserFrom(ctx)
	if !ok {
		return errors.New("charge: no user in the context") // a bug in the gateway: nothing may be written uncharged
	}
	err := s.bytes.Charge(ctx, org, string(user), bytes)
	if errors.Is(err, quota.ErrSpent) {
		return consumer.ErrQuotaExceeded
	}
	return s.unavailable(ctx, err)
}

// Dispatch implements [consumer.Dispatcher].
func (s *services) Dispatch(ctx context.Context, w consumer.Work) (string, error) {
	group, err := groupOf(ctx, w.Group)
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(w.Payload)
	if err != nil {
		return "", fmt.Errorf("dispatch %s: %w", w.Kind, err)
	}
	if err := s.charge(ctx, overheadOfTask+len(payload)); err != nil {
		return "", err
	}
	id, err := s.dispatcher.Dispatch(ctx, task.Task{
		Kind: w.Kind, ID: w.ID, Idempotency: w.Idempotency, Group: group, UserID: w.User, Payload: payload,
	})
	if errors.Is(err, task.ErrBacklog) {
		return "", consumer.ErrTooManyTasks
	}
	return id, s.unavailable(ctx, err)
}

// Record implements [consumer.Recorder].
func (s *services) Record(ctx context.Context, name, key string, v any) error {
	return s.record(ctx, name, key, v, s.charge)
}

// RecordFailure implements [consumer.Recorder].
func (s *services) RecordFailure(ctx context.Context, name, key string, v any) error {
	return s.record(ctx, name, key, v, func(context.Context, int) error { return nil })
}

func (s *services) record(ctx context.Context, name, key string, v any, charge func(context.Context, int) error) error {
	group, err := groupOf(ctx, name)
	if err != nil {
		return err
	}
	object, err := json.Marshal(v)
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
	return s.unavailable(ctx, err)
}

// Recorded implements [consumer.Recorder].
func (s *services) Recorded(ctx context.Context, name, key string) (at event.Position, ok bool, err error) {
	group, err := groupOf(ctx, name)
	if err != nil {
		return event.Position{}, false, err
	}
	at, ok, err = s.bus.Recorded(ctx, group, key)
	return at, ok, s.unavailable(ctx, err)
}

// Begin implements [consumer.Requests].
func (s *services) Begin(ctx context.Context, id string, content any) (consumer.Request, error) {
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
	return consumer.Request{ID: id, Work: q.Work, Done: q.Done, Note: q}, s.unavailable(ctx, err)
}

// Finish implements [consumer.Requests].
func (s *services) Finish(ctx context.Context, r consumer.Request) error {
	q, _ := r.Note.(task.Request) // as Begin returned it
	return s.unavailable(ctx, s.requests.Done(ctx, q))
}

// Again implements [consumer.Requests].
func (s *services) Again(ctx context.Context, r consumer.Request) error {
	q, _ := r.Note.(task.Request) // as Begin returned it
	return s.unavailable(ctx, s.requests.Again(ctx, q))
}

// Answer implements [consumer.Inputs].
func (s *services) Answer(ctx context.Context, a consumer.Answer) error {
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
func (s *services) Claim(ctx context.Context, kind, id, user string) (owner bool, err error) {
	owner, err = s.objects.Claim(ctx, kind, id, user)
	return owner, s.unavailable(ctx, err)
}

// unavailable notes an error that is no answer.
func (s *services) unavailable(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	org, _ := orgctx.From(ctx) // zero if there is none
	s.log.Warn("service unavailable", zap.Stringer("organization", org), zap.Error(err))
	return errors.Join(consumer.ErrUnavailable, err)
}

// groupOf returns the group called name of the context's organisation.
func groupOf(ctx context.Context, name string) (event.Group, error) {
	org, ok := orgctx.From(ctx)
	if !ok {
		return event.Group{}, orgctx.ErrNoOrganization
	}
	return event.NewGroup(org, name)
}
