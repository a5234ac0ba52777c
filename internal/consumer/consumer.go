// Package consumer decides what a connection does: which groups it joins, what it answers, what
// it may see. A consumer never names an organization: the [Conn] it is handed belongs to one, and
// every group that it joins is a group of that one.
package consumer

import (
	"context"
	"net/url"

	"orgcast/internal/event"
	"orgcast/internal/session"
)

// OrganizationAwareConsumer is the behavior of one connection. The gateway calls Connect first,
// Disconnect last, and Receive from one goroutine in between, one frame after the other. The
// context of Connect and Receive carries the connection's organization and user (see [orgctx.From]
// and [orgctx.UserFrom]) and ends with the connection. Frames that came before the browser left are
// handled before that, within a deadline. A panic in a hook ends that connection alone.
type OrganizationAwareConsumer interface {
	// Connect runs before the upgrade: it joins groups, then sends the first state. An error
	// refuses the connection with the status that belongs to it (see the Err… values); any other
	// error is our own fault.
	Connect(ctx context.Context, c Conn) error
	// Receive handles one frame. It may take its time: events and pings do not wait for it, only the
	// next frame does. When the browser has left, its context lives on for the gateway's hook timeout; the
	// end of the session ends it at once. An error ends the connection.
	Receive(ctx context.Context, c Conn, f event.RawMessage) error
	// Disconnect runs once for each Connect that returned nil, after the groups were left. Its
	// context carries the organization and the user, and has a fresh deadline. cause says why it ended.
	Disconnect(ctx context.Context, c Conn, cause error)
}

// EventHandler is an extra ability of a consumer: it sees each event before the browser does.
// HandleEvent runs in the connection's own writer: its time delays nobody else, and nothing that the
// browser sends, but what is to be sent waits behind it, the gateway's own pings too. What may take
// longer belongs into [Conn.Go]. It returns false to withhold the event; to answer with something
// else it calls [Conn.Send] and returns false.
type EventHandler interface {
	HandleEvent(ctx context.Context, c Conn, e *event.Event) (forward bool)
}

// Conn is what a consumer may do with its connection. It is safe for concurrent use.
type Conn interface {
	// ID tells this connection from all others. It is no secret.
	ID() string
	// Identity says who is connected. Its Organization is zero only on routes that allow that.
	Identity() session.Identity
	// Param returns the part of the path that the route's pattern names, "" if there is none.
	Param(name string) string
	// Query returns the parameters of the request. The caller must not change them.
	Query() url.Values
	// Protocol returns the subprotocol that was agreed: "" or [ProtocolV1].
	Protocol() string
	// Join makes the connection a member of the group called name in its own organization. It
	// returns when the group's events reach this connection, or soon with an error if the bus does
	// not answer. Joining twice is no error. Errors
	// are [event.ErrInvalidGroup], orgctx.ErrNoOrganization, [ErrTooManyGroups], those of ctx,
	// and those of the bus.
	Join(ctx context.Context, name string) error
	// JoinWithHistory joins as Join does, and begins with what was recorded: it calls first with the
	// newest n events of the group's history, or fewer if they are large, oldest first, and first
	// sends the state that they make. From the oldest of these on, every recorded event is in that
	// history or comes after what first has sent, in order and never in both. For a group that was
	// joined before this gives the state again. Connections of an organization take turns at this, so
	// first must not do it for another group. Errors are those of Join, of reading the history, and of
	// first; after one the connection is no member of the group.
	JoinWithHistory(ctx context.Context, name string, n int, first func(history []*event.Event) error) error
	// Leave ends the membership. Leaving a group that was not joined does nothing.
	Leave(name string)
	// Send queues one JSON frame for this browser. It never blocks. An [event.Event] looks as if it came at
	// this moment. With [ProtocolV1] no frame may have one of the [ControlTypes]: then the error is
	// [ErrControlType].
	Send(v any) error
	// Go runs fn in a goroutine of the connection's tree: its context carries the organization and the
	// user and ends with the connection, which waits for it. An error or a panic ends the connection.
	Go(fn func(ctx context.Context) error)
	// End ends the connection for the cause, at once and without waiting.
	End(cause error)
}

// Resumer is an extra ability of a [Conn]: to go on where an earlier connection ended.
type Resumer interface {
	// JoinAfter joins as Join does, and begins with the recorded events behind the mark, in order. Where
	// some of them are not there anymore, a gap frame comes first. Then it calls done with the place
	// that is reached, the zero Mark if it is unknown, and after what done has sent come live events. Errors are
	// those of [Conn.JoinWithHistory], and [ErrUnknownType] where nothing can be resumed.
	JoinAfter(ctx context.Context, name string, after event.Mark, done func(at event.Mark) error) error
	// Mark returns a place of a group that was joined, behind which every recorded event has come or
	// comes. ok is false if it is not known.
	Mark(name string) (m event.Mark, ok bool)
}

// Limiter is an extra ability of a [Conn]: what one frame asks for in bulk counts against the rate
// limit of the browser.
type Limiter interface {
	// Charge takes n tokens. At the start of a connection, and again after a while, there are enough for
	// as many groups as a connection may join. An error says that there were not enough; the hook
	// returns it, and the connection ends with 4429.
	Charge(n int) error
}

// ProtocolV1 is the subprotocol with which a client gets events in an envelope, and welcome and gap frames.
const ProtocolV1 = "orgcast.v1"
