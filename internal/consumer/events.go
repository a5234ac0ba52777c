package consumer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"orgcast/internal/event"
)

// Events is the general consumer: a page subscribes to groups of its own organization, as the
// policy allows, and gets their events as they were published.
type Events struct {
	Quiet
	Policy *Policy
	// Presence says in which groups users are present. Nil is none.
	Presence *PresencePolicy
}

// groupFrame confirms a subscription or its end.
type groupFrame struct {
	Type  string `json:"type"` // "subscribed", "unsubscribed"
	Group string `json:"group"`
	// ID is the mark from which the group can be resumed, if it is known, with [ProtocolV1] only.
	ID string `json:"id,omitempty"`
}

// wanted is what a page requests for one group.
type wanted struct {
	// After is the mark after which missed events are requested, "" for live events only.
	After string `json:"after"`
	// Token is for groups that require one.
	Token string `json:"token"`
	// Presence asks who else is in the group.
	Presence bool `json:"presence"`
}

// subscribeFrame asks for groups. The fields of wanted are for the short form.
type subscribeFrame struct {
	Group  *string           `json:"group"` // short for one group
	Groups map[string]wanted `json:"groups"`
	wanted
}

// unsubscribeFrame leaves groups.
type unsubscribeFrame struct {
	Group  *string  `json:"group"` // short for one group
	Groups []string `json:"groups"`
}

// ReceiveMessage handles subscribe, unsubscribe, history and presence_set.
func (e Events) ReceiveMessage(ctx context.Context, c Conn, m event.Message) error {
	switch m.Type {
	case "subscribe":
		return e.subscribe(ctx, c, m)
	case "unsubscribe":
		return e.unsubscribe(c, m)
	case "history":
		return pageOfHistory(ctx, c, m)
	case presenceSetType:
		return setPresence(c, m, e.Presence.Shows)
	default:
		return ErrUnknownType
	}
}

// subscribe joins groups and answers for each, in the order of their names.
func (e Events) subscribe(ctx context.Context, c Conn, m event.Message) error {
	var in subscribeFrame
	if err := m.Decode(&in); err != nil {
		return err
	}
	switch {
	case in.Group != nil && in.Groups != nil:
		return SendError(c, CodeBadMessage, "")
	case in.Groups == nil: // with neither field, the name is empty
		return e.subscribeOne(ctx, c, nameOf(in.Group), in.wanted)
	}
	names, err := e.charge(c, slices.Sorted(maps.Keys(in.Groups)))
	for _, name := range names {
		if err == nil {
			err = e.subscribeOne(ctx, c, name, in.Groups[name])
		}
	}
	return err
}

// charge charges a frame for its names, refuses those beyond the limit and returns the others.
func (e Events) charge(c Conn, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, SendError(c, CodeBadMessage, "")
	}
	var rest []string
	if limited, ok := c.(Limiter); ok {
		// A frame has room for thousands of names. Those that the connection cannot join are
		// refused together.
		if most := limited.MaxGroups(); len(names) > most {
			names, rest = names[:most], names[most:]
		}
		if err := limited.Charge(len(names) - 1); err != nil { // the frame itself has paid for one
			return nil, err
		}
	}
	rest = slices.DeleteFunc(rest, func(name string) bool { return !event.ValidGroupName(name) })
	if len(rest) == 0 {
		return names, nil
	}
	return names, c.Send(ErrorFrame{Type: "error", Code: CodeTooManyGroups, Message: errorText(CodeTooManyGroups), Groups: rest})
}

// subscribeOne joins a group, with missed events if they were requested. A group whose name is not
// valid, a group that does not exist and a foreign one look alike. If the mark is not in that
// group's history, or no longer, the answer is a gap, which does not reveal where the mark belongs.
func (e Events) subscribeOne(ctx context.Context, c Conn, name string, want wanted) error {
	g, err := event.NewGroup(c.Identity().Organization, name)
	if err != nil {
		return SendError(c, CodeUnknownGroup, "")
	}
	if !e.Policy.Allows(c.Identity(), g, want.Token, time.Now()) {
		return SendError(c, CodeUnknownGroup, name)
	}
	if want.Presence && !mayWatch(c, e.Presence.Shows(name)) {
		return SendError(c, CodePresenceRefused, name)
	}
	joined, err := e.join(ctx, c, name, want)
	if err != nil || !joined {
		return err
	}
	return attend(c, name, e.Presence.Shows(name), want.Presence)
}

// join joins a group that the page may join, and answers. joined is false if the answer is an error.
func (e Events) join(ctx context.Context, c Conn, name string, want wanted) (joined bool, err error) {
	r, resumes := c.(Resumer)
	resumes = resumes && c.Protocol() == ProtocolV1
	if want.After != "" {
		after, err := event.ParseMark(want.After)
		if err != nil || !resumes {
			return false, SendError(c, CodeBadMessage, name)
		}
		err = r.JoinAfter(ctx, name, after, func(at event.Mark) error { return c.Send(subscribed(name, at)) })
		if err != nil {
			return false, refuseGroup(ctx, c, name, err)
		}
		return true, nil
	}
	if err := c.Join(ctx, name); err != nil {
		return false, refuseGroup(ctx, c, name, err)
	}
	var at event.Mark
	if resumes {
		at, _ = r.Mark(name)
	}
	return true, c.Send(subscribed(name, at))
}

// subscribed returns the answer for a group, with the mark reached if it is known.
func subscribed(name string, at event.Mark) groupFrame {
	frame := groupFrame{Type: "subscribed", Group: name}
	if at != (event.Mark{}) {
		frame.ID = at.String()
	}
	return frame
}

// unsubscribe leaves groups and answers for each.
func (e Events) unsubscribe(c Conn, m event.Message) error {
	var in unsubscribeFrame
	if err := m.Decode(&in); err != nil {
		return err
	}
	names := in.Groups
	switch {
	case in.Group != nil && names != nil:
		return SendError(c, CodeBadMessage, "")
	case names == nil:
		names = []string{nameOf(in.Group)}
	}
	names, err := e.charge(c, names)
	for _, name := range names {
		switch {
		case err != nil:
		case !event.ValidGroupName(name):
			err = SendError(c, CodeUnknownGroup, "")
		default:
			c.Leave(name)
			err = c.Send(groupFrame{Type: "unsubscribed", Group: name})
		}
	}
	return err
}

// nameOf returns the name in a frame, "" if there is none.
func nameOf(group *string) string {
	if group == nil {
		return ""
	}
	return *group
}

// refuseGroup answers for a group that could not be joined.
func refuseGroup(ctx context.Context, c Conn, group string, err error) error {
	switch {
	case errors.Is(err, ErrTooManyGroups):
		return SendError(c, CodeTooManyGroups, group)
	case errors.Is(err, ErrUnknownType): // the connection cannot resume groups
		return SendError(c, CodeBadMessage, group)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		return SendError(c, CodeUnavailable, group)
	}
}

var _ MessageHandler = Events{}
