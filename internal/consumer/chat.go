package consumer

import (
	"context"
	"encoding/json"
	"slices"

	"orgcast/internal/event"
)

// Chat is a conversation of one user at /ws/chat/?session=UUID. It sends the earlier messages, then
// a system_message, then each message as it comes. Messages of the user are recorded and passed to
// a worker. Agents, tools and crews answer in the conversation's group.
//
// A conversation belongs to the user who opened it first. For everyone else, in any organization,
// it does not exist. A Chat serves one connection.
type Chat struct {
	Quiet
	Dispatcher Dispatcher
	Recorder   Recorder
	Inputs     Inputs
	Owners     Owners
	Requests   Requests

	cuts cuts
}

var (
	_ MessageHandler = (*Chat)(nil)
	_ TextHandler    = (*Chat)(nil)
	_ EventHandler   = (*Chat)(nil)
)

// Connect claims the conversation, joins its group and sends its history.
func (ch *Chat) Connect(ctx context.Context, c Conn) error {
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
		shown, participant := ch.cuts.foldChat(history)
		for _, e := range shown {
			if err := c.Send(e); err != nil {
				return err
			}
		}
		return c.Send(newSystemMessage(session, participant))
	})
}

// HandleEvent withholds a cut that removes nothing, because a page that does not show the message
// of a cut removes everything that it shows.
func (ch *Chat) HandleEvent(_ context.Context, _ Conn, e *event.Event) (forward bool) {
	if e.Type() != typeCut {
		return true
	}
	_, ok := ch.cuts.add(e)
	return ok
}

// ReceiveMessage handles user_message, crew_message, start_crew and edit. Pages of the original
// application also send messages without a type.
func (ch *Chat) ReceiveMessage(ctx context.Context, c Conn, m event.Message) error {
	typ := m.Type
	if typ == "" && untypedMessage(m) {
		typ = "user_message"
	}
	if !slices.Contains([]string{"user_message", "crew_message", "start_crew", "edit"}, typ) {
		return ErrUnknownType
	}
	var in chatMessage
	if err := m.Decode(&in); err != nil {
		return err
	}
	return ch.perform(ctx, c, typ, in)
}

// ReceiveText handles text that is not JSON: pages of the original application send typed text as
// it is.
func (ch *Chat) ReceiveText(ctx context.Context, c Conn, text string) error {
	return ch.perform(ctx, c, "user_message", chatMessage{Message: text})
}

// untypedMessage reports whether a message has a text and no type.
func untypedMessage(m event.Message) bool {
	var in map[string]json.RawMessage
	if m.Decode(&in) != nil {
		return false
	}
	_, typed := in["type"]
	_, says := in["message"]
	return says && !typed
}

// perform carries out a page's message.
func (ch *Chat) perform(ctx context.Context, c Conn, typ string, in chatMessage) error {
	session, _ := uuid(c.Query().Get("session")) // valid, because Connect has checked it
	turn := chatTurn{Chat: ch, typ: typ, session: session, user: c.Identity().UserID, in: in, to: "agent"}
	if ctx.Err() != nil {
		return context.Cause(ctx) // do nothing at all
	}
	ctx, cancel := promptly(ctx)
	defer cancel()
	var frame any
	var err error
	switch {
	case typ == "start_crew":
		frame, err = turn.startCrew(ctx)
	case typ == "edit":
		err = turn.edit(ctx)
	case in.Context != nil && in.Context.IsHumanInput:
		frame, err = turn.reply(ctx)
	default:
		if typ == "crew_message" {
			turn.to = "crew"
		}
		frame, err = turn.say(ctx)
	}
	switch {
	case err != nil:
		return refused(c, err, in.RequestID)
	case frame != nil:
		return c.Send(frame)
	}
	return nil
}

func chatGroup(session string) string { return "chat_" + session }
