package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/socket"
)

// Causes with which the gateway itself ends a connection or refuses one.
var (
	// ErrPeerClosed ends a connection whose browser closed it.
	ErrPeerClosed = errors.New("gateway: closed by peer")
	// ErrPeerGone ends a connection that broke without a close frame.
	ErrPeerGone = errors.New("gateway: connection lost")
	// ErrProtocol ends a connection whose peer broke RFC 6455.
	ErrProtocol = errors.New("gateway: protocol error")
	// ErrNotUTF8 ends a connection that sent text that is not UTF-8.
	ErrNotUTF8 = errors.New("gateway: text is not UTF-8")
	// ErrFrameTooBig ends a connection that sent a frame over the limit.
	ErrFrameTooBig = errors.New("gateway: frame too big")
	// ErrRateLimit ends a connection that sends faster than it may.
	ErrRateLimit = errors.New("gateway: rate limit")
	// ErrTooSlow ends a connection whose queue is full.
	ErrTooSlow = errors.New("gateway: too slow")
	// ErrSilent ends a connection that answers no ping or stays idle for too long.
	ErrSilent = errors.New("gateway: silent")
	// ErrUnfinished ends a connection that began a message and took too long over it.
	ErrUnfinished = errors.New("gateway: message not finished in time")
	// ErrSessionEnded ends a connection whose session expired. Package lease has more causes of
	// this kind.
	ErrSessionEnded = errors.New("gateway: session ended")
	// ErrPanic ends a connection whose hook panicked.
	ErrPanic = errors.New("gateway: panic in hook")
	// ErrIsolation ends a connection to which a foreign event was about to be written.
	ErrIsolation = errors.New("gateway: isolation violation prevented")
	// ErrUnauthenticated refuses a request without a valid session.
	ErrUnauthenticated = errors.New("gateway: not logged in")
	// ErrUnknownPath refuses a request to a path without a route.
	ErrUnknownPath = errors.New("gateway: unknown path")
	// ErrOrigin refuses a request of a page that may not connect.
	ErrOrigin = errors.New("gateway: origin not allowed")
	// ErrNoHandshake refuses a request that is not a WebSocket handshake.
	ErrNoHandshake = errors.New("gateway: not a WebSocket handshake")
	// ErrQueryTooLong refuses a request whose query is longer than a connection may keep.
	ErrQueryTooLong = errors.New("gateway: query too long")
	// ErrTooMany refuses a connection over the limit of its user or organization.
	ErrTooMany = errors.New("gateway: too many connections")
	// ErrOverloaded refuses a connection over the limit of the node, or while a part does not
	// answer.
	ErrOverloaded = errors.New("gateway: overloaded")
)

// DrainError ends a connection because this node stops. The browser should come back after
// RetryAfter, to another node.
type DrainError struct {
	RetryAfter time.Duration
}

// Error implements error.
func (DrainError) Error() string { return "gateway: draining" }

// Is finds its row in the table, whatever the time.
func (DrainError) Is(target error) bool { return target == error(DrainError{}) }

// Delay returns the time after which the browser should come back.
func (e DrainError) Delay() time.Duration { return e.RetryAfter }

// PaceError refuses a handshake because they come faster than they may.
type PaceError struct {
	RetryAfter time.Duration
}

// Error implements error.
func (PaceError) Error() string { return "gateway: too many handshakes" }

// Is finds its row in the table, whatever the time.
func (PaceError) Is(target error) bool { return target == error(PaceError{}) }

// Delay returns the time after which the browser may try again.
func (e PaceError) Delay() time.Duration { return e.RetryAfter }

// Our own close codes (RFC 6455, section 7.4.2, leaves 4000 to 4999 to applications).
const (
	closeUnauthenticated socket.StatusCode = 4401
	closeForbidden       socket.StatusCode = 4403
	closeNotFound        socket.StatusCode = 4404
	closeSilent          socket.StatusCode = 4408
	closeSwitched        socket.StatusCode = 4409
	closeTooSlow         socket.StatusCode = 4413
	closeRateLimit       socket.StatusCode = 4429
)

