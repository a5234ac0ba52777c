package consumer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"orgcast/internal/event"
)

// Declaration is a route that needs no code. Package routefile reads it from a file and checks it.
// It applies within the organization of each connection and cannot name one. It is read-only.
type Declaration struct {
	Pattern string
	Params  []Param // of the pattern
	Who     Who
	Groups  []Template // names of groups; First shows the first one
	First   First
	// Events are the types of events that pass, each with the fields that pass. Nil lets every
	// event pass unchanged.
	Events map[string][]string
	// Presence is what connections see of who else is in the first group.
	Presence Showing
	// Receive is the reaction to messages, by type.
	Receive map[string]Reaction
	// Hook makes further decisions, unless it is nil.
	Hook Hook
}

// Who says which members may connect. The zero Who allows every member.
type Who struct {
	Role  string // members with this role
	Self  string // only the user whose id is this path parameter
	Owner string // only the first user who came with this path parameter
}

// First is the first state of a connection. A message may request it again.
type First struct {
	// Newest is how many of the newest events are sent, oldest first. 0 means none.
	Newest int
	// Fold, unless it is empty, is the type of one frame with the fields of all recorded events.
	// Each field has the value that was recorded last.
	Fold string
	// Empty has the fields of that frame if nothing was recorded. If it is nil, no frame is sent in
	// that case.
	Empty []Member
}

// joins reports whether sending the first state joins the first group.
func (f First) joins() bool { return f.Fold != "" || f.Newest > 0 }

// Reaction is the reaction to a message. One of its fields is set.
type Reaction struct {
	// First sends the first state again.
	First bool
	// Answer is the input_key of the question that the message's "input" answers.
	Answer Template
	// Task is the work that the message requests.
	Task *TaskReaction
}

// TaskReaction is work that a message requests. The user and the organization are those of the
// connection. The role is added to the payload.
type TaskReaction struct {
	Kind    string
	Payload []Member
	// Key names the request, for [Requests]. If it is empty, or uses a field that the message does
	// not have, the request has no name.
	Key Template
	// Reply, unless it is empty, is the type of the frame that answers this connection alone when
	// the worker ends. If it is empty, the events of the work go to the first group.
	Reply string
}

// DeclaredServices are the services that declared routes need.
type DeclaredServices struct {
	Dispatcher Dispatcher
	Inputs     Inputs
	Owners     Owners
	Requests   Requests
}

// Route returns the declared route. Its connections keep this declaration even if it is replaced.
func (d *Declaration) Route(s DeclaredServices) Route {
	shared := &declared{Declaration: d, services: s}
	watches := d.Events != nil
	for _, r := range d.Receive {
		watches = watches || r.Task != nil && r.Task.Reply != ""
	}
	return Route{Pattern: d.Pattern, Explain: true, New: func() OrganizationAwareConsumer {
		c := &declaredConn{declared: shared}
		if watches {
			return JSON(watchingConn{c})
		}
		return JSON(c)
	}}
}

// declared is shared by all connections of a declaration.
type declared struct {
	*Declaration

	services DeclaredServices
	// last is the frame made last. Most connections of a group show the same event next.
	last atomic.Pointer[shownEvent]
}

type shownEvent struct {
	event *event.Event
	frame json.RawMessage
}

// declaredConn is one connection of a declared route.
type declaredConn struct {
	*declared

	groups  []string // set by Connect
	awaited awaited
}

// watchingConn is a declaredConn that sees events before the browser does. Without it, events cost
// less.
type watchingConn struct{ *declaredConn }

var (
	_ MessageHandler = (*declaredConn)(nil)
	_ EventHandler   = watchingConn{}
)

// vars returns the values of the path and, unless it is nil, of the message.
func (d *declaredConn) vars(c Conn, message fields) variables {
	return variables{conn: c, params: d.Params, message: message}
}

