package consumer

import (
	"context"
	"strconv"
	"strings"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// InputKey returns the input_key that a worker sends with a request for input: the execution and
// the index of the step in it. The key is parsed when it comes back and grants nothing by itself. A
// browser that makes one up reaches only questions of its own organization.
func InputKey(execution string, taskIndex int) string {
	return execution + ":" + strconv.Itoa(taskIndex)
}

// ParseInputKey parses the result of [InputKey], and no other spelling.
func ParseInputKey(key string) (execution string, taskIndex int, ok bool) {
	execution, digits, _ := strings.Cut(key, ":")
	taskIndex, err := strconv.Atoi(digits)
	ok = err == nil && taskIndex >= 0 && orgctx.ValidID(execution) && InputKey(execution, taskIndex) == key
	if !ok {
		return "", 0, false
	}
	return execution, taskIndex, true
}

// question names the question that a message answers, by its input_key, or by the execution and the
// index of the step.
type question struct {
	InputKey    string `json:"input_key"`
	ExecutionID ident  `json:"execution_id"`
	TaskIndex   *int   `json:"task_index"`
}

// names returns the execution and the index. An input_key of any other form counts as that of a
// closed question.
func (q question) names() (execution string, taskIndex int, err error) {
	if q.InputKey != "" {
		execution, taskIndex, ok := ParseInputKey(q.InputKey)
		if !ok {
			return "", 0, ErrInputClosed
		}
		return execution, taskIndex, nil
	}
	if q.ExecutionID == "" || q.TaskIndex == nil {
		return "", 0, event.ErrBadFields
	}
	return string(q.ExecutionID), *q.TaskIndex, nil
}

// inputFrame is the message human_input.
type inputFrame struct {
	question

	Input     string    `json:"input"`
	RequestID requestID `json:"request_id"`
}

// acceptedFrame confirms an answer to the user who gave it.
type acceptedFrame struct {
	Type        string    `json:"type"` // "human_input_accepted"
	ExecutionID string    `json:"execution_id"`
	TaskIndex   int       `json:"task_index"`
	RequestID   requestID `json:"request_id,omitempty"`
}

// answers accepts people's answers to questions. If only is not empty, it accepts answers for that
// execution alone.
type answers struct {
	inputs   Inputs
	requests Requests
	only     string
}

// receive handles the message human_input.
func (a answers) receive(ctx context.Context, c Conn, m event.Message) error {
	var in inputFrame
	if err := m.Decode(&in); err != nil {
		return err
	}
	if in.ExecutionID == "" {
		in.ExecutionID = ident(a.only)
	}
	given, err := in.answered(a.only, in.Input)
	if err != nil {
		return refused(c, err, in.RequestID)
	}
	return a.give(ctx, c, m.Type, given, in.RequestID)
}

// give passes an answer on and confirms it.
func (a answers) give(ctx context.Context, c Conn, typ string, given Answer, id requestID) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := promptly(ctx)
	defer cancel()
	_, err := once(ctx, a.requests, id, []any{typ, given}, func(q Request) error {
		given.Key = q.Work
		return a.inputs.Answer(ctx, given)
	})
	if err != nil {
		return refused(c, err, id)
	}
	return c.Send(accepted(given, id))
}

// accepted returns the confirmation of an answer.
func accepted(given Answer, id requestID) acceptedFrame {
	return acceptedFrame{Type: "human_input_accepted", ExecutionID: given.Execution, TaskIndex: given.TaskIndex, RequestID: id}
}

// answered returns the answer to the question.
func (q question) answered(only, text string) (Answer, error) {
	execution, taskIndex, err := q.names()
	switch {
	case err != nil:
		return Answer{}, err
	case !validText(text):
		return Answer{}, event.ErrBadFields
	case only != "" && execution != only:
		return Answer{}, ErrInputClosed
	}
	return Answer{Execution: execution, TaskIndex: taskIndex, Input: text}, nil
}
