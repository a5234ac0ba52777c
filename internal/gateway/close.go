package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
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
	// ErrOrigin refuses a request of a page that may not connect.
	ErrOrigin = errors.New("gateway: origin not allowed")
	// ErrNoHandshake refuses a request that is not a WebSocket handshake.
	ErrNoHandshake = errors.New("gateway: not a WebSocket handshake")
	// ErrQueryTooLong refuses a request whose query is longer than a connection may keep.
	ErrQueryTooLong = errors.New("gateway: query too long")
	// ErrTooMany refuses a connection over the limit of its user or organisation.
	ErrTooMany = errors.New("gateway: too many connections")
	// ErrOverloaded refuses a connection over the limit of the node, or while a part does not answer.
	ErrOverloaded = errors.New("gateway: overloaded")
)

// DrainError ends a connection because this node goes away; the browser is to come back after
// RetryAfter, to another node.
type DrainError struct {
	RetryAfter time.Duration
}

// Error implements error.
func (DrainError) Error() string { return "gateway: draining" }

// PaceError refuses a handshake because they come faster than they may.
type PaceError struct {
	RetryAfter time.Duration
}

// Error implements error.
func (PaceError) Error() string { return "gateway: too many handshakes" }

// The close codes of our own (RFC 6455, section 7.4.2, leaves 4000 to 4999 to applications).
const (
	closeUnauthenticated websocket.StatusCode = 4401
	closeForbidden       websocket.StatusCode = 4403
	closeNotFound        websocket.StatusCode = 4404
	closeSilent          websocket.StatusCode = 4408
	closeSwitched        websocket.StatusCode = 4409
	closeTooSlow         websocket.StatusCode = 4413
	closeRateLimit       websocket.StatusCode = 4429
)

// ending is what a cause becomes: a close code for a connection, a status before the upgrade.
type ending struct {
	code   websocket.StatusCode
	reason string // for the close frame; never the text of an error
	status int    // of a refusal before the upgrade
	retry  time.Duration
	// urgent drops what is queued; the other causes first send it.
	urgent bool
	// mute lets no event leave any more, not even one that is being written: at most the piece of
	// it that the socket was given already.
	mute bool
	// waits lets the consumer finish with what a browser had sent that has left already.
	waits bool
}

// retryOnce tells the client that the browser may hold a newer cookie, so that one attempt makes sense.
const retryOnce = `{"retry":"once"}`

// switchedRetry is what clients are told to wait that were refused for what they may do having just changed.
const switchedRetry = time.Second

// retryDelay is what clients are told to wait when a node is overloaded.
const retryDelay = 5 * time.Second

