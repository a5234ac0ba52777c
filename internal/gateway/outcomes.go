package gateway

import (
	"strings"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/outbox"
	"orgcast/internal/trail"
)

// wrote counts the events of a batch that was written.
func (w *writer) wrote(b *outbox.Batch) {
	for i := range b.Len() {
		w.toldGap(b.Item(i))
	}
	events := b.Events()
	if events == 0 {
		return
	}
	now := time.Now()
	w.count(events, b.Bytes(), now.Sub(b.Oldest()))
	for i := range b.Len() {
		if burst := b.Item(i).Burst; burst != nil {
			burst.Tally().Wrote(len(burst.Events()), now.Sub(burst.Events()[0].Received()))
			burst.Wrote(now)
		}
	}
}

// wroteBurst counts events that were written.
func (w *writer) wroteBurst(b *event.Burst) {
	events := b.Events()
	now := time.Now()
	took := now.Sub(events[0].Received())
	w.count(len(events), w.size(b), took)
	b.Tally().Wrote(len(events), took)
	b.Wrote(now)
}

// count counts events that were written together. took is the time since the arrival of the oldest.
func (w *writer) count(events, bytes int, took time.Duration) {
	w.client.host.metrics.wrote(events, took)
	w.tally.add(events, bytes)
	w.client.budget.account.took(took)
}

// lossReasons are the names of losses for the trail.
//
//nolint:gochecknoglobals // constant
var lossReasons = [...]string{
	outbox.LostOldest: trail.LostOldest, outbox.LostLatest: trail.LostLatest, outbox.LostFull: trail.LostTooSlow,
	outbox.LostClosing: trail.LostClosing, outbox.LostLeft: trail.LostLeft, outbox.LostHistory: trail.LostHistory,
}

// Lost implements outbox.Owner.
func (w *writer) Lost(events []*event.Event, why outbox.Loss, follows bool) {
	events[0].Alone().Tally().Lost(len(events))
	w.client.trail.Lost(events, lossReasons[why], follows)
	tellLost(events)
}

// lose notes events of one group that were claimed and not written.
func (w *writer) lose(events []*event.Event, reason string) {
	if len(events) > 0 {
		events[0].Alone().Tally().Lost(len(events))
		w.client.trail.Lost(events, reason, true)
		tellLost(events)
	}
}

// tellLost tells those who watch the events that one connection does not get them.
func tellLost(events []*event.Event) {
	for _, e := range events {
		e.Lost()
	}
}

// loseBatch notes the events of a batch that was not written whole.
func (w *writer) loseBatch(b *outbox.Batch) {
	for i := range b.Len() {
		w.loseItem(b.Item(i))
	}
}

func (w *writer) loseItem(it *outbox.Item) {
	if it.Burst != nil {
		w.lose(it.Burst.Events(), trail.LostWrite)
	}
}

// observed returns what the observer of the gateway hears of the connection.
func (c *client) observed() Observed {
	return Observed{Organization: c.identity.Organization, UserID: c.identity.UserID, ID: c.id}
}

// noteServed tells the observer of a connection that is served from now on.
func (c *conn) noteServed() {
	if o := c.host.options.Observer; o != nil {
		o.Connected(c.observed())
	}
}

// noteGone tells the observer that a connection that was served has ended.
func (c *conn) noteGone(cause error) {
	if o := c.host.options.Observer; o != nil {
		o.Disconnected(c.observed(), causeOf(cause).ending())
	}
}

// toldGap tells the observer that a frame that tells of a gap was written, if it does.
func (w *writer) toldGap(it *outbox.Item) {
	g := it.Gap()
	if o := w.client.host.options.Observer; o != nil && !g.IsZero() {
		o.ToldGap(w.client.observed(), g)
	}
}

// Waits implements trail.Owner.
func (c *conn) Waits() bool { return !c.writer.box.Idle() }

// noteEnd remembers why the connection ended.
func (c *conn) noteEnd(cause error) {
	end := causeOf(cause)
	c.trail.Ended(end.ending(), int(end.code))
}

// ending returns the short, stable name of the end of a connection: the error's text without the
// package, if it names one.
func (c cause) ending() string {
	if c.err == nil {
		return c.name
	}
	text := c.err.Error()
	if _, own, ok := strings.Cut(text, ": "); ok {
		text = own
	}
	return strings.ReplaceAll(text, " ", "_")
}

// noteDenied remembers the groups that an error frame refuses.
func (c *conn) noteDenied(refused consumer.ErrorFrame) {
	if c.trail == nil || refused.Group == "" {
		return
	}
	if g, err := event.NewGroup(c.identity.Organization, refused.Group); err == nil {
		c.trail.Denied(g, refused.Code)
	}
}
