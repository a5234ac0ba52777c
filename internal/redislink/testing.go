package redislink

import "time"

// For tests of packages that have links.

// AskRole asks the server for its role, unless a question is under way, and reports whether it has
// answered one that was sent after a moment.
func (l *Link) AskRole(after time.Time) (answered bool) {
	l.health.mu.Lock()
	answered = l.health.answeredAsk.After(after)
	l.health.mu.Unlock()
	_ = l.askIfDue(time.Now()) // what is wrong shows at the receiver, too
	return answered
}
