package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/task"
)

// Statuses of a crew, as in the original application.
const (
	crewRunning   = "RUNNING"
	crewWaiting   = "WAITING_FOR_HUMAN_INPUT"
	crewCompleted = "COMPLETED"
	crewFailure   = "FAILED"
)

// askLife is how long a crew waits for a person. It is shorter than a task may take.
const askLife = 10 * time.Minute

// execution is one run of a crew.
type execution struct {
	CrewID      string          `json:"crew_id"`
	ExecutionID string          `json:"execution_id"`
	SessionID   string          `json:"session_id"`
	ClientID    json.RawMessage `json:"client_id"` // an id as it was sent, or null
	RequestID   string          `json:"request_id"`
}

// board and chat return the groups of the board and the chat of an execution.
func (e *execution) board() string { return "crew_" + e.CrewID + "_kanban" }
func (e *execution) chat() string  { return "chat_" + e.SessionID }

// check fails the job unless its groups are valid.
func (e *execution) check() error {
	if e.SessionID == "" {
		return identifiers(e.CrewID, e.ExecutionID)
	}
	return identifiers(e.CrewID, e.ExecutionID, e.SessionID)
}

// play is an execution in progress.
type play struct {
	execution

	jobs     *jobs
	job      *task.Job
	began    time.Time
	messages int // number of messages so far
}

// crew plays a script of three agents: one looks something up, one asks a person for the topic, and
// one writes it down.
func (j *jobs) crew(ctx context.Context, job *task.Job) (any, error) {
	e, err := payload[execution](job)
	if err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	p := &play{jobs: j, execution: e, job: job, began: time.Now()}
	results, err := p.run(ctx)
	if err != nil {
		return nil, err
	}
	last, message := len(script())-1, scripted+"The crew has finished."
	end := task.End{Event: p.told(crewCompleted, last, nil, "Crew", message)}
	end.Also = append(end.Also, task.Notice{Group: e.board(), Event: frame{
		"type": "task_complete", "execution_id": e.ExecutionID, "crew_id": e.CrewID, "message": message, "results": results,
	}})
	if e.SessionID != "" {
		end.Also = append(end.Also, task.Notice{Group: e.chat(), Event: frame{
			"type": "crew_message", "execution_id": e.ExecutionID, "agent": "Crew", "client_id": e.ClientID, "request_id": e.RequestID, "message": results[last]["output"],
		}}, task.Notice{Group: e.chat(), Event: e.update(crewCompleted, last, nil, message)})
	}
	return end, nil
}

// part is the role of one agent in the script.
type part struct{ agent, title string }

// script returns the parts in their order.
func script() []part {
	return []part{
		{"Researcher", "Look up what the documents promise"},
		{"Editor", "Ask a person what to write about"},
		{"Writer", "Write it down"},
	}
}

// run plays the parts and returns their results.
func (p *play) run(ctx context.Context) (results []frame, err error) {
	subject := ""
	for index, part := range script() {
		if err := p.tell(ctx, crewRunning, index, nil, part.agent, scripted+"Begins: "+part.title+"."); err != nil {
			return nil, err
		}
		if err := p.jobs.pause(ctx); err != nil {
			return nil, err
		}
		var output string
		switch index {
		case 0:
			hits, err := lookUp(ctx, json.RawMessage(`{"query":"promises organization isolation"}`))
			if err != nil {
				return nil, err
			}
			output = fmt.Sprintf("Found %d passages.", len(hits))
		case 1:
			if subject, err = p.ask(ctx, index); err != nil {
				return nil, err
			}
			output = "Someone answered: " + clip(subject, 200)
		default:
			hits, err := lookUp(ctx, mustJSON(map[string]string{"query": clip(subject, maxQuery)}))
			if err != nil {
				return nil, err
			}
			output = "The documents say nothing about “" + clip(subject, 100) + "”."
			if len(hits) > 0 {
				output = fmt.Sprintf("On “%s”, %s says: %s", clip(subject, 100), hits[0].Document, hits[0].Excerpt)
			}
		}
		err := p.job.Publish(ctx, p.board(), frame{
			"type": "agent_step", "execution_id": p.ExecutionID, "crew_id": p.CrewID, "task_index": index,
			"agent": part.agent, "content": scripted + output,
		})
		if err != nil {
			return nil, err
		}
		if err := p.tell(ctx, crewRunning, index, nil, part.agent, scripted+output); err != nil {
			return nil, err
		}
		if err := p.jobs.pause(ctx); err != nil {
			return nil, err
		}
		results = append(results, frame{"task_index": index, "agent": part.agent, "title": part.title, "output": scripted + output})
	}
	return results, nil
}

