package nodes

import (
	"context"
	"encoding/json"
	"fmt"
)

const (
	// MaxQuestion is the longest question with its frame, in bytes.
	MaxQuestion = 4 << 10
	// MaxAnswer is the longest answer of one node, in bytes. A topic whose answers grow must divide
	// them into pages.
	MaxAnswer = 1 << 20
)

// Question is what a topic is asked with.
type Question interface {
	// Check returns an error if no asker of this version could have made the question.
	Check() error
}

// Topic is one thing that nodes can be asked about. Both types are encoded as JSON. Answers must not
// hold payloads, cookies or keys.
type Topic[Q Question, A any] struct {
	// Name tells topics apart.
	Name string
}

// Decode parses and checks a question. It refuses fields that this version does not know.
func (t Topic[Q, A]) Decode(text []byte) (q Q, err error) {
	if err := strictly(text, &q); err != nil {
		return q, err
	}
	return q, q.Check()
}

// handler answers the questions of one topic.
type handler func(ctx context.Context, question []byte) (answer []byte, err error)

// Answer makes a node answer a topic. It is called before [Nodes.Run]. The function must be safe for
// concurrent use, bound its own work, and end with its context.
func Answer[Q Question, A any](n *Nodes, t Topic[Q, A], answer func(ctx context.Context, q Q) (A, error)) {
	n.topics[t.Name] = func(ctx context.Context, text []byte) ([]byte, error) {
		q, err := t.Decode(text)
		if err != nil {
			return nil, err
		}
		a, err := answer(ctx, q)
		if err != nil {
			return nil, err
		}
		return json.Marshal(a)
	}
}

// State says what became of a question at one node.
type State string

// The states.
const (
	// Answered: the node answered.
	Answered State = "answered"
	// Silent: the node did not answer in time. It may have been killed, hang, or not hear questions.
	Silent State = "silent"
	// Failed: the node could not answer, as one of another version that does not know the topic.
	Failed State = "failed"
)

// Reply is what one node replied.
type Reply[A any] struct {
	Node   Node
	State  State
	Answer A // zero unless Answered
}

// Replies are the replies of all registered nodes, ordered by their IDs.
type Replies[A any] struct {
	Each []Reply[A]
	// Complete says that all nodes answered. It is not set if Redis does not say which nodes there
	// are; then this node is the only one in Each.
	Complete bool
}

// Ask asks all nodes, this one included, and returns when all have answered or the time is over.
// Errors are those of the question, and [ErrBusy].
func Ask[Q Question, A any](ctx context.Context, n *Nodes, t Topic[Q, A], q Q) (Replies[A], error) {
	if err := q.Check(); err != nil {
		return Replies[A]{}, err
	}
	text, err := json.Marshal(q)
	if err != nil {
		return Replies[A]{}, fmt.Errorf("ask: %w", err)
	}
	list, answers, complete, err := n.ask(ctx, t.Name, text)
	if err != nil {
		return Replies[A]{}, err
	}
	all := Replies[A]{Complete: complete}
	for _, node := range list {
		r := Reply[A]{Node: node, State: Silent}
		if a, ok := answers[node.ID]; ok {
			r.State = Failed
			var value A
			if a.Error == "" && json.Unmarshal(a.Answer, &value) == nil {
				r.State, r.Answer = Answered, value
			}
		}
		all.Complete = all.Complete && r.State == Answered
		all.Each = append(all.Each, r)
	}
	return all, nil
}
