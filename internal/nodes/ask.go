package nodes

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/orgctx"
	"orgcast/internal/redisreply"
)

// ErrBusy is returned if too many questions of this node are under way.
var ErrBusy = errors.New("nodes: too many questions at a time")

const (
	// answersTTL is how long answers wait for an asker, which is longer than any asker waits.
	answersTTL = 30 * time.Second
	// firstPoll and lastPoll are the pauses between two looks at the answers. An asker does not
	// block a connection to Redis, because sign-ins need those.
	firstPoll, lastPoll = 5 * time.Millisecond, 50 * time.Millisecond
	// answersAtOnce bounds the answers of one look, and maxAnswers the bytes of all answers.
	answersAtOnce = 16
	maxAnswers    = 64 << 20
	// maxTopic is the longest name of a topic, in bytes.
	maxTopic = 32
)

// question is a question on its way.
type question struct {
	ID       string          `json:"id"`
	From     string          `json:"from"` // the node that asks
	Topic    string          `json:"topic"`
	Question json.RawMessage `json:"question"`
}

// answer is an answer on its way.
type answer struct {
	Node   string          `json:"node"`
	Answer json.RawMessage `json:"answer,omitempty"`
	Error  string          `json:"error,omitempty"` // a code, if there is no answer
}

// The codes of errors.
const (
	codeUnsupported = "unsupported" // the node does not know the topic, or not all of the question
	codeFailed      = "failed"
)

// decodeQuestion parses what arrived on the channel.
func decodeQuestion(text []byte) (q question, err error) {
	if len(text) > MaxQuestion {
		return question{}, errMalformed
	}
	if err := strictly(text, &q); err != nil {
		return question{}, err
	}
	if !orgctx.ValidID(q.ID) || !orgctx.ValidID(q.From) || q.Topic == "" || len(q.Topic) > maxTopic {
		return question{}, errMalformed
	}
	return q, nil
}

// ask returns the nodes, with the answers by their IDs. complete is not set if Redis does not say
// which nodes there are.
func (n *Nodes) ask(ctx context.Context, topic string, text []byte) (list []Node, answers map[string]answer, complete bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.opt.Patience)
	defer cancel()
	select {
	case n.asking <- struct{}{}:
		defer func() { <-n.asking }()
	case <-ctx.Done():
		return nil, nil, false, ErrBusy
	}
	q := question{ID: rand.Text(), From: n.self.ID, Topic: topic, Question: text}
	own := make(chan answer, 1) // this node is answered without Redis
	go func() { own <- n.answer(ctx, q) }()
	list, err = n.List(ctx)
	complete = err == nil
	answers = make(map[string]answer)
	if err != nil {
		n.log.Warn("cannot list nodes", zap.Error(err))
	} else if len(list) > 1 {
		n.collect(ctx, q, list, answers)
	}
	answers[n.self.ID] = <-own
	return list, answers, complete, nil
}

// collect asks the other nodes and fills in their answers until all have answered or ctx ends.
func (n *Nodes) collect(ctx context.Context, q question, list []Node, answers map[string]answer) {
	missing := make(map[string]bool)
	for _, node := range list {
		missing[node.ID] = node.ID != n.self.ID
	}
	delete(missing, n.self.ID)
	key := n.keys.Answers(q.ID)
	defer n.forget(context.WithoutCancel(ctx), key)
	text, err := json.Marshal(q)
	if err == nil && len(text) > MaxQuestion {
		err = fmt.Errorf("a question of %d bytes is too long", len(text))
	}
	if err == nil {
		err = n.client.Publish(ctx, n.keys.Questions(), text).Err()
	}
	if err != nil {
		n.log.Warn("cannot ask the other nodes", zap.Error(err))
		return
	}
	var seen int64
	left := maxAnswers
	for pause := firstPoll; len(missing) > 0 && left > 0; pause = min(2*pause, lastPoll) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		texts, err := n.client.LRange(ctx, key, seen, seen+answersAtOnce-1).Result()
		if err != nil {
			continue // until ctx ends
		}
		seen += int64(len(texts))
		for _, text := range texts {
			left -= len(text)
			var a answer
			if len(text) <= MaxAnswer+maxNodeBytes && json.Unmarshal([]byte(text), &a) == nil && missing[a.Node] {
				answers[a.Node] = a
				delete(missing, a.Node)
			}
		}
	}
}

// forget removes the answers to a question. If that fails, they expire.
func (n *Nodes) forget(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_ = n.client.Unlink(ctx, key).Err() // see above
}

// hear takes a question from the channel. It does not wait.
func (n *Nodes) hear(payload string) {
	q, err := decodeQuestion([]byte(payload))
	switch {
	case err != nil:
		n.metrics.questions.WithLabelValues(resultMalformed).Inc()
		n.log.Warn("question ignored", zap.Error(err))
		return
	case q.From == n.self.ID:
		return
	}
	select {
	case n.heard <- q:
	default:
		n.metrics.questions.WithLabelValues(resultDropped).Inc()
	}
}

// answerAll answers the questions of other nodes, one after the other, until ctx ends.
func (n *Nodes) answerAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-n.heard:
			n.reply(ctx, q)
		}
	}
}

// reply answers one question of another node.
func (n *Nodes) reply(ctx context.Context, q question) {
	ctx, cancel := context.WithTimeout(ctx, n.opt.Patience)
	defer cancel()
	a := n.answer(ctx, q)
	result := resultAnswered
	if a.Error != "" {
		result = resultFailed
	}
	text, err := json.Marshal(a)
	if err == nil {
		pipe := n.client.Pipeline()
		pipe.RPush(ctx, n.keys.Answers(q.ID), text)
		pipe.PExpire(ctx, n.keys.Answers(q.ID), answersTTL)
		err = redisreply.Exec(ctx, pipe)
	}
	if err != nil {
		result = resultFailed
		n.log.Warn("cannot answer a question", zap.String("topic", q.Topic), zap.Error(err))
	}
	n.metrics.questions.WithLabelValues(result).Inc()
}

// answer makes this node's answer.
func (n *Nodes) answer(ctx context.Context, q question) (a answer) {
	a.Node = n.self.ID
	defer func() {
		if v := recover(); v != nil {
			n.log.Error("answering panicked", zap.String("topic", q.Topic), zap.Any("panic", v), zap.ByteString("stack", debug.Stack()))
			a.Answer, a.Error = nil, codeFailed
		}
	}()
	handle, known := n.topics[q.Topic]
	if !known {
		a.Error = codeUnsupported
		return a
	}
	text, err := handle(ctx, q.Question)
	switch {
	case errors.Is(err, errMalformed):
		a.Error = codeUnsupported
	case err != nil || len(text) > MaxAnswer:
		a.Error = codeFailed
		n.log.Warn("cannot answer a question", zap.String("topic", q.Topic), zap.Int("bytes", len(text)), zap.Error(err))
	default:
		a.Answer = text
	}
	return a
}