// ask asks a person of the organization, and waits.
func (p *play) ask(ctx context.Context, index int) (string, error) {
	request := frame{
		"execution_id": p.ExecutionID, "task_index": index, "input_key": consumer.InputKey(p.ExecutionID, index),
		"prompt": "What should the crew write about?", "context": scripted + "The answer is looked up in the documents, for example: sessions.",
	}
	if _, err := p.jobs.Asks.Open(ctx, p.ExecutionID, index, mustJSON(request), askLife); err != nil {
		return "", err
	}
	question := frame{"type": "human_input_request", "crew_id": p.CrewID}
	maps.Copy(question, request)
	if err := p.job.Publish(ctx, p.board(), question); err != nil {
		return "", err
	}
	if err := p.tell(ctx, crewWaiting, index, request, script()[index].agent, scripted+"What should we write about?"); err != nil {
		return "", err
	}
	answer, err := p.jobs.Asks.Wait(ctx, p.ExecutionID, index)
	if errors.Is(err, task.ErrAskNotFound) {
		return "", task.Fail(codeNoInput)
	}
	return answer, err
}

// tell sends the same to all groups that follow the execution.
func (p *play) tell(ctx context.Context, status string, index int, request frame, agent, message string) error {
	if err := p.job.Progress(ctx, p.told(status, index, request, agent, message)); err != nil {
		return err
	}
	if err := p.tellOthers(ctx, status, index, request, message); err != nil || p.SessionID == "" {
		return err
	}
	said := frame{"type": "crew_message", "execution_id": p.ExecutionID, "task_index": index, "agent": agent, "message": message}
	if request != nil {
		said["context"] = frame{
			"is_human_input": true, "execution_id": p.ExecutionID, "task_index": index,
			"input_key": request["input_key"], "prompt": request["prompt"],
		}
	}
	return p.job.Publish(ctx, p.chat(), said)
}

// tellOthers sends the state of the execution to the board and the chat.
func (p *play) tellOthers(ctx context.Context, status string, index int, request frame, message string) error {
	update := p.update(status, index, request, message)
	update["started_by"], update["started_at"] = p.job.UserID, p.began.UnixMilli()
	if err := p.job.Publish(ctx, p.board(), update); err != nil || p.SessionID == "" {
		return err
	}
	return p.job.Publish(ctx, p.chat(), update)
}

// told returns the frame for the execution's page, with its new message.
func (p *play) told(status string, index int, request frame, agent, message string) frame {
	p.messages++
	return frame{
		"type": "crew_execution_update", "execution_id": p.ExecutionID, "crew_id": p.CrewID, "status": status, "task_index": index,
		"human_input_request": orNull(request), "client_id": p.ClientID, "request_id": p.RequestID,
		"messages": []frame{{"id": p.ExecutionID + "-" + strconv.Itoa(p.messages), "agent": agent, "content": message, "task_index": index}},
	}
}

// update returns the frame for a board or a chat.
func (e *execution) update(status string, index int, request frame, message string) frame {
	part := script()[index]
	return frame{
		"type": "execution_update", "execution_id": e.ExecutionID, "crew_id": e.CrewID, "status": status, "task_index": index,
		"stage":   frame{"id": index, "title": part.title, "agent": part.agent, "status": status, "content": message, "of": len(script())},
		"message": message, "human_input_request": orNull(request), "client_id": e.ClientID, "request_id": e.RequestID,
	}
}

// orNull returns f, or nil without a type if f is nil, which encodes as null.
func orNull(f frame) any {
	if f == nil {
		return nil
	}
	return f
}

// mustJSON encodes a value that always encodes.
func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("jobs: " + err.Error()) // text and numbers only
	}
	return b
}

// crewFailed ends the execution on its own page, and on the board and the chat, where it would
// otherwise stay open. However a worker died, they get the end.
func crewFailed(job *task.Job, code string) any {
	e, _ := payload[execution](job) // empty if it cannot be parsed
	end := task.End{Event: frame{
		"type": "crew_execution_update", "execution_id": e.ExecutionID, "crew_id": e.CrewID, "status": crewFailure, "code": code,
		"messages": []frame{{"id": e.ExecutionID + "-end", "agent": "Crew", "content": explain(code)}}, "human_input_request": nil, "client_id": e.ClientID, "request_id": e.RequestID,
	}}
	if e.check() != nil {
		return end // no other group knows of it
	}
	update := e.update(crewFailure, len(script())-1, nil, explain(code))
	end.Also = append(end.Also, task.Notice{Group: e.board(), Event: update})
	if e.SessionID != "" {
		end.Also = append(end.Also, task.Notice{Group: e.chat(), Event: update})
	}
	return end
}
