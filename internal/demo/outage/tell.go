package outage

import (
	"context"
	"fmt"
	"time"
)

// tell is one outage, with the lines for the person at the terminal instead of the gateway's warnings.
func (o *Outages) tell(ctx context.Context, r request) error {
	began := time.Now()
	o.opt.Fold.begin()
	defer o.opt.Fold.end()
	o.say("Redis is unreachable for %d s, because the page asked for it. Sockets stay open, and new events wait.", r.seconds)
	if err := o.outage(ctx, r); err != nil {
		return err
	}
	failure := o.settled(ctx)
	if ctx.Err() != nil {
		return nil
	}
	waited, lost := o.Report().waited()
	after := time.Since(began).Seconds()
	left := fmt.Sprintf("%d warnings about lost connections were left out.", o.opt.Fold.end())
	switch {
	case failure != nil:
		o.say("Redis is still unreachable after %.1f s: %v. %d events could not be published. %s", after, failure, lost, left)
	case lost > 0:
		o.say("Redis is back after %.1f s, but %d events could not be published. %s", after, lost, left)
	default:
		o.say("Redis is back after %.1f s, and events flow. The %d events that waited are published, in order, each once. %s", after, waited, left)
	}
	return nil
}

// say writes a line.
func (o *Outages) say(format string, args ...any) {
	_, _ = fmt.Fprintf(o.opt.Out, "  "+time.Now().Format(time.TimeOnly)+"  "+format+"\n", args...) // best effort: it is for people
}

// settled waits until events flow, and returns why not if that takes too long.
func (o *Outages) settled(ctx context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	late := time.NewTimer(settle)
	defer late.Stop()
	for {
		err := o.opt.Healthy()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return err
		case <-ticker.C:
		}
	}
}

// waited returns how many events had to wait and are published, and how many are not published.
func (r Report) waited() (published, lost int) {
	for _, e := range r.Events {
		switch {
		case e.AcceptedMS == 0:
			lost++
		case e.Kept:
			published++
		}
	}
	return published, lost
}
