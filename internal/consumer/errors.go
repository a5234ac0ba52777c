package consumer

import (
	"errors"

	"orgcast/internal/event"
)

// Causes with which a consumer refuses or ends a connection. The gateway maps each to a status or
// close code.
var (
	// ErrDone ends a connection whose work is finished.
	ErrDone = errors.New("consumer: done")
	// ErrForbidden refuses a request that this user is not allowed to make.
	ErrForbidden = errors.New("consumer: not allowed")
	// ErrNotFound refuses a request for an object that does not exist or belongs to someone else.
	// Both look alike.
	ErrNotFound = errors.New("consumer: no such thing")
	// ErrTextRequired ends a connection that sent a binary frame where text is required.
	ErrTextRequired = errors.New("consumer: text required")
)

var (
	// ErrTooManyGroups is returned by [Conn.Join] at the limit of groups per connection.
	ErrTooManyGroups = errors.New("consumer: too many groups")
	// ErrUnknownType is returned for a message of a type that the consumer does not know. The
	// browser gets an error frame, and the connection stays.
	ErrUnknownType = errors.New("consumer: unknown type")
)

// Error codes that clients see in error frames. They are stable.
const (
	CodeBadMessage    = "bad_message"
	CodeUnknownType   = "unknown_type"
	CodeUnknownGroup  = "unknown_group"
	CodeTooManyGroups = "too_many_groups"
	CodeUnavailable   = "unavailable"
	CodeTooManyTasks  = "too_many_tasks"
	CodeInputClosed   = "input_closed"
	CodeInputTaken    = "input_taken"
	CodeQuotaExceeded = "quota_exceeded"
	CodeConflict      = "conflict"
	// CodeUnknownMessage means that a message is not in the conversation.
	CodeUnknownMessage = "unknown_message"
	// CodePresenceRefused means that the policy does not show who is in this group, or does not let
	// users set states there.
	CodePresenceRefused = "presence_refused"
	// CodeTokenRefused means that a token does not prolong the session of the connection.
	CodeTokenRefused = "token_refused"
)

// errorText returns a text for people. The text of an error value never reaches a browser, because
// it may contain details that the browser's user must not know.
func errorText(code string) string {
	switch code {
	case CodeBadMessage:
		return "The message is not a JSON object with the expected fields."
	case CodeUnknownType:
		return "Unknown message type."
	case CodeUnknownGroup:
		return "This group does not exist, or you may not join it."
	case CodeTooManyGroups:
		return "Group limit reached for this connection."
	case CodeTooManyTasks:
		return "Too many tasks are waiting. Try again later."
	case CodeInputClosed:
		return "This question is no longer open."
	case CodeInputTaken:
		return "Someone else has already answered."
	case CodeConflict:
		return "This request id was already used for something else."
	case CodeUnknownMessage:
		return "No such message in this conversation."
	case CodeQuotaExceeded:
		return "Your message quota, or that of your organization, is used up. Try again later."
	case CodePresenceRefused:
		return "Presence is not available in this group."
	case CodeTokenRefused:
		return "This token does not prolong the session of this connection."
	case CodeUnavailable:
		return "Temporarily unavailable. Try again later."
	default:
		return "Something went wrong."
	}
}

// ErrorFrame tells a browser what was wrong with its message.
type ErrorFrame struct {
	Type    string `json:"type"` // "error"
	Code    string `json:"code"`
	Message string `json:"message"`
	// Group is the group that the error is about, if any.
	Group string `json:"group,omitempty"`
	// Groups are the groups that the error is about, if they are refused together.
	Groups []string `json:"groups,omitempty"`
	// RequestID is the id that the browser gave the request, if any.
	RequestID string `json:"request_id,omitempty"`
}

// SendError sends the error frame of a code. group may be empty.
func SendError(c Conn, code, group string) error {
	return c.Send(ErrorFrame{Type: "error", Code: code, Message: errorText(code), Group: group})
}

// answer turns errors that a browser may see into error frames, and returns others. The frame
// repeats the request id of the message if the id is valid, whatever is wrong with the rest.
func answer(c Conn, m event.Message, err error) error {
	code := CodeBadMessage
	switch {
	case errors.Is(err, ErrUnknownType):
		code = CodeUnknownType
	case !errors.Is(err, event.ErrBadFields):
		return err
	}
	var in struct {
		RequestID requestID `json:"request_id"`
	}
	_ = m.Decode(&in) // stays empty if the id is not valid
	return sendError(c, code, in.RequestID)
}

// sendError sends the error frame of a code. id is the browser's request id, or empty.
func sendError(c Conn, code string, id requestID) error {
	return c.Send(ErrorFrame{Type: "error", Code: code, Message: errorText(code), RequestID: string(id)})
}
