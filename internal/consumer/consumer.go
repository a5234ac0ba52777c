// Package consumer decides what a connection does: which groups it joins, what it answers, and what
// it may see. A consumer never names an organization. Its [Conn] belongs to one, and every group
// that it joins is a group of that organization.
package consumer

import (
	"context"
	"encoding/json"
	"net/url"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/session"
)

// OrganizationAwareConsumer is the behavior of one connection. The gateway calls Connect first and
// Disconnect last. In between, one goroutine calls Receive for each frame in turn. The context of
// Connect and Receive carries the connection's organization and user (see [orgctx.From] and
// [orgctx.UserFrom]) and ends with the connection. Frames that came before the browser left are
// still handled, within a deadline. A panic in a hook ends only its connection.
type OrganizationAwareConsumer interface {
	// Connect runs before the upgrade. It joins groups, then sends the first state. An error
	// refuses the connection with the matching status (see the Err… values). Any other error counts
	// as an internal error.
	Connect(ctx context.Context, c Conn) error
	// Receive handles one frame. It may take time: only the next frame waits for it, not events or
	// pings. After the browser has left, its context lasts for the gateway's hook timeout, but the
	// end of the session ends it at once. An error ends the connection.
	Receive(ctx context.Context, c Conn, f event.RawMessage) error
	// Disconnect runs once for each Connect that returned nil, after the groups were left. Its
	// context carries the organization and the user, and has a fresh deadline. cause says why the
	// connection ended.
	Disconnect(ctx context.Context, c Conn, cause error)
}

// EventHandler is an extra ability of a consumer: it sees each event before the browser does.
// HandleEvent runs in the connection's own writer. It does not delay other connections or messages
// from the browser, but everything to be sent waits for it, including the gateway's pings. Use
// [Conn.Go] for longer work. HandleEvent returns false to withhold the event. To send something
// else instead, it calls [Conn.Send] and returns false.
type EventHandler interface {
	HandleEvent(ctx context.Context, c Conn, e *event.Event) (forward bool)
}

// Conn is a consumer's view of its connection. It is safe for concurrent use.
type Conn interface {
	// ID returns the unique id of this connection. It is not a secret.
	ID() string
	// Identity returns who is connected. Its Organization is zero only on routes that allow that.
	Identity() session.Identity
	// Param returns the part of the path with that name in the route's pattern, "" if there is
	// none.
	Param(name string) string
	// Query returns the parameters of the request. The caller must not change them.
	Query() url.Values
	// Protocol returns the subprotocol that was agreed: "" or [ProtocolV1].
	Protocol() string
	// Join makes the connection a member of the group called name in its own organization. It
	// returns when the group's events reach this connection, or soon with an error if the bus does
	// not answer. Joining twice is not an error. Errors are [event.ErrInvalidGroup],
	// orgctx.ErrNoOrganization, [ErrTooManyGroups], those of ctx, and those of the bus.
	Join(ctx context.Context, name string) error
	// JoinWithHistory joins like Join, and begins with recorded events. It calls first with the
	// newest n events of the group's history, or fewer if they are large, oldest first. first sends
	// the state that they add up to. From the oldest of these on, every recorded event is either in
	// that history or comes after the state, in order and never in both. If the group was joined
	// before, JoinWithHistory sends the state again. Connections of an organization take turns at
	// this, so first must not call it for another group. Errors are those of Join, of reading the
	// history, and of first. After an error, the connection is not a member of the group.
	JoinWithHistory(ctx context.Context, name string, n int, first func(history []*event.Event) error) error
	// Leave ends the membership. Leaving a group that was not joined does nothing.
	Leave(name string)
	// Send queues one JSON frame for this browser. It never blocks. An [event.Event] is sent as if
	// it came at this moment. With [ProtocolV1], a frame must not have one of the [ControlTypes],
	// else the error is [ErrControlType].
	Send(v any) error
	// Go runs fn in a goroutine of the connection. Its context carries the organization and the
	// user and ends with the connection, which waits for fn. An error or a panic ends the
	// connection.
	Go(fn func(ctx context.Context) error)
	// End ends the connection with the cause, at once and without waiting.
	End(cause error)
}

// Resumer is an extra ability of a [Conn]: to continue where an earlier connection ended.
type Resumer interface {
	// JoinAfter joins like Join, and begins with the recorded events after the mark, in order. If
	// some of them are no longer there, a gap frame comes first. Then it calls done with the mark
	// reached, the zero Mark if it is unknown. Live events follow after the frames that done has
	// sent. Errors are those of [Conn.JoinWithHistory], and [ErrUnknownType] if nothing can be
	// resumed.
	JoinAfter(ctx context.Context, name string, after event.Mark, done func(at event.Mark) error) error
	// Mark returns a mark in a joined group. Every recorded event after it has come or will come.
	// ok is false if it is not known.
	Mark(name string) (m event.Mark, ok bool)
}

// Pager is an extra ability of a [Conn]: to show what was recorded earlier.
type Pager interface {
	// PageBefore reads events of a joined group that were recorded before a position, oldest first:
	// the newest limit of them, or fewer if they are large. The zero Position stands for the end of
	// the history. Then it calls done, which sends them; more says that the history goes back
	// further. Connections of an organization take turns at this. Errors are [ErrNotFound] if the
	// group is not joined, [ErrUnknownType] if nothing can be read, those of ctx, of reading the
	// history, and of done.
	PageBefore(ctx context.Context, name string, before event.Position, limit int, done func(events []*event.Event, more bool) error) error
}

// Attendee is an extra ability of a [Conn]: its user can be present in groups, for others to see.
type Attendee interface {
	// Attend makes the user present in a joined group for as long as the connection is a member. With
	// watch, the browser gets frames that tell who else is. Attending again only adds the watching.
	// Errors are [ErrNotFound] if the group is not joined, [ErrUnknownType] if nobody is shown here or
	// the browser cannot read the frames, and others if there is no room for further users.
	Attend(name string, watch bool) error
	// SetPresence shows a state of the user to the others, a JSON object, or null for none. Errors are
	// [event.ErrBadFields] if it is neither or too long, [ErrNotFound] if the connection does not
	// attend the group, [ErrUnknownType] as above, and others if there is no room.
	SetPresence(name string, state json.RawMessage) error
}

// Limiter is an extra ability of a [Conn]: requests that one frame makes in bulk count against the
// rate limit of the browser.
type Limiter interface {
	// Charge takes n tokens. At the start of a connection, and again after a while, there are
	// enough for as many groups as a connection may join. An error says that there were not enough.
	// The hook returns the error, and the connection ends with 4429.
	Charge(n int) error
	// MaxGroups is how many groups the connection may join.
	MaxGroups() int
}

// Tokened is an extra ability of a [Conn]: its session may have begun with a token, which a newer one prolongs.
type Tokened interface {
	// RenewToken reads a newer token and returns the new end of the session. It may wait for the network, for a
	// bounded time. Errors are those of [session.Renewer]; after one, nothing has changed.
	RenewToken(ctx context.Context, token string) (expires time.Time, err error)
}

// ProtocolV1 is the subprotocol of clients that get events in an envelope, and welcome and gap
// frames.
const ProtocolV1 = "orgcast.v1"
