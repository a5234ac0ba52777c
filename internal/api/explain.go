package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"orgcast/internal/event"
	"orgcast/internal/explain"
	"orgcast/internal/nodes"
	"orgcast/internal/trail"
)

// Trails is the topic of GET /v1/explain. Package app answers it for its node.
func Trails() nodes.Topic[explain.Question, trail.Answer] {
	return nodes.Topic[explain.Question, trail.Answer]{Name: "explain"}
}

// The parameters of GET /v1/explain that no other view has.
const (
	parameterPosition = "position"
	parameterSince    = "since"
)

// explaining returns GET /v1/explain, which tells what became of events.
func explaining(n *nodes.Nodes, h Histories) view {
	return view{
		path:       "/v1/explain",
		parameters: []string{parameterOrganization, parameterUser, parameterGroup, parameterPosition, parameterSince},
		refusals: []problem{
			{explain.ErrPosition, http.StatusBadRequest, "invalid_position", "Send position as the id that the event's envelope, or the answer to its publication, contains."},
			{explain.ErrTime, http.StatusBadRequest, "invalid_time", "Send either position, or since as a duration such as 5m or a time such as 2026-11-29T12:00:00Z."},
		},
		do: func(ctx context.Context, parameters map[string]string) (any, error) {
			q, err := explainQuestion(parameters, time.Now())
			if err != nil {
				return nil, err
			}
			return answerQuestion(ctx, n, h, q)
		},
	}
}

// explainQuestion returns the question that parameters ask.
func explainQuestion(parameters map[string]string, now time.Time) (explain.Question, error) {
	q := explain.Question{
		OrganizationID: parameters[parameterOrganization], UserID: parameters[parameterUser],
		Group: parameters[parameterGroup], Position: parameters[parameterPosition],
	}
	if text := parameters[parameterSince]; text != "" {
		if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
			q.Since = now.Add(-ago).UTC()
		} else if q.Since, err = time.Parse(time.RFC3339, strings.TrimSpace(text)); err != nil {
			return q, explain.ErrTime
		}
	}
	return q, q.Check()
}

// answerQuestion asks all nodes and the history.
func answerQuestion(ctx context.Context, n *nodes.Nodes, h Histories, q explain.Question) (explain.Explanation, error) {
	query, err := q.Query()
	if err != nil {
		return explain.Explanation{}, err
	}
	replies, err := nodes.Ask(ctx, n, Trails(), q)
	if err != nil {
		return explain.Explanation{}, err
	}
	said := make([]explain.Node, 0, len(replies.Each))
	for _, reply := range replies.Each {
		node := explain.Node{Name: reply.Node.ID, State: string(reply.State), Started: reply.Node.StartedAt}
		if reply.State == nodes.Answered {
			node.Answer = &reply.Answer
		}
		said = append(said, node)
	}
	e := explain.Explain(query, inHistory(ctx, h, query), said)
	e.Complete = replies.Complete
	return e, nil
}

// inHistory asks the history of the group, if the question names one.
func inHistory(ctx context.Context, h Histories, q trail.Query) explain.History {
	g, err := event.NewGroup(q.Organization, q.Group)
	if err != nil || q.Position.IsZero() {
		return explain.NotAsked
	}
	has, err := h.Has(ctx, g, q.Position)
	switch {
	case err != nil:
		return explain.Unread
	case has:
		return explain.Recorded
	default:
		return explain.Missing
	}
}
