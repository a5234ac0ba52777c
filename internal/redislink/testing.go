package redislink

import "time"

// This file is for tests of packages that have links.

// AskRole asks the server for its role, unless a question is open. It reports whether the server
// has answered a question that was sent after a moment.
func (l *Link) AskRole(after time.Time) (answered bool) {
	l.health.mu.Lock()
	answered = l.health.answeredAsk.After(after)
	l.health.mu.Unlock()
	_ = l.askIfDue(time.Now()) // receive meets the same error
	return answered
}
