// Package leasebench is the measurement behind `gateway bench lease`: how long it takes from a
// logout, a switch, a removal, a suspension or a change of role to the end of the sockets that it
// is about, with many sockets open and events flowing; what watching over them costs; and what an
// outage of Redis does. It changes the records in Redis as a web application does, and sees the
// gateway only through its sockets.
package leasebench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

// ErrBroken is returned if the gateway broke a promise.
var ErrBroken = errors.New("promise broken")

const (
	// usersPerOrganization is how many users an organization has. Each has one socket, with a session
	// of its own.
	usersPerOrganization = 20
	// groupName is the group that everyone joins.
	groupName = "all"
	// connecting is how many users sign in at once.
	connecting = 8
)

// Server is what the measurement needs of the system around the gateway.
type Server struct {
	// Events is the client of the Redis through which events and announcements travel.
	Events redis.Cmdable
	// State is the client of the Redis with sessions and directory.
	State redis.Cmdable
	// Keys are the names in both.
	Keys keyspace.Keyspace
	// Store holds the sessions.
	Store *session.RedisStore
}

// measurement is one call of Run.
type measurement struct {
	// Fixed after construction.
	opts      Options
	server    Server
	out       io.Writer
	members   *directory.Redis
	announcer *lease.Announcer
	users     []*user
	groups    []event.Group // one of each organization

	received atomic.Int64
}

// Run measures and writes what it found to out. It returns an error that is [ErrBroken] if the
// gateway broke a promise.
func Run(ctx context.Context, server Server, opts Options, out io.Writer) error {
	m, err := newMeasurement(server, opts, out)
	if err != nil {
		return err
	}
	defer m.hangUp()
	if err := m.open(ctx); err != nil {
		return err
	}
	if err := m.printf("%d sockets open\n", len(m.users)); err != nil {
		return err
	}
	if opts.Idle > 0 {
		return m.cost(ctx)
	}
	if err := m.end(ctx); err != nil {
		return err
	}
	if opts.Outage > 0 {
		if err := m.hang(ctx); err != nil {
			return err
		}
	}
	return m.printf("\nframes received meanwhile: %d\n", m.received.Load())
}

func newMeasurement(server Server, opts Options, out io.Writer) (*measurement, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	m := &measurement{opts: opts, server: server, out: out, announcer: lease.NewAnnouncer(server.Events, server.Keys)}
	var err error
	if m.members, err = directory.NewRedis(server.State, server.Keys); err != nil {
		return nil, err
	}
	for i := range opts.Sockets {
		org, err := orgctx.ParseID("org" + strconv.Itoa(i/usersPerOrganization))
		if err != nil {
			return nil, err
		}
		m.users = append(m.users, &user{id: "user" + strconv.Itoa(i), org: org})
		if i%usersPerOrganization == 0 {
			group, err := event.NewGroup(org, groupName)
			if err != nil {
				return nil, err
			}
			m.groups = append(m.groups, group)
		}
	}
	return m, nil
}

func (m *measurement) printf(format string, args ...any) error {
	if _, err := fmt.Fprintf(m.out, format, args...); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// open signs everyone in and connects them.
func (m *measurement) open(ctx context.Context) error {
	errs := make([]error, connecting)
	var entering sync.WaitGroup
	for n := range errs {
		entering.Go(func() {
			for i := n; i < len(m.users) && errs[n] == nil; i += len(errs) {
				errs[n] = m.signIn(ctx, m.users[i])
			}
		})
	}
	entering.Wait()
	return errors.Join(errs...)
}

// hangUp closes all sockets that are open and waits for their readers.
func (m *measurement) hangUp() {
	for _, u := range m.users {
		if u.ws != nil {
			_ = u.ws.CloseNow() // it may have ended
			<-u.done
		}
	}
}
