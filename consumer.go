package orgcast

import (
	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/session"
)

// What a connection does.
type (
	// OrganizationAwareConsumer is the behavior of one connection: Connect, Receive and Disconnect.
	OrganizationAwareConsumer = consumer.OrganizationAwareConsumer
	// MessageHandler is a consumer of JSON messages. [JSON] makes an [OrganizationAwareConsumer] of it.
	MessageHandler = consumer.MessageHandler
	// TextHandler is an extra ability of a [MessageHandler]: it takes text that is not JSON, too.
	TextHandler = consumer.TextHandler
	// EventHandler is an extra ability of a consumer: it sees each event before the browser does, and may withhold it.
	EventHandler = consumer.EventHandler
	// Quiet has a Connect and a Disconnect that do nothing, to be embedded.
	Quiet = consumer.Quiet
	// Conn is what a consumer may do with its connection.
	Conn = consumer.Conn
	// Identity says who is connected.
	Identity = session.Identity
	// Route says which consumer serves a path.
	Route = consumer.Route
	// WhenFull says what gives way when a browser reads more slowly than its events come.
	WhenFull = consumer.WhenFull
	// RawMessage is one message from a browser, as it came.
	RawMessage = event.RawMessage
	// Message is a message that holds a JSON object with a type.
	Message = event.Message
	// Event is one event of a group, as a back end or a worker published it.
	Event = event.Event
	// Group is a group of one organization.
	Group = event.Group
	// Position is the place of a recorded event in the history of its group.
	Position = event.Position
)

// Policies of [Route.WhenFull].
const (
	// EndWhenFull ends the connection: the browser comes back and finds a fresh state. It is the default.
	EndWhenFull = consumer.Disconnect
	// DropOldest drops the oldest events and puts a gap frame in their place.
	DropOldest = consumer.DropOldest
	// KeepLatest keeps, of the events of one group and type, only the newest.
	KeepLatest = consumer.Latest
)

// JSON makes a consumer of a [MessageHandler]. It answers ping, and tells the browser of messages that are not JSON
// objects, of unknown types and of wrong fields.
func JSON(h MessageHandler) OrganizationAwareConsumer { return consumer.JSON(h) }

// UserGroup returns the name of a user's own group, which no page of another user may join.
func UserGroup(userID string) string { return event.UserGroupName(userID) }

// What consumers use of the rest of the gateway.
type (
	// Dispatcher hands work to a worker, which outlives the connection.
	Dispatcher = consumer.Dispatcher
	// Work is one piece of work for a worker.
	Work = consumer.Work
	// Recorder publishes what the server itself has to say to a group, and keeps it in the group's history.
	Recorder = consumer.Recorder
	// Inputs are the open questions of workers to people.
	Inputs = consumer.Inputs
	// Answer is what a person answers to a question.
	Answer = consumer.Answer
	// Requests remember what users ask for, each for a day.
	Requests = consumer.Requests
	// Request is what a user asked for.
	Request = consumer.Request
	// Owners know what belongs to one user alone.
	Owners = consumer.Owners
)

// Causes with which a consumer refuses or ends a connection. Any other error is a fault of the server:
// status 500, or close code 1011.
var (
	// ErrDone ends a connection whose work is finished: close code 1000.
	ErrDone = consumer.ErrDone
	// ErrForbidden refuses what this user may not do: status 403, or close code 4403.
	ErrForbidden = consumer.ErrForbidden
	// ErrNotFound refuses what does not exist or belongs to another organization, which look alike: status 404, or
	// close code 4404. [Get] returns it.
	ErrNotFound = consumer.ErrNotFound
	// ErrTextRequired ends a connection that sent a binary message where text is due.
	ErrTextRequired = consumer.ErrTextRequired
)

// Errors of what a consumer calls. [Refuse] tells a browser of each.
var (
	// ErrInvalidGroup is returned for text that cannot name a group.
	ErrInvalidGroup = event.ErrInvalidGroup
	// ErrTooManyGroups is returned by [Conn.Join] at the limit of groups per connection.
	ErrTooManyGroups = consumer.ErrTooManyGroups
	// ErrUnknownType is what a [MessageHandler] returns for a type that it does not know.
	ErrUnknownType = consumer.ErrUnknownType
	// ErrBadFields is returned, wrapped, by [Message.Decode], and for content that is too large.
	ErrBadFields = event.ErrBadFields
	// ErrTooManyTasks is returned if too much work of a kind waits already.
	ErrTooManyTasks = consumer.ErrTooManyTasks
	// ErrQuotaExceeded is returned for what exceeds what the user or the organization may have the gateway keep.
	ErrQuotaExceeded = consumer.ErrQuotaExceeded
	// ErrInputClosed is returned for an answer to a question that is not open in this organization.
	ErrInputClosed = consumer.ErrInputClosed
	// ErrInputTaken is returned for an answer to a question that someone else answered first.
	ErrInputTaken = consumer.ErrInputTaken
	// ErrConflict is returned for a request id under which the user has asked for something else.
	ErrConflict = consumer.ErrConflict
	// ErrUnavailable is returned, wrapped, if a part of the gateway does not answer.
	ErrUnavailable = consumer.ErrUnavailable
)

// Refuse tells the browser, with an error frame, that what it asked for was not done: the stable code of one of the
// errors above, or unavailable for others. No text of the error reaches the browser. requestID is the id that the
// browser gave its request, or empty.
func Refuse(c Conn, err error, requestID string) error { return consumer.Refuse(c, err, requestID) }
