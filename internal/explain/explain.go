// Package explain puts into words what nodes remember of an organization's events: which
// connections got them, and why others did not. Package trail remembers it.
package explain

import (
	"cmp"
	"slices"
	"time"

	"orgcast/internal/trail"
)

// Node is what one node said, or why it said nothing.
type Node struct {
	Name string `json:"node"`
	// Answer is what the node remembers, nil if it did not answer.
	Answer *trail.Answer `json:"answer,omitempty"`
	// State is why it did not answer: silent if it was killed, hangs or is cut off, failed if it is of
	// a version that does not understand the question.
	State string `json:"state"`
	// Started is when the node started.
	Started time.Time `json:"started_at,omitzero"`
}

// History is what the history of the group says about an event.
type History string

// What a history may say.
const (
	// NotAsked: the question names no position or no group. Unread: the history did not answer.
	NotAsked History = ""
	Unread   History = "unread"
	Recorded History = "recorded"
	Missing  History = "missing"
)

// Explanation answers a question.
type Explanation struct {
	OrganizationID string    `json:"organization_id"`
	Group          string    `json:"group,omitempty"`
	UserID         string    `json:"user_id,omitempty"`
	Position       string    `json:"position,omitempty"`
	Since          time.Time `json:"since,omitzero"`
	// History is whether the history of the group has the event, if that was asked.
	History History `json:"history,omitempty"`
	// Sentences are the answer in words.
	Sentences []string `json:"sentences"`
	// Causes are all causes that occur, with the number of connections, in all nodes.
	Causes map[string]int `json:"causes"`
	Nodes  []Node         `json:"nodes"`
	// Complete says that all nodes answered.
	Complete bool `json:"complete"`
}

// Explain answers a question from what the nodes and the history said.
func Explain(q trail.Query, h History, nodes []Node) Explanation {
	e := Explanation{
		OrganizationID: q.Organization.String(), Group: q.Group, UserID: q.User, Since: q.Since, History: h,
		Causes: make(map[string]int), Nodes: slices.Clone(nodes),
	}
	slices.SortFunc(e.Nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	if !q.Position.IsZero() {
		e.Position = q.Position.String()
	}
	for _, n := range e.Nodes {
		if n.Answer == nil {
			continue
		}
		for cause, count := range n.Answer.Counts {
			e.Causes[cause] += count
		}
	}
	w := &words{q: q, e: &e}
	if q.Position.IsZero() {
		w.window()
	} else {
		w.event()
	}
	w.limits()
	return e
}
