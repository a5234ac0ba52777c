package app

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/directory"
	"orgcast/internal/orgctx"
	"orgcast/internal/quota"
	"orgcast/internal/session"
)

const (
	// admissionInterval is how often a node checks whether anyone could connect.
	admissionInterval = time.Second
	// admissionPatience is how old the last success may be, the same as for canaries.
	admissionPatience = 2500 * time.Millisecond
	// admissionTries is how many strangers are asked about at a time. Their names are in different
	// slots, so one unreachable master of a Cluster does not look like all of them.
	admissionTries = 8
	// admissionReport is the name of the check in the readiness report.
	admissionReport = "handshakes"
)

// errNotAsked is in the readiness report until the first answer.
var errNotAsked = errors.New("not checked yet")

// admission tells whether anyone could connect. It asks the same questions as a handshake, through
// the same clients and with the same permissions, about users who do not exist. Any answer means
// that a member would get one too.
type admission struct {
	tries       int
	sessions    session.Several // without revocations, which would hide a silent store
	revocations *session.Revocations
	directory   directory.Directory
	quota       *quota.Redis
	log         *zap.Logger

	mu   sync.Mutex
	last time.Time // when the last check succeeded
	err  error     // the error of the last check, or nil
}

// newAdmission returns the admission of a node. The other parts of the node must exist already.
func newAdmission(n *Node) *admission {
	a := &admission{tries: 1, sessions: n.Sessions.Several, revocations: n.revoker.Revocations, directory: n.Directory, quota: n.quota, log: n.Log}
	if _, cluster := n.Redis.State.(*redis.ClusterClient); cluster {
		a.tries = admissionTries
	}
	return a
}

// run checks until ctx ends.
func (a *admission) run(ctx context.Context) {
	for {
		if err := a.ask(ctx); ctx.Err() == nil {
			a.note(err, time.Now())
		}
		pause := admissionInterval*4/5 + mathrand.N(admissionInterval*2/5) //nolint:gosec // jitter is no secret
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (a *admission) note(err error, now time.Time) {
	a.mu.Lock()
	worse := err != nil && a.err == nil
	if a.err = err; err == nil {
		a.last = now
	}
	a.mu.Unlock()
	if worse {
		a.log.Warn("handshakes would fail", zap.Error(err))
	}
}

// healthy returns nil if someone could connect, or else why no one can.
func (a *admission) healthy() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case time.Since(a.last) <= admissionPatience:
		return nil
	case a.err != nil:
		return a.err
	case a.last.IsZero():
		return errNotAsked
	default:
		return fmt.Errorf("no answer for %s", time.Since(a.last).Round(time.Second))
	}
}

// strangers are users and organizations that do not exist.
type strangers struct {
	held    []session.Held
	members []directory.Membership
	orgs    []orgctx.ID
}

func newStrangers(n int) (s strangers, err error) {
	for range n {
		name := rand.Text()
		org, err := orgctx.ParseID(name)
		if err != nil {
			return strangers{}, err
		}
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		s.held = append(s.held, session.Held{Identity: session.Identity{UserID: name, SessionID: name}, Ticket: base64.RawURLEncoding.EncodeToString(key)})
		s.members = append(s.members, directory.Membership{Organization: org, UserID: name})
		s.orgs = append(s.orgs, org)
	}
	return s, nil
}

// ask returns nil if each part answers about one of the strangers.
func (a *admission) ask(ctx context.Context) error {
	s, err := newStrangers(a.tries)
	if err != nil {
		return err
	}
	if err := a.askSessions(ctx, s); err != nil {
		return err
	}
	if err := a.askRevocations(ctx, s); err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	if err := a.askDirectory(ctx, s); err != nil {
		return err
	}
	return a.quota.Check(ctx, s.orgs)
}

// askSessions returns nil if one of the stores answers. The node can then serve users whose
// sessions are there.
func (a *admission) askSessions(ctx context.Context, s strangers) error {
	var errs []error
	for _, store := range a.sessions {
		errs = append(errs, askStore(ctx, store, s))
	}
	return all(errs)
}

// askStore returns nil if a store answers about one of the strangers, or has just answered a real
// question, because questions cost the web application more than Redis.
func askStore(ctx context.Context, store session.Store, s strangers) error {
	if web, ok := store.(*session.WebStore); ok && time.Since(web.Answered()) < admissionInterval {
		return nil
	}
	if tokens, ok := store.(*session.JWTStore); ok {
		return tokens.Ready(ctx)
	}
	var errs []error
	for _, status := range store.Recheck(ctx, s.held) {
		if errors.Is(status.Err, session.ErrUncached) {
			return nil // the cache answered
		}
		errs = append(errs, unanswered(status.Err, session.ErrUnavailable))
	}
	return all(errs)
}

func (a *admission) askRevocations(ctx context.Context, s strangers) error {
	var errs []error
	for _, err := range a.revocations.Check(ctx, s.held) {
		errs = append(errs, unanswered(err, session.ErrUnavailable))
	}
	return all(errs)
}

func (a *admission) askDirectory(ctx context.Context, s strangers) error {
	var errs []error
	for _, m := range s.members {
		_, err := a.directory.Admit(ctx, m.Organization, m.UserID) // unlike AdmitAll, it requires both answers
		if err = unanswered(err, directory.ErrUnavailable); err == nil {
			errs = append(errs, nil)
			break // in a Cluster, each may wait for an unreachable master
		}
		errs = append(errs, err)
	}
	return all(errs)
}

// unanswered returns err if it means that there was no answer.
func unanswered(err, unavailable error) error {
	if errors.Is(err, unavailable) {
		return err
	}
	return nil
}

// all returns nil if any of the errors is nil, else one of them.
func all(errs []error) (err error) {
	for _, err = range errs {
		if err == nil {
			return nil
		}
	}
	return err
}