// cause is why a handshake is refused or a connection ends, and what follows from it.
type cause struct {
	err error
	// name is the reason for a refusal: the label of its metric, "reason" in the log, and the code
	// in the answer. Causes that the client must not be able to tell apart share one. Causes
	// without a name end open connections only; a refusal for one of them would be an internal
	// error.
	name string
	// code and text go into the close frame. The text never comes from an error.
	code socket.StatusCode
	text string
	// status is the HTTP status of a refusal. retry is when the client should try again; 0 says
	// nothing.
	status int
	retry  time.Duration
	how    how
}

// how says what happens to queued frames when a connection ends, and what the close frame tells.
type how uint8

const (
	// urgent drops what is queued; other causes first send it.
	urgent how = 1 << iota
	// mute lets no further event leave, not even the rest of one that is being written, except for
	// the piece that the socket already has.
	mute
	// waits lets the consumer finish what a browser had sent before it left.
	waits
	// timed makes the close frame tell the time to wait: the error's own, if it has one.
	timed
	// final lets the user be gone from the groups at once, without time to come back.
	final
)

func (h how) is(flag how) bool { return h&flag != 0 }

const (
	// retryOnce tells the client that the browser may hold a newer cookie, so that one attempt
	// makes sense.
	retryOnce = `{"retry":"once"}`
	// retryDelay is how long clients are told to wait when a node is overloaded.
	retryDelay = 5 * time.Second
	// switchedRetry is how long clients are told to wait if their rights have just changed.
	switchedRetry = time.Second
)

