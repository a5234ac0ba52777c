package consumer

import (
	"context"
	"errors"
	"time"

	"orgcast/internal/event"
)

// Events is the general consumer: a page subscribes to groups of its own organisation, as far as
// the policy allows, and gets their events as they were published.
type Events struct {
	Quiet
	Policy *Policy
}

// groupFrame confirms a subscription or its end.
type groupFrame struct {
	Type  string `json:"type"` // "subscribed", "unsubscribed"
	Group string `json:"group"`
}

// ReceiveMessage handles subscribe and unsubscribe.
func (e Events) ReceiveMessage(ctx context.Context, c Conn, m event.Message) error {
	var in struct {
		Group string `json:"group"`
		Token string `json:"token"`
	}
	switch m.Type {
	case "subscribe", "unsubscribe":
		if err := m.Decode(&in); err != nil {
			return err
		}
	default:
		return ErrUnknownType
	}
	// A name of no valid form, one that does not exist and one that is not yours look alike.
	g, err := event.NewGroup(c.Identity().Organization, in.Group)
	if err != nil {
		return SendError(c, CodeUnknownGroup, "")
	}
	if m.Type == "unsubscribe" {
		c.Leave(in.Group)
		return c.Send(groupFrame{Type: "unsubscribed", Group: in.Group})
	}
	if !e.Policy.Allows(c.Identity(), g, in.Token, time.Now()) {
		return SendError(c, CodeUnknownGroup, in.Group)
	}
	switch err := c.Join(ctx, in.Group); {
	case err == nil:
		return c.Send(groupFrame{Type: "subscribed", Group: in.Group})
	case errors.Is(err, ErrTooManyGroups):
		return SendError(c, CodeTooManyGroups, in.Group)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return SendError(c, CodeUnavailable, in.Group)
	}
}

var _ MessageHandler = Events{}
