package leasebench

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"orgcast/internal/directory"
	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

const (
	// role is what everyone is before a trial.
	role = "editor"
	// admission is how long a gateway on a busy machine may take to let a user in.
	admission = time.Minute
	// retryDelay is the pause between two attempts to connect.
	retryDelay = 100 * time.Millisecond
	// dialTimeout bounds one attempt.
	dialTimeout = 30 * time.Second
)

// user has one socket at a time.
type user struct {
	id  string
	org orgctx.ID

	cookie string
	ws     *websocket.Conn
	done   chan struct{} // closed by the socket's reader once ended and code are set
	ended  time.Time
	code   websocket.StatusCode
}

// signIn makes a user a member with a role, signs them in and connects them.
func (m *measurement) signIn(ctx context.Context, u *user) error {
	err := errors.Join(
		m.members.PutOrganization(ctx, u.org, directory.Active),
		m.members.PutMember(ctx, u.org, u.id, directory.Active, directory.Member{Role: role}))
	if err != nil {
		return err
	}
	cookie, err := m.server.Store.Mint(ctx, session.Grant{UserID: u.id, Organization: u.org})
	if err != nil {
		return err
	}
	u.cookie = cookie.Name + "=" + cookie.Value
	return m.reconnect(ctx, u)
}

// reconnect connects a user, again and again until the gateway lets them in.
func (m *measurement) reconnect(ctx context.Context, u *user) error {
	for start := time.Now(); ; {
		err := m.connect(ctx, u)
		if err == nil || time.Since(start) > admission {
			return err
		}
		if pause(ctx, retryDelay) != nil {
			return err
		}
	}
}

func (m *measurement) connect(ctx context.Context, u *user) error {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	header := http.Header{"Cookie": {u.cookie}, "Origin": {m.opts.Origin}}
	ws, _, err := websocket.Dial(dialing, m.opts.URL, &websocket.DialOptions{HTTPHeader: header}) //nolint:bodyclose // the library closes it
	if err != nil {
		return err
	}
	if err := ws.Write(dialing, websocket.MessageText, []byte(`{"type":"subscribe","group":"`+groupName+`"}`)); err != nil {
		return errors.Join(err, ws.CloseNow())
	}
	u.ws, u.done = ws, make(chan struct{})
	go m.read(context.WithoutCancel(ctx), u) // until the socket ends; hangUp waits for it
	return nil
}

// read counts frames until the socket ends, and notes when and why it did.
func (m *measurement) read(ctx context.Context, u *user) {
	defer close(u.done)
	for {
		_, _, err := u.ws.Read(ctx)
		if err != nil {
			u.ended, u.code = time.Now(), websocket.CloseStatus(err)
			_ = u.ws.CloseNow() // it has ended
			return
		}
		m.received.Add(1)
	}
}

// pause returns after d, or with an error as soon as ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
