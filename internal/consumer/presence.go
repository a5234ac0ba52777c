package consumer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"orgcast/internal/event"
)

// Showing is what the members of a group see of each other.
type Showing uint8

// What members see.
const (
	ShowNobody Showing = iota // nothing
	ShowUsers                 // who is there
	ShowStates                // who is there, and a state that each user sets
)

// ParseShowing parses none, users or states.
func ParseShowing(text string) (Showing, bool) {
	s, ok := map[string]Showing{"none": ShowNobody, "users": ShowUsers, "states": ShowStates}[text]
	return s, ok
}

// PresencePolicy says in which groups of their own organization pages see who else is there. It is
// safe for concurrent use. A nil policy shows nobody.
type PresencePolicy struct {
	now atomic.Pointer[[]presenceRule]
}

type presenceRule struct {
	prefix string // of the group name
	exact  bool
	shows  Showing
}

// ParsePresencePolicy parses a comma-separated list of rules, PATTERN=WHAT, with patterns as in
// [ParsePolicy]. The first rule whose pattern fits a group decides; if none fits, nobody is shown.
// WHAT is users, states or none. An empty text shows nobody.
func ParsePresencePolicy(text string) (*PresencePolicy, error) {
	var list []presenceRule
	for part := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(text) == "" {
			break
		}
		pattern, what, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return nil, fmt.Errorf("%w: %q must be PATTERN=WHAT", errBadPolicy, part)
		}
		prefix, open := strings.CutSuffix(pattern, "*")
		if (prefix != "" || !open) && !event.ValidGroupName(prefix) {
			return nil, fmt.Errorf("%w: %q is not a valid group name", errBadPolicy, pattern)
		}
		shows, ok := ParseShowing(what)
		if !ok {
			return nil, fmt.Errorf("%w: %q must be users, states or none", errBadPolicy, what)
		}
		list = append(list, presenceRule{prefix: prefix, exact: !open, shows: shows})
	}
	p := new(PresencePolicy)
	p.now.Store(&list)
	return p, nil
}

// Become replaces the rules with those of another policy, for subscriptions that come after it.
func (p *PresencePolicy) Become(next *PresencePolicy) { p.now.Store(next.now.Load()) }

// Shows returns what members of a group see of each other.
func (p *PresencePolicy) Shows(group string) Showing {
	if p == nil {
		return ShowNobody
	}
	for _, r := range *p.now.Load() {
		if group == r.prefix || !r.exact && strings.HasPrefix(group, r.prefix) {
			return r.shows
		}
	}
	return ShowNobody
}

// mayWatch reports whether a page can see who is in a group.
func mayWatch(c Conn, shows Showing) bool {
	_, ok := c.(Attendee)
	return ok && shows != ShowNobody && c.Protocol() == ProtocolV1
}

// attend makes the user present in a group that was just joined, if its members are shown.
func attend(c Conn, name string, shows Showing, watch bool) error {
	a, ok := c.(Attendee)
	if !ok || shows == ShowNobody {
		return nil
	}
	err := a.Attend(name, watch)
	switch {
	case err == nil, errors.Is(err, ErrNotFound): // it was left meanwhile
	case !watch: // the page has not asked, and the metrics tell
	case errors.Is(err, ErrUnknownType):
		return SendError(c, CodePresenceRefused, name)
	default:
		return SendError(c, CodeUnavailable, name)
	}
	return nil
}

// presenceSetType is the type of messages that set a state.
const presenceSetType = "presence_set"

// presenceSet sets the state that a user shows in a group.
type presenceSet struct {
	Group     string          `json:"group"`
	State     json.RawMessage `json:"state"`
	RequestID requestID       `json:"request_id"`
}

// setPresence sets the state of the page's user in a group. shows says what a group shows.
func setPresence(c Conn, m event.Message, shows func(group string) Showing) error {
	a, ok := c.(Attendee)
	if !ok {
		return ErrUnknownType
	}
	var in presenceSet
	if err := m.Decode(&in); err != nil {
		return err
	}
	if shows(in.Group) != ShowStates {
		return in.refuse(c, CodePresenceRefused)
	}
	err := a.SetPresence(in.Group, in.State)
	switch {
	case err == nil, errors.Is(err, ErrUnknownType):
		return err
	case errors.Is(err, ErrNotFound):
		return in.refuse(c, CodeUnknownGroup)
	case errors.Is(err, event.ErrBadFields):
		return in.refuse(c, CodeBadMessage)
	default:
		return in.refuse(c, CodeUnavailable)
	}
}

// refuse answers with the error frame of a code. A name that is not valid is not repeated.
func (in *presenceSet) refuse(c Conn, code string) error {
	frame := ErrorFrame{Type: "error", Code: code, Message: errorText(code), RequestID: string(in.RequestID)}
	if event.ValidGroupName(in.Group) {
		frame.Group = in.Group
	}
	return c.Send(frame)
}
