package leasebench

import (
	"context"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"orgcast/internal/directory"
	"orgcast/internal/lease"
	"orgcast/internal/session"
)

// Close codes of docs/protocol.md.
const (
	codeSessionEnded websocket.StatusCode = 4401
	codeForbidden    websocket.StatusCode = 4403
	codeChanged      websocket.StatusCode = 4409
)

// act is something that ends sockets.
type act struct {
	name string
	code websocket.StatusCode
	// change changes the record, and announcement is what says so.
	change       func(ctx context.Context, u *user) error
	announcement func(u *user) lease.Message
	// all tells that it ends the sockets of the whole organization.
	all bool
}

func (m *measurement) acts() []act {
	store, members := m.server.Store, m.members
	other := m.users[len(m.users)-1].org
	return []act{
		{
			name: "logout", code: codeSessionEnded,
			change: func(ctx context.Context, u *user) error {
				_, err := store.SignOut(ctx, u.request())
				return err
			},
			announcement: func(u *user) lease.Message {
				return lease.Message{Type: lease.SessionEnded, SessionID: u.sessionID()}
			},
		},
		{
			name: "switch", code: codeChanged,
			change: func(ctx context.Context, u *user) error { return store.SetOrganization(ctx, u.request(), other) },
			announcement: func(u *user) lease.Message {
				return lease.Message{Type: lease.OrganizationSwitched, SessionID: u.sessionID(), Organization: other}
			},
		},
		{
			name: "removal", code: codeForbidden,
			change: func(ctx context.Context, u *user) error { return members.RemoveMember(ctx, u.org, u.id) },
			announcement: func(u *user) lease.Message {
				return lease.Message{Type: lease.MemberRemoved, Organization: u.org, UserID: u.id}
			},
		},
		{
			name: "role change", code: codeChanged,
			change: func(ctx context.Context, u *user) error {
				return members.PutMember(ctx, u.org, u.id, directory.Active, directory.Member{Role: "viewer"})
			},
			announcement: func(u *user) lease.Message {
				return lease.Message{Type: lease.MemberRole, Organization: u.org, UserID: u.id, Role: "viewer"}
			},
		},
		{
			name: "suspension", code: codeForbidden, all: true,
			change: func(ctx context.Context, u *user) error {
				return members.PutOrganization(ctx, u.org, directory.Suspended)
			},
			announcement: func(u *user) lease.Message {
				return lease.Message{Type: lease.OrganizationSuspended, Organization: u.org}
			},
		},
	}
}

// request is one that the user's browser could make.
func (u *user) request() *http.Request {
	return &http.Request{Header: http.Header{"Cookie": {u.cookie}}}
}

func (u *user) sessionID() string {
	_, value, _ := strings.Cut(u.cookie, "=")
	return session.DeriveID(value)
}
