package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"orgcast/internal/orgctx"
	"orgcast/internal/task"
)

// scripted is the prefix of everything that a script says, so that no one mistakes it for an AI.
const scripted = "(scripted) "

// turn is a message in a conversation.
type turn struct {
	SessionID string          `json:"session_id"`
	Message   string          `json:"message"`
	AgentID   json.RawMessage `json:"agent_id"` // an id as it was sent, or null
	Model     string          `json:"model"`
	ClientID  json.RawMessage `json:"client_id"` // an id as it was sent, or null
	MessageID string          `json:"message_id"`
	RequestID string          `json:"request_id"`
}

// chat plays the agent's part of one turn. It looks the message up in the documents, with a tool
// that really runs, and quotes the best passage.
func (j *jobs) chat(ctx context.Context, job *task.Job) (any, error) {
	p, err := payload[turn](job)
	if err != nil {
		return nil, err
	}
	say := func(kind string, more frame) error {
		if err := j.pause(ctx); err != nil {
			return err
		}
		f := frame{"type": kind, "agent_id": p.AgentID, "client_id": p.ClientID, "request_id": p.RequestID}
		maps.Copy(f, more)
		return job.Progress(ctx, f)
	}
	if err := say("agent_message", frame{"message": scripted + "I will look that up in the documents."}); err != nil {
		return nil, err
	}
	input, err := json.Marshal(map[string]string{"query": clip(p.Message, maxQuery)})
	if err != nil {
		return nil, err
	}
	if err := say("tool_start", frame{"content": frame{"tool": toolSearch, "input": json.RawMessage(input)}}); err != nil {
		return nil, err
	}
	hits, err := lookUp(ctx, input)
	if err != nil {
		return nil, err
	}
	if err := say("tool_result", frame{"content": frame{"tool": toolSearch, "result": hits}}); err != nil {
		return nil, err
	}
	answer := scripted + "The documents say nothing about that."
	if len(hits) > 0 {
		answer = fmt.Sprintf("%sFrom %s, “%s”: %s", scripted, hits[0].Document, hits[0].Section, hits[0].Excerpt)
	}
	return frame{
		"type": "agent_finish", "message": answer, "agent_id": p.AgentID, "model": "script", "client_id": p.ClientID, "request_id": p.RequestID,
	}, j.pause(ctx)
}

// lookUp calls the tool as any agent would, for the organization of ctx.
func lookUp(ctx context.Context, input json.RawMessage) ([]hit, error) {
	output, err := task.RunTool(ctx, toolSearch, input)
	if err != nil {
		return nil, err
	}
	hits := []hit{}
	return hits, json.Unmarshal(output, &hits)
}

// chatEdit acknowledges a cut conversation. The script has no memory to cut.
func (j *jobs) chatEdit(ctx context.Context, job *task.Job) (any, error) {
	p, err := payload[turn](job)
	if err != nil {
		return nil, err
	}
	if !orgctx.ValidID(p.MessageID) {
		return nil, task.Fail(codeBadPayload)
	}
	return frame{
		"type": "agent_finish", "message_id": p.MessageID, "model": "script", "request_id": p.RequestID,
		"message": scripted + "That message and everything after it are removed.",
	}, j.pause(ctx)
}

func chatFailed(job *task.Job, code string) any {
	p, _ := payload[turn](job) // empty if it cannot be parsed
	return frame{"type": "error", "code": code, "message": explain(code), "client_id": p.ClientID, "message_id": p.MessageID, "request_id": p.RequestID}
}
