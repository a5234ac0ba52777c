package consumer

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"unicode"

	"orgcast/internal/event"
)

// chatMessage is what a page may send.
type chatMessage struct {
	Message string `json:"message"`
	AgentID sentID `json:"agent_id"`
	Model   string `json:"model"`
	// ClientID is the customer whom the message is about. It passes through.
	ClientID sentID `json:"client_id"`
	CrewID   sentID `json:"crew_id"`
	// RequestID names what is asked for. It is the id of the message.
	RequestID requestID `json:"request_id"`
	MessageID ident     `json:"message_id"` // of an earlier message, for edit
	Context   *struct {
		question

		IsHumanInput bool `json:"is_human_input"`
	} `json:"context"`
}

// chatTurn is one message on its way.
type chatTurn struct {
	*Chat

	typ, session, user string
	in                 chatMessage
	to                 string // "agent" or "crew"
}

// once does what the turn asks for, once for each request id.
func (t *chatTurn) once(ctx context.Context, do func(q Request) error) (Request, error) {
	content := t.in
	content.RequestID = ""
	return once(ctx, t.Requests, t.in.RequestID, []any{t.typ, t.session, content}, do)
}

// userMessage is a message of the user as everyone in the conversation sees it. The server makes
// it: plain text, and nothing of what else the page sent.
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

// message makes the message that is shown.
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

// recordKey is the key under which a message is recorded, and found again by edit.
func recordKey(messageID string) string { return "message:" + messageID }

func (t *chatTurn) record(ctx context.Context, m userMessage) error {
	return t.Recorder.Record(ctx, chatGroup(t.session), recordKey(m.MessageID), m)
}

// say records the message, then asks for the turn. In that order, because the answer has to come
// behind the message. A page that asks again gets the message once more, which is shown once.
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
	return nil, nil //nolint:nilnil // the message comes by itself
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
// handed over.
type dispatchError struct {
	cause     error
	messageID string
	kind      string
	work      string
}

func (e *dispatchError) Error() string { return e.cause.Error() }

func (e *dispatchError) Unwrap() error { return e.cause }

// dispatch hands over the work that was announced as a message, or as a cut at it. An answer that
// is lost leaves open whether a worker has the work, so dispatch asks once more: under its id it is
// handed over once. If that stays open, the error is no dispatchError. The same request, sent
// again, is the same work then.
func (t *chatTurn) dispatch(ctx context.Context, messageID string, fresh bool, w Work) error {
	w.Group, w.User = chatGroup(t.session), t.user
	_, err := t.Dispatcher.Dispatch(ctx, w)
	if err == nil {
		return nil
	}
	refused := errors.Is(err, ErrTooManyTasks) || errors.Is(err, event.ErrBadFields) || fresh && errors.Is(err, ErrQuotaExceeded)
	if !refused && !errors.Is(err, ErrQuotaExceeded) {
		ctx, cancel := promptly(ctx) // the first try may have used up the other
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

// workFailed is the terminal event of work that was announced in a conversation and not handed
// over.
type workFailed struct {
	Type      string    `json:"type"` // typeTaskFailed
	TaskID    string    `json:"task_id"`
	MessageID string    `json:"message_id"`
	Code      string    `json:"code"`
	RequestID requestID `json:"request_id,omitempty"`
}

// failed ends announced work that was not handed over, so that nobody waits for it, and returns the
// error. It has its own time: what failed may have used up the other.
func (t *chatTurn) failed(ctx context.Context, request Request, err error) error {
	e, ok := errors.AsType[*dispatchError](err)
	if !ok {
		return err
	}
	ctx, cancel := promptly(ctx)
	defer cancel()
	// Another tab may be about to hand the same work over, and a request that is sent again is the
	// same work unless Again is noted. Both must find that it has ended.
	switch withdrawn, failure := t.Dispatcher.Withdraw(ctx, e.kind, e.work); {
	case failure != nil:
		return err // it stays open, and the same work may be tried again
	case !withdrawn:
		return nil // it is on its way
	}
	end := workFailed{Type: typeTaskFailed, TaskID: e.work, MessageID: e.messageID, Code: codeOf(err), RequestID: t.in.RequestID}
	if t.Recorder.RecordFailure(ctx, chatGroup(t.session), "failed:"+e.work, end) == nil && t.in.RequestID != "" {
		_ = t.Requests.Again(ctx, request) // else the same work is refused and ends once more, unnoticed
	}
	return err
}

// reply answers what a run of a crew asks for, and shows the answer in the conversation.
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
		// The answer counts, whether or not it can be shown: a page that was told to try again
		// would hear that someone else has answered.
		_ = t.record(ctx, t.message())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return accepted(given, t.in.RequestID), nil
}

// edit cuts the conversation from an earlier message on, and has the worker forget it, too.
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
	return t.failed(ctx, request, err) // the cut comes by itself
}

// crewStarted tells a page which run its start_crew became.
type crewStarted struct {
	Type        string    `json:"type"` // "crew_started"
	ExecutionID string    `json:"execution_id"`
	CrewID      sentID    `json:"crew_id"`
	ClientID    sentID    `json:"client_id,omitempty"`
	RequestID   requestID `json:"request_id,omitempty"`
}

// startCrew asks for a run of a crew. It has its own group; its worker tells the conversation, in
// which the crew takes part from now on.
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
			return nil // the crew runs, and a page that was told otherwise would start another one
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

// validModel accepts the name of a model, or none.
func validModel(name string) bool {
	const longest = 100
	return len(name) <= longest && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}