// Connect admits the user, joins the groups and sends the first state.
func (d *declaredConn) Connect(ctx context.Context, c Conn) error {
	for _, t := range d.Groups {
		name, err := t.text(d.vars(c, nil))
		if err != nil || !d.mayJoin(t, c, name) {
			return ErrNotFound
		}
		d.groups = append(d.groups, name)
	}
	if err := d.admit(ctx, c); err != nil {
		return err
	}
	if !d.asks(HookConnect) {
		return d.joinAll(ctx, c)
	}
	answer, err := d.ask(ctx, c, HookConnect, nil)
	if err != nil {
		return err
	}
	for _, name := range answer.Groups {
		if !slices.Contains(d.groups, name) {
			d.groups = append(d.groups, name)
		}
	}
	if err = d.joinAll(ctx, c); err == nil {
		err = d.apply(ctx, c, answer)
	}
	if err != nil {
		d.Disconnect(ctx, c, err) // the gateway calls it only if Connect returns nil
	}
	return err
}

// mayJoin reports whether a template may name a group. A group of answers to another connection is
// not allowed, and a user group only if it is this user's.
func (d *declaredConn) mayJoin(t Template, c Conn, name string) bool {
	if slices.Contains(t.Variables(), userGroupVariable) {
		return event.IsUserGroupName(name, c.Identity().UserID)
	}
	return !OwnedGroupName(name)
}

// OwnedGroupName reports whether a name is reserved for groups of one user or one connection.
func OwnedGroupName(name string) bool {
	return strings.HasPrefix(name, replyPrefix) || strings.HasPrefix(name, "user.")
}

// joinAll joins the groups and sends the first state.
func (d *declaredConn) joinAll(ctx context.Context, c Conn) error {
	if err := d.first(ctx, c); err != nil {
		return err
	}
	for i, name := range d.groups {
		if i == 0 && d.First.joins() {
			continue
		}
		if err := c.Join(ctx, name); err != nil {
			return err
		}
	}
	if d.Presence == ShowNobody || len(d.groups) == 0 {
		return nil
	}
	return attend(c, d.groups[0], d.Presence, mayWatch(c, d.Presence))
}

// shows returns what the connection sees of who is in a group.
func (d *declaredConn) shows(group string) Showing {
	if len(d.groups) == 0 || group != d.groups[0] {
		return ShowNobody
	}
	return d.Presence
}

// admit returns an error if the user may not connect. Another user's object looks as if it did not
// exist.
func (d *declaredConn) admit(ctx context.Context, c Conn) error {
	who := c.Identity()
	switch {
	case d.Who.Role != "" && who.Role != d.Who.Role:
		return ErrForbidden
	case d.Who.Self != "" && c.Param(d.Who.Self) != who.UserID:
		return ErrNotFound
	case d.Who.Owner != "":
		owner, err := d.services.Owners.Claim(ctx, ownedKind, ownedID(d.groups[0]), who.UserID)
		if err == nil && !owner {
			err = ErrNotFound
		}
		return err
	}
	return nil
}

// ownedKind is the kind of object under which the group of a declared route is owned.
const ownedKind = "declared_group"

