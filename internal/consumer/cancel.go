package consumer

import (
	"context"
	"encoding/json"
	"strings"

	"orgcast/internal/event"
)

// workReply tells a page the outcome of work that it requested for itself alone.
type workReply struct {
	Type      string    `json:"type"`
	Success   bool      `json:"success"`
	Message   string    `json:"message"`
	Code      string    `json:"code,omitempty"`
	RequestID requestID `json:"request_id,omitempty"`
}

// typeCancelResponse is the type of the frame that answers cancel_research.
const typeCancelResponse = "cancel_response"

// replyPrefix is the prefix of groups in which workers answer one connection. A random text follows
// and, if there is a request id, a dot and that id.
const replyPrefix = "reply_"

// replyGroup returns the group in which the worker answers.
func replyGroup(work string, id requestID) string {
	if id == "" {
		return replyPrefix + work
	}
	return replyPrefix + work + "." + string(id)
}

// cancel leaves the decision to the worker, because only the worker knows whether there is
// something to cancel. The worker answers in a group that no other connection knows. Viewers of the
// research must not see the outcome of a cancellation, least of all as the end of the research.
func (r Research) cancel(ctx context.Context, c Conn, m event.Message) error {
	var in struct {
		RequestID requestID `json:"request_id"`
	}
	if err := m.Decode(&in); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := promptly(ctx)
	defer cancel()
	group := ""
	request, err := once(ctx, r.Requests, in.RequestID, []string{m.Type, c.Param("id")}, func(q Request) error {
		group = replyGroup(q.Work, in.RequestID)
		if err := awaitReply(ctx, c, group, typeCancelResponse); err != nil {
			return err
		}
		_, err := r.Dispatcher.Dispatch(ctx, Work{
			Kind: m.Type, ID: q.Work, Group: group, User: c.Identity().UserID,
			Payload: struct {
				ResearchID string    `json:"research_id"`
				RequestID  requestID `json:"request_id,omitempty"`
			}{c.Param("id"), in.RequestID},
		})
		return err
	})
	if err == nil && request.Done { // the answer has come or will come
		err = awaitReply(ctx, c, replyGroup(request.Work, in.RequestID), typeCancelResponse)
	}
	if err != nil {
		c.Leave(group)
		return refused(c, err, in.RequestID)
	}
	return nil
}

// awaitReply joins a group of answers, which become frames of type typ. It sends an answer that has
// already come.
func awaitReply(ctx context.Context, c Conn, group, typ string) error {
	const few = 10
	answered := false
	err := c.JoinWithHistory(ctx, group, few, func(history []*event.Event) error {
		for _, e := range history {
			if answer, ok := replyOf(e, typ); ok && !answered {
				answered = true
				if err := c.Send(answer); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if answered {
		c.Leave(group)
	}
	return err
}

// HandleEvent sends a worker's answer to this connection, once. All other events belong to the
// research.
func (Research) HandleEvent(_ context.Context, c Conn, e *event.Event) (forward bool) {
	if !strings.HasPrefix(e.Group().Name(), replyPrefix) {
		return true
	}
	if answer, ok := replyOf(e, typeCancelResponse); ok {
		if err := c.Send(answer); err != nil {
			c.End(err)
		}
		c.Leave(e.Group().Name())
	}
	return false
}

// replyOf makes a frame of type typ from the terminal event of work. ok is false for any other
// event.
func replyOf(e *event.Event, typ string) (answer workReply, ok bool) {
	f, _ := read(e, kinds{"message": isText, "code": isText}) // empty if they are of other kinds
	_, id, _ := strings.Cut(e.Group().Name(), ".")
	answer = workReply{Type: typ, Message: textOf(f["message"]), Code: textOf(f["code"]), RequestID: requestID(id)}
	switch e.Type() {
	case typ:
		_ = json.Unmarshal(f["success"], &answer.Success) // other values count as false
	case "task_complete":
		answer.Success = true
	case typeTaskFailed:
		answer.Message = errorText("")
	default:
		return workReply{}, false
	}
	return answer, true
}
