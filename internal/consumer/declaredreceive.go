package consumer

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"sync"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// roleField is the field of a task's payload with the role of the user who requested it. The task
// itself has the organization and the user.
const roleField = "role"

// ReservedNames are names that templates, payloads and answers of hooks must not use, because only
// the gateway sets them.
func ReservedNames() []string { return []string{"organization_id", "user_id", roleField} }

// receivedFields returns the fields of a message, and the request id if it has one.
func receivedFields(m event.Message) (f fields, id requestID, err error) {
	if err := m.Decode(&f); err != nil {
		return nil, "", err
	}
	if value := f["request_id"]; len(value) > 0 {
		if err := id.UnmarshalJSON(value); err != nil {
			return nil, "", event.ErrBadFields
		}
	}
	return f, id, nil
}

// taskAccepted tells a page that its work was dispatched. The events of the work go to the group.
type taskAccepted struct {
	Type      string    `json:"type"` // "task_accepted"
	TaskID    string    `json:"task_id"`
	RequestID requestID `json:"request_id,omitempty"`
}

// dispatch dispatches the work that a message requests.
func (d *declaredConn) dispatch(ctx context.Context, c Conn, m event.Message, t *TaskReaction) error {
	f, id, err := receivedFields(m)
	if err != nil {
		return err
	}
	vars := d.vars(c, f)
	key, err := t.key(vars)
	if err != nil {
		return err
	}
	payload, err := t.payload(vars)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := promptly(ctx)
	defer cancel()
	work := Work{Kind: t.Kind, User: c.Identity().UserID, Payload: payload}
	request, err := once(ctx, d.services.Requests, key, []any{m.Type, d.groups, payload}, func(q Request) error {
		work.ID = q.Work
		if work.Group, err = d.replies(ctx, c, q, t, id); err != nil {
			return err
		}
		_, err := d.services.Dispatcher.Dispatch(ctx, work)
		return err
	})
	if err == nil && request.Done { // the answer has come or will come
		_, err = d.replies(ctx, c, request, t, id)
	}
	switch {
	case err != nil:
		d.awaited.forget(work.Group)
		return refused(c, err, id)
	case t.Reply == "":
		return c.Send(taskAccepted{Type: "task_accepted", TaskID: request.Work, RequestID: id})
	}
	return nil
}

// replies returns the group for the events of a request's work. It is the first group, or a group
// that no other connection knows, which replies joins.
func (d *declaredConn) replies(ctx context.Context, c Conn, q Request, t *TaskReaction, id requestID) (group string, err error) {
	if t.Reply == "" {
		return d.groups[0], nil
	}
	group = replyGroup(q.Work, id)
	d.awaited.add(group, t.Reply)
	if err := awaitReply(ctx, c, group, t.Reply); err != nil {
		d.awaited.forget(group)
		return "", err
	}
	return group, nil
}

// awaited holds the groups in which workers answer a connection, each with the type of the frame
// that the answer becomes.
type awaited struct {
	mu    sync.Mutex
	types map[string]string // guarded by mu
}

func (a *awaited) add(group, typ string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.types == nil {
		a.types = make(map[string]string)
	}
	a.types[group] = typ
}

func (a *awaited) forget(group string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.types, group)
}

func (a *awaited) typeOf(group string) (typ string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	typ, ok = a.types[group]
	return typ, ok
}

// key returns the name of the message's request, empty if it has none.
func (t *TaskReaction) key(vars variables) (requestID, error) {
	for _, name := range t.Key.Variables() {
		if isNull(vars.get(name)) {
			return "", nil
		}
	}
	text, err := t.Key.text(vars)
	if err != nil || text != "" && !orgctx.ValidID(text) {
		return "", event.ErrBadFields
	}
	return requestID(text), nil
}

// payload returns the payload of the task.
func (t *TaskReaction) payload(vars variables) (json.RawMessage, error) {
	role := RawValue(rawText(vars.conn.Identity().Role))
	var b bytes.Buffer
	if err := ObjectValue(append(slices.Clip(t.Payload), Member{roleField, role})).fill(&b, vars); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// reply sends a worker's answer to this connection, once.
func (d *declaredConn) reply(c Conn, e *event.Event) {
	group := e.Group().Name()
	typ, ok := d.awaited.typeOf(group)
	if !ok {
		return
	}
	if answer, ok := replyOf(e, typ); ok {
		if err := c.Send(answer); err != nil {
			c.End(err)
		}
		c.Leave(group)
		d.awaited.forget(group)
	}
}

// answer passes on the answer to an open question.
func (d *declaredConn) answer(ctx context.Context, c Conn, m event.Message, key Template) error {
	f, id, err := receivedFields(m)
	if err != nil {
		return err
	}
	inputKey, err := key.text(d.vars(c, f))
	if err != nil {
		return err
	}
	var in struct {
		Input string `json:"input"`
	}
	if err := m.Decode(&in); err != nil {
		return err
	}
	given, err := question{InputKey: inputKey}.answered("", in.Input)
	if err != nil {
		return refused(c, err, id)
	}
	return answers{inputs: d.services.Inputs, requests: d.services.Requests}.give(ctx, c, m.Type, given, id)
}