// ownedID returns the object id of a group. The group itself is owned, so all paths that lead to it
// have the same owner, even paths declared later.
func ownedID(group string) string {
	sum := sha256.Sum256([]byte(group))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// ReceiveMessage does what is declared for the type, or leaves the message to the hook.
func (d *declaredConn) ReceiveMessage(ctx context.Context, c Conn, m event.Message) error {
	r, ok := d.Receive[m.Type]
	switch {
	case m.Type == presenceSetType && d.Presence != ShowNobody:
		return setPresence(c, m, d.shows)
	case !ok && d.asks(HookReceive):
		return d.receiveByHook(ctx, c, m)
	case !ok:
		return ErrUnknownType
	case r.First:
		return d.first(ctx, c)
	case r.Task != nil:
		return d.dispatch(ctx, c, m, r.Task)
	}
	return d.answer(ctx, c, m, r.Answer)
}

// Disconnect tells the hook through a task, which survives the end of this process.
func (d *declaredConn) Disconnect(ctx context.Context, c Conn, _ error) {
	if d.asks(HookDisconnect) {
		if err := d.tellEnd(ctx, c); err != nil {
			d.Hook.Failed(ctx, fmt.Errorf("dispatch the end of a connection: %w", err))
		}
	}
}

// first sends the first state, if there is one, and joins its group.
func (d *declaredConn) first(ctx context.Context, c Conn) error {
	switch {
	case len(d.groups) == 0:
		return nil
	case d.First.Fold != "":
		return c.JoinWithHistory(ctx, d.groups[0], historyLength, func(history []*event.Event) error {
			frame, err := d.fold(d.vars(c, nil), history)
			if err != nil || frame == nil {
				return err
			}
			return c.Send(frame)
		})
	case d.First.Newest > 0:
		return c.JoinWithHistory(ctx, d.groups[0], historyLength, func(history []*event.Event) error {
			for _, frame := range d.newest(history) {
				if err := c.Send(frame); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return nil
}

// fold makes one frame from a history. It returns nil if there is none.
func (d *declared) fold(vars variables, history []*event.Event) (json.RawMessage, error) {
	all := newSum(nil)
	for _, e := range history {
		if f, ok := d.fieldsOf(e); ok {
			all.add(f)
		}
	}
	switch {
	case all.events > 0:
		return all.object(d.First.Fold), nil
	case d.First.Empty != nil:
		var b bytes.Buffer
		typ := Member{"type", RawValue(rawText(d.First.Fold))}
		err := ObjectValue(append([]Member{typ}, d.First.Empty...)).fill(&b, vars)
		return b.Bytes(), err
	}
	return nil, nil
}

// newest returns the newest events of a history that pass, or frames with their listed fields, as
// many as fit.
func (d *declared) newest(history []*event.Event) (frames []any) {
	size := 0
	for _, e := range slices.Backward(history) {
		var frame any = e
		length := len(e.Payload())
		if d.Events != nil {
			shown, ok := d.show(e)
			if !ok {
				continue
			}
			frame, length = shown, len(shown)
		}
		if size += length; size > stateBytes || len(frames) == d.First.Newest {
			break
		}
		frames = append(frames, frame)
	}
	slices.Reverse(frames)
	return frames
}

// fieldsOf returns the fields of an event that pass. ok is false if the event does not pass.
func (d *declared) fieldsOf(e *event.Event) (f fields, ok bool) {
	listed, ok := d.Events[e.Type()]
	if !ok && d.Events != nil {
		return nil, false
	}
	f, ok = read(e, nil)
	if !ok || d.Events == nil {
		return f, ok
	}
	passing := make(fields, len(listed))
	for _, name := range listed {
		if value, ok := f[name]; ok {
			passing[name] = value
		}
	}
	return passing, true
}

// show makes the frame of an event whose fields are listed. ok is false if the event does not pass.
func (d *declared) show(e *event.Event) (frame json.RawMessage, ok bool) {
	if last := d.last.Load(); last != nil && last.event == e {
		return last.frame, true
	}
	f, ok := d.fieldsOf(e)
	if !ok {
		return nil, false
	}
	frame = f.listed(e.Type(), d.Events[e.Type()])
	d.last.Store(&shownEvent{e, frame})
	return frame, true
}

// HandleEvent sends listed events with their listed fields, and answers of workers.
func (w watchingConn) HandleEvent(_ context.Context, c Conn, e *event.Event) (forward bool) {
	if strings.HasPrefix(e.Group().Name(), replyPrefix) {
		w.reply(c, e)
		return false
	}
	if w.Events == nil {
		return true
	}
	if frame, ok := w.show(e); ok {
		if err := c.Send(frame); err != nil {
			c.End(err)
		}
	}
	return false
}