// causes is the one place that knows what follows from an error. The first row that an error
// matches counts, because errors wrap others: a session store that did not answer in time is
// overloaded and canceled. docs/protocol.md shows the table to clients.
//
//nolint:gochecknoglobals // constant
var causes = []cause{
	// The node, and how fast it admits.
	{DrainError{}, "draining", socket.StatusServiceRestart, "", http.StatusServiceUnavailable, 0, timed | waits},
	{PaceError{}, "handshake_rate", socket.StatusTryAgainLater, "", http.StatusServiceUnavailable, 0, timed},

	// The right to stay.
	{lease.UnconfirmedError{}, "overloaded", socket.StatusTryAgainLater, "", http.StatusServiceUnavailable, 0, timed | urgent | mute},
	{lease.ErrSwitched, "overloaded", closeSwitched, "organization switched", http.StatusServiceUnavailable, switchedRetry, urgent | mute | final},
	{lease.ErrRoleChanged, "overloaded", closeSwitched, "role changed", http.StatusServiceUnavailable, switchedRetry, urgent | mute | final},
	{lease.ErrNotAllowed, "forbidden", closeForbidden, "not allowed", http.StatusForbidden, 0, urgent | mute | final},

	// What the browser does.
	{consumer.ErrDone, "forbidden", socket.StatusNormalClosure, "", http.StatusForbidden, 0, final},
	{ErrPeerClosed, "", socket.StatusNormalClosure, "", 0, 0, urgent},
	{ErrPeerGone, "handshake", socket.StatusGoingAway, "", http.StatusInternalServerError, 0, urgent}, // nobody reads the answer
	{consumer.ErrTextRequired, "", socket.StatusUnsupportedData, "", 0, 0, 0},
	{ErrProtocol, "", socket.StatusProtocolError, "", 0, 0, urgent},
	{ErrNotUTF8, "", socket.StatusInvalidFramePayloadData, "", 0, 0, urgent},
	{ErrFrameTooBig, "", socket.StatusMessageTooBig, "", 0, 0, urgent},
	{ErrRateLimit, "", closeRateLimit, "rate limit", 0, 0, urgent},
	{ErrTooMany, "too_many_connections", closeRateLimit, "too many connections", http.StatusTooManyRequests, retryDelay, 0},
	{ErrTooSlow, "", closeTooSlow, "too slow", 0, 0, urgent},
	{ErrSilent, "", closeSilent, "silent", 0, 0, urgent},
	{ErrUnfinished, "", closeSilent, "message not finished", 0, 0, urgent},

	// The session.
	{ErrSessionEnded, "unauthenticated", closeUnauthenticated, "session ended", http.StatusUnauthorized, 0, urgent | mute | final},
	{lease.ErrSessionEnded, "unauthenticated", closeUnauthenticated, "session ended", http.StatusUnauthorized, 0, urgent | mute | final},
	{lease.ErrSessionStale, "unauthenticated", closeUnauthenticated, retryOnce, http.StatusUnauthorized, 0, urgent | mute | final},
	{ErrUnauthenticated, "unauthenticated", closeUnauthenticated, "not logged in", http.StatusUnauthorized, 0, urgent | final},

	// What was asked for. The first three are known before the upgrade only.
	{ErrUnknownPath, "unknown_path", closeNotFound, "not found", http.StatusNotFound, 0, urgent},
	{ErrNoHandshake, "no_handshake", socket.StatusPolicyViolation, "", http.StatusBadRequest, 0, 0},
	{ErrQueryTooLong, "query_too_long", socket.StatusPolicyViolation, "", http.StatusBadRequest, 0, 0},
	{ErrOrigin, "origin", closeForbidden, "not allowed", http.StatusForbidden, 0, urgent},
	{consumer.ErrForbidden, "forbidden", closeForbidden, "not allowed", http.StatusForbidden, 0, urgent | final},
	{orgctx.ErrNoOrganization, "forbidden", closeForbidden, "not allowed", http.StatusForbidden, 0, urgent},
	{consumer.ErrNotFound, "not_found", closeNotFound, "not found", http.StatusNotFound, 0, urgent},
	{event.ErrInvalidGroup, "not_found", closeNotFound, "not found", http.StatusNotFound, 0, urgent},

	// The process ends without a drain, or a part of it does not answer.
	{context.Canceled, "overloaded", socket.StatusGoingAway, "", http.StatusServiceUnavailable, retryDelay, 0},
	{ErrOverloaded, "overloaded", socket.StatusTryAgainLater, "", http.StatusServiceUnavailable, retryDelay, timed},
	{consumer.ErrUnavailable, "overloaded", socket.StatusTryAgainLater, "", http.StatusServiceUnavailable, retryDelay, timed},
	{context.DeadlineExceeded, "overloaded", socket.StatusTryAgainLater, "", http.StatusServiceUnavailable, retryDelay, timed},
}

// internal is the cause of any other error: our own fault, or a hook's.
//
//nolint:gochecknoglobals // constant
var internal = cause{nil, "internal", socket.StatusInternalError, "internal error", http.StatusInternalServerError, 0, urgent}

// delayed is an error that knows when to come back.
type delayed interface {
	error
	Delay() time.Duration
}

// causeOf returns the row of an error.
func causeOf(err error) cause {
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return c.at(err)
		}
	}
	return internal
}

// at returns the cause with the time that an error tells.
func (c cause) at(err error) cause {
	if !c.how.is(timed) {
		return c
	}
	if own, ok := errors.AsType[delayed](err); ok && c.retry == 0 {
		c.retry = own.Delay()
	}
	c.text = retryText(c.retry)
	return c
}

// refusal returns the cause as one before the upgrade.
func (c cause) refusal() cause {
	if c.name == "" {
		c.name, c.status = internal.name, internal.status
	}
	return c
}

// retryText tells the client when to come back: {"retry_after_ms":n}.
func retryText(after time.Duration) string {
	b, err := json.Marshal(struct {
		RetryAfterMS int64 `json:"retry_after_ms"`
	}{after.Milliseconds()})
	if err != nil {
		return ""
	}
	return string(b)
}
