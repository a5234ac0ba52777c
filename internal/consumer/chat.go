package consumer

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"unicode"

	"orgcast/internal/event"
)

// Chat is a conversation of one user at /ws/chat/?session=UUID: what was said before, then a
// system_message, then each message as it comes. What the user says is recorded and handed to a
// worker; agents, tools and crews are heard through the conversation's group.
//
// A conversation belongs to who opened it first. To everybody else, of whichever organisation, it is
// not there.
type Chat struct {
	Quiet
	Dispatcher Dispatcher
	Recorder   Recorder
	Inputs     Inputs
	Owners     Owners
}

var _ MessageHandler = Chat{}

// systemMessage ends the history that a page is given.
type systemMessage struct {
	Type             string `json:"type"` // "system_message"
	ConnectionStatus string `json:"connection_status"`
	SessionID        string `json:"session_id"`
	ParticipantType  string `json:"participant_type"`
}

// Connect claims the conversation, joins its group and sends its history.
func (ch Chat) Connect(ctx context.Context, c Conn) error {
	session, ok := uuid(c.Query().Get("session"))
	if !ok {
		return ErrNotFound
	}
	owner, err := ch.Owners.Claim(ctx, "chat", session, c.Identity().UserID)
	if err != nil {
		return err
	}
	if !owner {
		return ErrNotFound
	}
	return c.JoinWithHistory(ctx, chatGroup(session), historyLength, func(history []*event.Event) error {
		first, size := len(history), 0
		for ; first > 0 && size+len(history[first-1].Payload()) <= stateBytes; first-- {
			size += len(history[first-1].Payload())
		}
		for _, e := range history[first:] {
			if err := c.Send(asLive(c, e)); err != nil {
				return err
			}
		}
		return c.Send(systemMessage{Type: "system_message", ConnectionStatus: "connected", SessionID: session, ParticipantType: "user"})
	})
}

// ReceiveMessage handles user_message, crew_message, start_crew and edit.
func (ch Chat) ReceiveMessage(ctx context.Context, c Conn, m event.Message) error {
	var in chatMessage
	if !slices.Contains([]string{"user_message", "crew_message", "start_crew", "edit"}, m.Type) {
		return ErrUnknownType
	}
	if err := m.Decode(&in); err != nil {
		return err
	}
	session, _ := uuid(c.Query().Get("session")) // Connect has seen it
	turn := chatTurn{Chat: ch, session: session, user: c.Identity().UserID, in: in, to: "agent"}
	ctx, cancel := promptly(ctx)
	defer cancel()
	var frame any
	var err error
	switch {
	case m.Type == "start_crew":
		frame, err = turn.startCrew(ctx)
	case m.Type == "edit":
		err = turn.edit(ctx)
	case in.Context != nil && in.Context.IsHumanInput:
		frame, err = turn.reply(ctx)
	default:
		if m.Type == "crew_message" {
			turn.to = "crew"
		}
		err = turn.say(ctx)
	}
	switch {
	case err != nil:
		return refused(c, err, in.ClientID)
	case frame != nil:
		return c.Send(frame)
	}
	return nil
}

func chatGroup(session string) string { return "chat_" + session }

// chatMessage is what a page may send.
type chatMessage struct {
	Message string `json:"message"`
	AgentID ident  `json:"agent_id"`
	Model   string `json:"model"`
	// ClientID names the message. Sent again under the same one, it is the same message.
	ClientID  ident `json:"client_id"`
	CrewID    ident `json:"crew_id"`
	MessageID ident `json:"message_id"`
	Context   *struct {
		question

		IsHumanInput bool `json:"is_human_input"`
	} `json:"context"`
}

// chatTurn is one message on its way.
type chatTurn struct {
	Chat

	session, user string
	in            chatMessage
	to            string // "agent" or "crew"
}

// userMessage is a message of the user as everyone in the conversation sees it. The server makes it:
// plain text, and nothing of what else the page sent.
type userMessage struct {
	Type      string `json:"type"` // "user_message"
	MessageID ident  `json:"message_id"`
	UserID    string `json:"user_id"`
	Message   string `json:"message"`
	To        string `json:"to"`
	AgentID   ident  `json:"agent_id,omitempty"`
	Model     string `json:"model,omitempty"`
	ClientID  ident  `json:"client_id,omitempty"`
}

