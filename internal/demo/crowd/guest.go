package crowd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"orgcast/internal/orgctx"
	"orgcast/internal/session"
)

const (
	// subprotocol is what guests speak.
	subprotocol = "orgcast.v1"
	// sessionLife is longer than a run.
	sessionLife = 10 * time.Minute
	// maxFrame bounds a frame of the gateway, in bytes; the crowd's own events are far smaller.
	maxFrame = 64 << 10
	// retryWait is the longest pause before a handshake that was refused for now is tried again.
	retryWait = time.Second
)

// guest is one person of a run: a session and a socket.
type guest struct {
	organization orgctx.ID
	user         string
	tally        *Tally

	cookie *http.Cookie    // set by arrive
	socket *websocket.Conn // set by arrive
	joined *Guest          // set by arrive
}

// arrive signs the guest in, connects, and joins the group.
func (g *guest) arrive(ctx context.Context, o *Options, client *http.Client) (err error) {
	if g.cookie, err = o.Sessions.Mint(ctx, session.Grant{UserID: g.user, Organization: g.organization, Lifetime: sessionLife}); err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	for {
		again, err := g.connect(ctx, o, client)
		if err == nil {
			break
		}
		if again == 0 {
			return fmt.Errorf("connect: %w", err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(again/2 + rand.N(again)): //nolint:gosec // jitter, so that not all come at the same moment
		}
	}
	if err := g.await(ctx, "welcome"); err != nil {
		return err
	}
	if err := g.socket.Write(ctx, websocket.MessageText, []byte(`{"type":"subscribe","group":"`+groupName+`"}`)); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	if err := g.await(ctx, "subscribed"); err != nil {
		return err
	}
	g.joined = g.tally.Join(g.organization.String())
	return nil
}

// connect opens the socket. If the gateway refuses the handshake for now, it returns how long to
// wait before the next try.
func (g *guest) connect(ctx context.Context, o *Options, client *http.Client) (again time.Duration, err error) {
	target := *o.Site
	target.Scheme, target.Path = "ws", "/ws/events"
	header := http.Header{"Origin": {o.Site.String()}, "Cookie": {g.cookie.Name + "=" + g.cookie.Value}}
	socket, resp, err := websocket.Dial(ctx, target.String(), &websocket.DialOptions{ //nolint:bodyclose // the library closes it
		HTTPClient: client, HTTPHeader: header, Subprotocols: []string{subprotocol},
	})
	if err != nil {
		if resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
			return 0, err
		}
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return min(max(time.Duration(seconds)*time.Second, retryWait/4), retryWait), err
	}
	socket.SetReadLimit(maxFrame)
	g.socket = socket
	return 0, nil
}

// frame is what a guest reads of a frame.
type frame struct {
	Type         string `json:"type"`
	Organization string `json:"organization_id"`
	User         string `json:"user_id"`
	Event        *struct {
		Organization string `json:"organization_id"`
		ID           string `json:"id"`
	} `json:"event"`
}

func (g *guest) read(ctx context.Context) (f frame, err error) {
	_, data, err := g.socket.Read(ctx)
	if err != nil {
		return frame{}, err
	}
	return f, json.Unmarshal(data, &f)
}

// await reads until a frame of a type comes. The welcome must be to this guest.
func (g *guest) await(ctx context.Context, frameType string) error {
	for {
		f, err := g.read(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("await %s: %w", frameType, err)
		case f.Type == "error":
			return fmt.Errorf("await %s: the gateway sent an error", frameType)
		case f.Type == "welcome" && (f.Organization != g.organization.String() || f.User != g.user):
			return fmt.Errorf("welcomed as %s of %s instead of %s of %s", f.User, f.Organization, g.user, g.organization)
		case f.Type == frameType:
			return nil
		}
	}
}

// listen reports everything that arrives to the tally until ctx or the socket ends.
func (g *guest) listen(ctx context.Context) {
	for {
		f, err := g.read(ctx)
		at := time.Now()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			g.tally.End()
			return
		case f.Event != nil:
			g.tally.Deliver(g.joined, Delivery{Organization: f.Event.Organization, ID: f.Event.ID, At: at})
		case f.Type == "gap":
			g.tally.Gap()
		}
	}
}

// leave closes the socket, and removes the session and the membership.
func (g *guest) leave(ctx context.Context, o *Options) error {
	if g.socket != nil {
		_ = g.socket.CloseNow() // it may have ended
	}
	err := o.Members.RemoveMember(ctx, g.organization, g.user)
	if g.cookie == nil {
		return err
	}
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody) // it only carries the cookie
	r.AddCookie(&http.Cookie{Name: g.cookie.Name, Value: g.cookie.Value})     //nolint:gosec // a request bears no attributes
	_, signOutErr := o.Sessions.SignOut(ctx, r)
	return errors.Join(err, signOutErr)
}
