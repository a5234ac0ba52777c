package consumer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"orgcast/internal/event"
)

// Events is the general consumer: a page subscribes to groups of its own organisation, as far as
// the policy allows, and gets their events as they were published.
type Events struct {
	Quiet
	Policy *Policy
	// MostResumed is how many groups of one resume are looked at. A message has room for thousands of
	// names, and each costs an answer of its own. 0 is no limit.
	MostResumed int
}

// groupFrame confirms a subscription or its end.
type groupFrame struct {
	Type  string `json:"type"` // "subscribed", "unsubscribed"
	Group string `json:"group"`
	// ID is the place from which the group can be resumed, with [ProtocolV1] and if it is known.
	ID string `json:"id,omitempty"`
}

// ReceiveMessage handles subscribe, unsubscribe and resume.
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
	case "resume":
		return e.resume(ctx, c, m)
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
	err = c.Join(ctx, in.Group)
	if err != nil {
		return refuseGroup(ctx, c, in.Group, err)
	}
	frame := groupFrame{Type: "subscribed", Group: in.Group}
	if r, ok := c.(Resumer); ok && c.Protocol() == ProtocolV1 {
		if mark, ok := r.Mark(in.Group); ok {
			frame.ID = mark.String()
		}
	}
	return c.Send(frame)
}

// resume subscribes to groups again and sends what was missed since the places given. What is no
// place of that group's history, or not any more, is answered with a gap: whose it is does not show.
func (e Events) resume(ctx context.Context, c Conn, m event.Message) error {
	var in struct {
		Groups map[string]string `json:"groups"`
		Tokens map[string]string `json:"tokens"`
	}
	r, ok := c.(Resumer)
	if !ok || c.Protocol() != ProtocolV1 {
		return ErrUnknownType
	}
	if err := m.Decode(&in); err != nil {
		return err
	}
	for i, name := range slices.Sorted(maps.Keys(in.Groups)) {
		if e.MostResumed > 0 && i == e.MostResumed {
			return SendError(c, CodeTooManyGroups, "")
		}
		g, err := event.NewGroup(c.Identity().Organization, name)
		if err != nil {
			if err := SendError(c, CodeUnknownGroup, ""); err != nil {
				return err
			}
			continue
		}
		if err := e.resumeGroup(ctx, c, r, g, in.Groups[name], in.Tokens[name]); err != nil {
			return err
		}
	}
	return nil
}

func (e Events) resumeGroup(ctx context.Context, c Conn, r Resumer, g event.Group, place, token string) error {
	if !e.Policy.Allows(c.Identity(), g, token, time.Now()) {
		return SendError(c, CodeUnknownGroup, g.Name())
	}
	after, err := event.ParseMark(place)
	if err != nil {
		return SendError(c, CodeBadMessage, g.Name())
	}
	err = r.JoinAfter(ctx, g.Name(), after, func(at event.Mark) error {
		frame := groupFrame{Type: "subscribed", Group: g.Name()}
		if at != (event.Mark{}) {
			frame.ID = at.String()
		}
		return c.Send(frame)
	})
	if err != nil {
		return refuseGroup(ctx, c, g.Name(), err)
	}
	return nil
}

// refuseGroup answers a group that could not be joined.
func refuseGroup(ctx context.Context, c Conn, group string, err error) error {
	switch {
	case errors.Is(err, ErrTooManyGroups):
		return SendError(c, CodeTooManyGroups, group)
	case errors.Is(err, ErrUnknownType):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return SendError(c, CodeUnavailable, group)
	}
}

var _ MessageHandler = Events{}