// endingOf is the one place that knows the close code and the status of a cause.
func endingOf(cause error) ending {
	if drain, ok := errors.AsType[DrainError](cause); ok {
		return ending{code: websocket.StatusServiceRestart, reason: retryReason(drain.RetryAfter), status: http.StatusServiceUnavailable, retry: drain.RetryAfter, waits: true}
	}
	if pace, ok := errors.AsType[PaceError](cause); ok {
		return ending{code: websocket.StatusTryAgainLater, reason: retryReason(pace.RetryAfter), status: http.StatusServiceUnavailable, retry: pace.RetryAfter}
	}
	if late, ok := errors.AsType[lease.UnconfirmedError](cause); ok {
		return ending{code: websocket.StatusTryAgainLater, reason: retryReason(late.RetryAfter), status: http.StatusServiceUnavailable, retry: late.RetryAfter, urgent: true, mute: true}
	}
	switch {
	case errors.Is(cause, lease.ErrSwitched):
		return ending{code: closeSwitched, reason: "organization switched", status: http.StatusServiceUnavailable, retry: switchedRetry, urgent: true, mute: true}
	case errors.Is(cause, lease.ErrRoleChanged):
		return ending{code: closeSwitched, reason: "role changed", status: http.StatusServiceUnavailable, retry: switchedRetry, urgent: true, mute: true}
	case errors.Is(cause, lease.ErrNotAllowed):
		return ending{code: closeForbidden, reason: "not allowed", status: http.StatusForbidden, urgent: true, mute: true}
	case errors.Is(cause, consumer.ErrDone):
		return ending{code: websocket.StatusNormalClosure, status: http.StatusForbidden}
	case errors.Is(cause, ErrPeerClosed):
		return ending{code: websocket.StatusNormalClosure, urgent: true}
	case errors.Is(cause, ErrPeerGone):
		return ending{code: websocket.StatusGoingAway, urgent: true}
	case errors.Is(cause, consumer.ErrTextRequired):
		return ending{code: websocket.StatusUnsupportedData}
	case errors.Is(cause, ErrProtocol):
		return ending{code: websocket.StatusProtocolError, urgent: true}
	case errors.Is(cause, ErrNotUTF8):
		return ending{code: websocket.StatusInvalidFramePayloadData, urgent: true}
	case errors.Is(cause, ErrFrameTooBig):
		return ending{code: websocket.StatusMessageTooBig, urgent: true}
	case errors.Is(cause, ErrRateLimit):
		return ending{code: closeRateLimit, reason: "rate limit", status: http.StatusTooManyRequests, retry: retryDelay, urgent: true}
	case errors.Is(cause, ErrTooMany):
		return ending{code: closeRateLimit, reason: "too many connections", status: http.StatusTooManyRequests, retry: retryDelay}
	case errors.Is(cause, ErrTooSlow):
		return ending{code: closeTooSlow, reason: "too slow", urgent: true}
	case errors.Is(cause, ErrSilent):
		return ending{code: closeSilent, reason: "silent", urgent: true}
	case errors.Is(cause, ErrUnfinished):
		return ending{code: closeSilent, reason: "message not finished", urgent: true}
	case errors.Is(cause, ErrSessionEnded), errors.Is(cause, lease.ErrSessionEnded):
		return ending{code: closeUnauthenticated, reason: "session ended", status: http.StatusUnauthorized, urgent: true, mute: true}
	case errors.Is(cause, lease.ErrSessionStale):
		return ending{code: closeUnauthenticated, reason: retryOnce, status: http.StatusUnauthorized, urgent: true, mute: true}
	case errors.Is(cause, ErrUnauthenticated):
		return ending{code: closeUnauthenticated, reason: "not logged in", status: http.StatusUnauthorized, urgent: true}
	case errors.Is(cause, ErrNoHandshake), errors.Is(cause, ErrQueryTooLong): // before the upgrade only
		return ending{code: websocket.StatusPolicyViolation, status: http.StatusBadRequest}
	case errors.Is(cause, ErrOrigin), errors.Is(cause, consumer.ErrForbidden), errors.Is(cause, orgctx.ErrNoOrganization):
		return ending{code: closeForbidden, reason: "not allowed", status: http.StatusForbidden, urgent: true}
	case errors.Is(cause, consumer.ErrNotFound), errors.Is(cause, event.ErrInvalidGroup):
		return ending{code: closeNotFound, reason: "not found", status: http.StatusNotFound, urgent: true}
	case errors.Is(cause, context.Canceled): // the process ends without a drain
		return ending{code: websocket.StatusGoingAway, status: http.StatusServiceUnavailable, retry: retryDelay}
	case errors.Is(cause, ErrOverloaded), errors.Is(cause, consumer.ErrUnavailable), errors.Is(cause, context.DeadlineExceeded):
		return ending{code: websocket.StatusTryAgainLater, reason: retryReason(retryDelay), status: http.StatusServiceUnavailable, retry: retryDelay}
	default:
		return ending{code: websocket.StatusInternalError, reason: "internal error", status: http.StatusInternalServerError, urgent: true}
	}
}

// retryReason tells the client when to come back: {"retry_after_ms":n}.
func retryReason(after time.Duration) string {
	b, err := json.Marshal(struct {
		RetryAfterMS int64 `json:"retry_after_ms"`
	}{after.Milliseconds()})
	if err != nil {
		return ""
	}
	return string(b)
}
