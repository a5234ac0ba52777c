package consumer

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"unicode"

	"orgcast/internal/event"
)

// chatMessage is a message from a page.
type chatMessage struct {
	Message string `json:"message"`
	AgentID sentID `json:"agent_id"`
	Model   string `json:"model"`
	// ClientID is the customer whom the message is about. It is passed on unchanged.
	ClientID sentID `json:"client_id"`
	CrewID   sentID `json:"crew_id"`
	// RequestID is the id of the request, and becomes the id of the message.
	RequestID requestID `json:"request_id"`
	MessageID ident     `json:"message_id"` // of an earlier message, for edit
	Context   *struct {
		question

		IsHumanInput bool `json:"is_human_input"`
	} `json:"context"`
}

// chatTurn is one message that is being handled.
type chatTurn struct {
	*Chat

	typ, session, user string
	in                 chatMessage
	to                 string // "agent" or "crew"
}

// once calls do once for each request id.
func (t *chatTurn) once(ctx context.Context, do func(q Request) error) (Request, error) {
	content := t.in
	content.RequestID = ""
	return once(ctx, t.Requests, t.in.RequestID, []any{t.typ, t.session, content}, do)
}

// userMessage is a message of the user as everyone in the conversation sees it. The server makes it
// from plain text, without other fields that the page sent.
type userMessage struct {
	Type      string    `json:"type"` // "user_message"
	MessageID string    `json:"message_id"`
	UserID    string    `json:"user_id"`
	Message   string    `json:"message"`
	To        string    `json:"to"`
	AgentID   sentID    `json:"agent_id,omitempty"`
	Model     string    `json:"model,omitempty"`
	ClientID  sentID    `json:"client_id,omitempty"`
	CrewID    sentID    `json:"crew_id,omitempty"`
	RequestID requestID `json:"request_id,omitempty"`
}

// message makes the message that pages show.
func (t *chatTurn) message() userMessage {
	m := userMessage{
		Type: "user_message", MessageID: string(t.in.RequestID), UserID: t.user, Message: t.in.Message, To: t.to,
		AgentID: t.in.AgentID, Model: t.in.Model, ClientID: t.in.ClientID, CrewID: t.in.CrewID, RequestID: t.in.RequestID,
	}
	if m.MessageID == "" {
		m.MessageID = rand.Text()
	}
	return m
}

// recordKey is the key under which a message is recorded, and by which edit finds it.
func recordKey(messageID string) string { return "message:" + messageID }

func (t *chatTurn) record(ctx context.Context, m userMessage) error {
	return t.Recorder.Record(ctx, chatGroup(t.session), recordKey(m.MessageID), m)
}

// say records the message, then dispatches the turn, in this order, because the answer must come
// after the message. If a page repeats a request, it gets the message again, and shows it once.
func (t *chatTurn) say(ctx context.Context) (any, error) {
	if !validText(t.in.Message) || !validModel(t.in.Model) {
		return nil, event.ErrBadFields
	}
	message := t.message()
	request, err := t.once(ctx, func(q Request) error {
		if err := t.record(ctx, message); err != nil {
			return err
		}
		return t.dispatch(ctx, message.MessageID, q.New, Work{Kind: "chat", ID: q.Work, Payload: userTurn{
			SessionID: t.session, MessageID: message.MessageID, Message: t.in.Message, To: t.to, AgentID: t.in.AgentID,
			Model: t.in.Model, ClientID: t.in.ClientID, CrewID: t.in.CrewID, RequestID: t.in.RequestID,
		}})
	})
	if err != nil {
		return nil, t.failed(ctx, request, err)
	}
	if request.Done {
		return message, nil
	}
	return nil, nil //nolint:nilnil // the message comes as an event
}

// userTurn is the message as the worker gets it.
type userTurn struct {
	SessionID string    `json:"session_id"`
	MessageID string    `json:"message_id"`
	Message   string    `json:"message"`
	To        string    `json:"to"`
	AgentID   sentID    `json:"agent_id"`
	Model     string    `json:"model"`
	ClientID  sentID    `json:"client_id"`
	CrewID    sentID    `json:"crew_id,omitempty"`
	RequestID requestID `json:"request_id,omitempty"`
}

// dispatchError is the error of work that was announced in the conversation and certainly not
// dispatched.
type dispatchError struct {
	cause     error
	messageID string
	kind      string
	work      string
}

func (e *dispatchError) Error() string { return e.cause.Error() }

func (e *dispatchError) Unwrap() error { return e.cause }

// dispatch dispatches the work that was announced as a message, or as a cut at the message. If an
// answer is lost, a worker may have the work, so dispatch tries once more: with the same id, the
// work is dispatched only once. If it remains unknown, the error is not a dispatchError, and the
// same request, sent again, is the same work.
func (t *chatTurn) dispatch(ctx context.Context, messageID string, fresh bool, w Work) error {
	w.Group, w.User = chatGroup(t.session), t.user
	_, err := t.Dispatcher.Dispatch(ctx, w)
	if err == nil {
		return nil
	}
	refused := errors.Is(err, ErrTooManyTasks) || errors.Is(err, event.ErrBadFields) || fresh && errors.Is(err, ErrQuotaExceeded)
	if !refused && !errors.Is(err, ErrQuotaExceeded) {
		ctx, cancel := promptly(ctx) // the first try may have used up its time
		defer cancel()
		_, second := t.Dispatcher.Dispatch(ctx, w)
		switch {
		case second == nil:
			return nil
		case errors.Is(second, ErrTooManyTasks): // the queue does not have it
			err, refused = second, true
		}
	}
	if !refused {
		return err
	}
	return &dispatchError{cause: err, messageID: messageID, kind: w.Kind, work: w.ID}
}