// say records the message, then asks for the turn. In that order, because the answer has to come
// behind the message; a page that hears of a failure sends it again, and the message is there once.
func (t *chatTurn) say(ctx context.Context) error {
	if !validText(t.in.Message) || !validModel(t.in.Model) {
		return event.ErrBadFields
	}
	message, err := t.record(ctx)
	if err != nil {
		return err
	}
	return t.dispatch(ctx, Work{Kind: "chat", Payload: struct {
		SessionID string `json:"session_id"`
		userTurn
	}{t.session, userTurn{message.MessageID, t.in.Message, t.to, t.in.AgentID, t.in.Model, t.in.ClientID}}})
}

// userTurn is the message as the worker gets it.
type userTurn struct {
	MessageID ident  `json:"message_id"`
	Message   string `json:"message"`
	To        string `json:"to"`
	AgentID   ident  `json:"agent_id"`
	Model     string `json:"model"`
	ClientID  ident  `json:"client_id"`
}

// reply answers what a run of a crew asks for, and shows the answer in the conversation.
func (t *chatTurn) reply(ctx context.Context) (any, error) {
	accepted, err := t.in.Context.answer(ctx, t.Inputs, "", t.in.Message)
	if err != nil {
		return nil, err
	}
	t.to = "crew"
	// The answer counts, whether or not it can be shown: whoever was told to try again would hear
	// that somebody else has answered.
	_, _ = t.record(ctx)
	accepted.ClientID = t.in.ClientID
	return accepted, nil
}

// record shows the message in the conversation.
func (t *chatTurn) record(ctx context.Context) (userMessage, error) {
	message := userMessage{
		Type: "user_message", MessageID: t.in.ClientID, UserID: t.user, Message: t.in.Message, To: t.to,
		AgentID: t.in.AgentID, Model: t.in.Model, ClientID: t.in.ClientID,
	}
	key := ""
	if t.in.ClientID == "" {
		message.MessageID = ident(rand.Text())
	} else {
		key = "user_message:" + string(t.in.ClientID)
	}
	return message, t.Recorder.Record(ctx, chatGroup(t.session), key, message)
}

// edit asks for the turn of an earlier message anew.
func (t *chatTurn) edit(ctx context.Context) error {
	if t.in.MessageID == "" {
		return event.ErrBadFields
	}
	return t.dispatch(ctx, Work{Kind: "chat_edit", Payload: map[string]string{"session_id": t.session, "message_id": string(t.in.MessageID)}})
}

func (t *chatTurn) dispatch(ctx context.Context, w Work) error {
	w.Group, w.User, w.Idempotency = chatGroup(t.session), t.user, t.once()
	_, err := t.Dispatcher.Dispatch(ctx, w)
	return err
}

// once is the idempotency key of the work that the message asks for. Keys count in the whole
// organisation, and clients choose their ids: without the conversation in it, one user's message could
// be taken for a repetition of another's.
func (t *chatTurn) once() string {
	if t.in.ClientID == "" {
		return ""
	}
	return strings.ReplaceAll(t.session, "-", "") + "." + string(t.in.ClientID)
}

// crewStarted tells a page which run its start_crew became.
type crewStarted struct {
	Type        string `json:"type"` // "crew_started"
	ExecutionID string `json:"execution_id"`
	CrewID      ident  `json:"crew_id"`
	ClientID    ident  `json:"client_id,omitempty"`
}

// startCrew asks for a run of a crew. It has a group of its own; its worker tells the conversation.
func (t *chatTurn) startCrew(ctx context.Context) (any, error) {
	if t.in.CrewID == "" {
		return nil, event.ErrBadFields
	}
	execution := rand.Text()
	id, err := t.Dispatcher.Dispatch(ctx, Work{
		Kind: "crew", ID: execution, Idempotency: t.once(), Group: "crew_execution_" + execution, User: t.user,
		Payload: struct {
			CrewID      ident  `json:"crew_id"`
			ExecutionID string `json:"execution_id"`
			SessionID   string `json:"session_id"`
			ClientID    ident  `json:"client_id,omitempty"`
		}{t.in.CrewID, execution, t.session, t.in.ClientID},
	})
	if err != nil {
		return nil, err
	}
	return crewStarted{Type: "crew_started", ExecutionID: id, CrewID: t.in.CrewID, ClientID: t.in.ClientID}, nil
}

// validModel accepts the name of a model, or none.
func validModel(name string) bool {
	const longest = 100
	return len(name) <= longest && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}
