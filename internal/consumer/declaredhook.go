package consumer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// Events about which a [Hook] is asked.
const (
	HookConnect    = "connect"
	HookReceive    = "receive"
	HookDisconnect = "disconnect"
)

// HookTask is the kind of task that tells hooks that a connection has ended. The gateway itself
// works on it.
const HookTask = "orgcast_hook"

// Hook is another program that makes decisions for a declared route. It is safe for concurrent use.
type Hook interface {
	// Asks reports whether the hook is asked about an event.
	Asks(event string) bool
	// Ask asks the hook on behalf of the organization of ctx. The id names the question, in case
	// the program is asked again. Errors are [ErrForbidden], [ErrNotFound], and others if there was
	// no answer.
	Ask(ctx context.Context, id string, question json.RawMessage) (HookAnswer, error)
	// Failed reports why a question or an answer had no effect.
	Failed(ctx context.Context, err error)
}

// HookAnswer is a hook's decision. All of it applies within the organization for which the hook was
// asked.
type HookAnswer struct {
	Groups []string          // to join, only after [HookConnect]
	Send   []json.RawMessage // frames to send, which must not be control frames
	Task   *Work             // to dispatch; its payload is an object
	Close  error             // the cause to end the connection with, or nil
}

// HookQuestion is a question to a hook, as JSON.
type HookQuestion struct {
	Event          string                     `json:"event"`
	OrganizationID orgctx.ID                  `json:"organization_id"`
	UserID         string                     `json:"user_id"`
	Role           string                     `json:"role"`
	ConnectionID   string                     `json:"connection_id"`
	Path           string                     `json:"path"`
	Params         map[string]json.RawMessage `json:"params"`
	Query          url.Values                 `json:"query"`
	Message        json.RawMessage            `json:"message"` // null unless the event is "receive"
}

// HookEnded is the payload of a [HookTask].
type HookEnded struct {
	Route    string          `json:"route"` // the pattern
	Question json.RawMessage `json:"question"`
}

func (d *declaredConn) asks(what string) bool { return d.Hook != nil && d.Hook.Asks(what) }

// question makes a question to the hook.
func (d *declaredConn) question(c Conn, what string, message json.RawMessage) (json.RawMessage, error) {
	who, vars := c.Identity(), d.vars(c, nil)
	q := HookQuestion{
		Event: what, OrganizationID: who.Organization, UserID: who.UserID, Role: who.Role, ConnectionID: c.ID(),
		Path: d.path(c), Params: make(map[string]json.RawMessage), Query: c.Query(), Message: message,
	}
	for _, p := range d.Params {
		q.Params[p.Name] = vars.get(p.Name)
	}
	if q.Query == nil {
		q.Query = url.Values{}
	}
	b, err := event.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", event.ErrBadFields, err)
	}
	return b, nil
}

// path returns the path of the connection.
func (d *declared) path(c Conn) string {
	path := d.Pattern
	for _, p := range d.Params {
		form := p.Name
		if p.Form != "" {
			form += ":" + p.Form
		}
		path = strings.Replace(path, "{"+form+"}", url.PathEscape(c.Param(p.Name)), 1)
	}
	return path
}

// ask asks the hook. It ignores an answer that comes after the connection has ended.
func (d *declaredConn) ask(ctx context.Context, c Conn, what string, message json.RawMessage) (HookAnswer, error) {
	q, err := d.question(c, what, message)
	if err != nil {
		return HookAnswer{}, err
	}
	answer, err := d.Hook.Ask(ctx, what+"_"+rand.Text(), q)
	switch {
	case ctx.Err() != nil:
		return HookAnswer{}, context.Cause(ctx)
	case err != nil && !errors.Is(err, ErrForbidden) && !errors.Is(err, ErrNotFound):
		return HookAnswer{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for _, name := range answer.groups() {
		if OwnedGroupName(name) && !event.IsUserGroupName(name, c.Identity().UserID) {
			err := fmt.Errorf("%w: the hook names a group of another user or connection", ErrUnavailable)
			d.Hook.Failed(ctx, err)
			return HookAnswer{}, err
		}
	}
	return answer, err
}

// groups returns all groups that the answer names.
func (a *HookAnswer) groups() []string {
	if a.Task == nil || a.Task.Group == "" {
		return a.Groups
	}
	return append(slices.Clip(a.Groups), a.Task.Group)
}

// apply carries out the decision of a hook.
func (d *declaredConn) apply(ctx context.Context, c Conn, a HookAnswer) error {
	for _, frame := range a.Send {
		if err := c.Send(frame); err != nil {
			return err
		}
	}
	if a.Task != nil {
		work := *a.Task
		work.User = c.Identity().UserID
		if work.Group == "" && len(d.groups) > 0 {
			work.Group = d.groups[0]
		}
		payload, _ := work.Payload.(json.RawMessage) // hooks return this type
		stamped, err := stamp(payload, c.Identity().Role)
		if err != nil {
			return err
		}
		work.Payload = stamped
		ctx, cancel := promptly(ctx)
		defer cancel()
		if _, err := d.services.Dispatcher.Dispatch(ctx, work); err != nil {
			return err
		}
	}
	return a.Close
}

// stamp adds the role to the payload of a task.
func stamp(payload json.RawMessage, role string) (json.RawMessage, error) {
	f := make(fields)
	if len(payload) > 0 && json.Unmarshal(payload, &f) != nil {
		return nil, event.ErrBadFields
	}
	f[roleField] = rawText(role)
	return f.object(""), nil
}

// receiveByHook leaves a message to the hook.
func (d *declaredConn) receiveByHook(ctx context.Context, c Conn, m event.Message) error {
	_, id, err := receivedFields(m)
	if err != nil {
		return err
	}
	var message json.RawMessage
	if err := m.Decode(&message); err != nil {
		return err
	}
	answer, err := d.ask(ctx, c, HookReceive, message)
	if errors.Is(err, ErrUnavailable) {
		return refused(c, err, id)
	}
	if err != nil {
		return err
	}
	switch err = d.apply(ctx, c, answer); {
	case err == nil, errors.Is(err, ErrDone), errors.Is(err, ErrForbidden), errors.Is(err, ErrNotFound):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return refused(c, err, id)
}

// tellEnd dispatches the task that tells the hook about the end of the connection.
func (d *declaredConn) tellEnd(ctx context.Context, c Conn) error {
	q, err := d.question(c, HookDisconnect, nil)
	if err != nil {
		return err
	}
	id := rand.Text()
	_, err = d.services.Dispatcher.Dispatch(ctx, Work{
		// Without a user: if the user has been removed meanwhile, the task would be refused.
		Kind: HookTask, ID: id, Group: replyGroup(id, ""),
		Payload: HookEnded{Route: d.Pattern, Question: q},
	})
	return err
}
