package consumer

import (
	"slices"
	"sync"

	"orgcast/internal/event"
)

// Who takes part in a conversation, besides its user.
const (
	participantAgent = "agent"
	participantCrew  = "crew" // since the first start_crew
)

// systemMessage ends the history that a page gets. It is recorded when a crew joins the
// conversation.
type systemMessage struct {
	Type             string `json:"type"` // "system_message"
	ConnectionStatus string `json:"connection_status"`
	SessionID        string `json:"session_id"`
	ParticipantType  string `json:"participant_type"`
}

func newSystemMessage(session, participant string) systemMessage {
	return systemMessage{Type: "system_message", ConnectionStatus: "connected", SessionID: session, ParticipantType: participant}
}

// typeCut is the event that cuts a conversation.
const typeCut = "conversation_cut"

// conversationCut removes a message and everything after it from a conversation. Pages remove that
// message and all after it, or everything if they do not show the message.
type conversationCut struct {
	Type      string    `json:"type"` // typeCut
	MessageID ident     `json:"message_id"`
	From      string    `json:"from"` // the message's place in the history
	UserID    string    `json:"user_id"`
	RequestID requestID `json:"request_id,omitempty"`
}

// cuts are the cuts of a conversation, as known to one connection.
type cuts struct {
	mu   sync.Mutex
	list []cut // oldest first; guarded by mu
}

// cut removes the events from a position up to the cut itself.
type cut struct{ from, at event.Position }

// add adds a cut and returns the position from which it removes events. ok is false for a cut that
// removes nothing: it is malformed, or its message was removed before. Two tabs may cut one
// conversation at the same time.
func (c *cuts) add(e *event.Event) (from event.Position, ok bool) {
	f, _ := read(e, nil)
	from, err := event.ParsePosition(textOf(f["from"]))
	if err != nil {
		return event.Position{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.ContainsFunc(c.list, func(before cut) bool { return before.covers(from) }) {
		return event.Position{}, false
	}
	c.list = append(c.list, cut{from: from, at: e.Position()})
	return from, true
}

// took reports whether the message at a position was removed together with an earlier one.
func (c *cuts) took(message event.Position) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.list, func(before cut) bool { return before.from != message && before.covers(message) })
}

func (c cut) covers(at event.Position) bool { return c.from.Compare(at) <= 0 && at.Compare(c.at) < 0 }

// foldChat returns the events of a conversation's history that a page gets, the newest that fit,
// and who takes part. It adds the cuts.
func (c *cuts) foldChat(history []*event.Event) (shown []*event.Event, participant string) {
	participant = participantAgent
	for _, e := range history {
		switch e.Type() {
		case typeCut:
			if from, ok := c.add(e); ok { // the history is in order
				shown = slices.DeleteFunc(shown, func(e *event.Event) bool { return e.Position().Compare(from) >= 0 })
			}
		case "system_message":
			if f, ok := read(e, nil); ok && textOf(f["participant_type"]) == participantCrew {
				participant = participantCrew
			}
		default:
			shown = append(shown, e)
		}
	}
	first, size := len(shown), 0
	for ; first > 0 && size+len(shown[first-1].Payload()) <= stateBytes; first-- {
		size += len(shown[first-1].Payload())
	}
	return shown[first:], participant
}