// workFailed is the terminal event of work that was announced in a conversation and not dispatched.
type workFailed struct {
	Type      string    `json:"type"` // typeTaskFailed
	TaskID    string    `json:"task_id"`
	MessageID string    `json:"message_id"`
	Code      string    `json:"code"`
	RequestID requestID `json:"request_id,omitempty"`
}

// failed ends announced work that was not dispatched, so that pages do not wait for it, and returns
// the error. It has its own timeout, because the failure may have used up the caller's.
func (t *chatTurn) failed(ctx context.Context, request Request, err error) error {
	e, ok := errors.AsType[*dispatchError](err)
	if !ok {
		return err
	}
	ctx, cancel := promptly(ctx)
	defer cancel()
	// Another tab may be about to dispatch the same work, and a repeated request is the same work
	// unless Again was recorded. Both must find that the work has ended.
	switch withdrawn, failure := t.Dispatcher.Withdraw(ctx, e.kind, e.work); {
	case failure != nil:
		return err // the work stays open, and may be tried again
	case !withdrawn:
		return nil // it was dispatched after all
	}
	end := workFailed{Type: typeTaskFailed, TaskID: e.work, MessageID: e.messageID, Code: codeOf(err), RequestID: t.in.RequestID}
	if t.Recorder.RecordFailure(ctx, chatGroup(t.session), "failed:"+e.work, end) == nil && t.in.RequestID != "" {
		_ = t.Requests.Again(ctx, request) // if this fails, a repeated request is refused
	}
	return err
}

// reply answers a question of a crew's run, and shows the answer in the conversation.
func (t *chatTurn) reply(ctx context.Context) (any, error) {
	given, err := t.in.Context.answered("", t.in.Message)
	if err != nil {
		return nil, err
	}
	t.to = "crew"
	_, err = t.once(ctx, func(q Request) error {
		given.Key = q.Work
		if err := t.Inputs.Answer(ctx, given); err != nil {
			return err
		}
		// The answer counts, even if it cannot be shown. A page that was told to try again would
		// hear that someone else has answered.
		_ = t.record(ctx, t.message())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return accepted(given, t.in.RequestID), nil
}

// edit cuts the conversation at an earlier message, and makes the worker forget the rest too.
func (t *chatTurn) edit(ctx context.Context) error {
	if t.in.MessageID == "" {
		return event.ErrBadFields
	}
	id := string(t.in.MessageID)
	request, err := t.once(ctx, func(q Request) error {
		at, ok, err := t.Recorder.Recorded(ctx, chatGroup(t.session), recordKey(id))
		if err != nil {
			return err
		}
		if !ok || t.cuts.took(at) {
			return ErrUnknownMessage
		}
		err = t.Recorder.Record(ctx, chatGroup(t.session), "cut:"+id, conversationCut{
			Type: typeCut, MessageID: t.in.MessageID, From: at.String(), UserID: t.user, RequestID: t.in.RequestID,
		})
		if err != nil {
			return err
		}
		return t.dispatch(ctx, id, q.New, Work{Kind: "chat_edit", ID: q.Work, Payload: struct {
			SessionID string    `json:"session_id"`
			MessageID ident     `json:"message_id"`
			RequestID requestID `json:"request_id,omitempty"`
		}{t.session, t.in.MessageID, t.in.RequestID}})
	})
	return t.failed(ctx, request, err) // the cut comes as an event
}

// crewStarted tells a page which run its start_crew started.
type crewStarted struct {
	Type        string    `json:"type"` // "crew_started"
	ExecutionID string    `json:"execution_id"`
	CrewID      sentID    `json:"crew_id"`
	ClientID    sentID    `json:"client_id,omitempty"`
	RequestID   requestID `json:"request_id,omitempty"`
}

// startCrew dispatches a run of a crew. The run has its own group. Its worker writes to the
// conversation, in which the crew takes part from now on.
func (t *chatTurn) startCrew(ctx context.Context) (any, error) {
	if len(t.in.CrewID) == 0 {
		return nil, event.ErrBadFields
	}
	request, err := t.once(ctx, func(q Request) error {
		execution := q.Work
		_, err := t.Dispatcher.Dispatch(ctx, Work{
			Kind: "crew", ID: execution, Group: "crew_execution_" + execution, User: t.user,
			Payload: struct {
				CrewID      ident     `json:"crew_id"`
				ExecutionID string    `json:"execution_id"`
				SessionID   string    `json:"session_id"`
				ClientID    sentID    `json:"client_id,omitempty"`
				RequestID   requestID `json:"request_id,omitempty"`
			}{t.in.CrewID.id(), execution, t.session, t.in.ClientID, t.in.RequestID},
		})
		if err != nil {
			return err
		}
		err = t.Recorder.Record(ctx, chatGroup(t.session), "crew:"+execution, newSystemMessage(t.session, participantCrew))
		if t.in.RequestID == "" {
			return nil // the crew runs; after an error, the page would start another one
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return crewStarted{
		Type: "crew_started", ExecutionID: request.Work, CrewID: t.in.CrewID, ClientID: t.in.ClientID, RequestID: t.in.RequestID,
	}, nil
}

// validModel accepts the name of a model, or an empty one.
func validModel(name string) bool {
	const longest = 100
	return len(name) <= longest && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}
