package crowd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"orgcast/internal/directory"
	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

const (
	// groupName is the group that everyone joins, in their own organization.
	groupName = "all"
	// every is the pause between two events of an organization.
	every = 100 * time.Millisecond
	// mostRounds is how many rounds of events may be on their way. A machine that is slower than
	// this gets fewer events instead of a longer queue.
	mostRounds = 10
	// gatherTimeout bounds the time in which everyone connects, long enough for a slow machine.
	gatherTimeout = 90 * time.Second
	// leaveTimeout bounds the time in which sessions and memberships are removed again.
	leaveTimeout = 20 * time.Second
	// atOnce is how many people sign in and connect at the same time.
	atOnce = 16
)

// errGather is returned if not everyone could connect in time.
var errGather = errors.New("crowd: not everyone could connect in time")

// problem says in a few words why a run failed. The error itself goes to the log.
func problem(err error) string {
	if errors.Is(err, errGather) {
		return "not everyone could connect in time"
	}
	return "the demo could not bring everyone together; its log says why"
}

// organization is one of a run, with the group that its guests join.
type organization struct {
	id    orgctx.ID
	group event.Group
}

// run is one run. Except for the guests, everything in it belongs to the goroutine of do.
type run struct {
	*Options

	size    Size
	tally   *Tally
	changed func(state State, connected int)

	organizations []organization
	users         []string // the same names in every organization
	guests        []*guest // by number
}

// do gathers everyone, publishes, and waits for the last deliveries. When it returns, nobody is
// connected any longer, and the directory and the session store are as before.
func (r *run) do(ctx context.Context) error {
	if err := r.invite(); err != nil {
		return err
	}
	var listening sync.WaitGroup
	meeting, disperse := context.WithCancel(ctx)
	defer r.leave(ctx)
	defer listening.Wait()
	defer disperse()
	if err := r.register(ctx); err != nil {
		return err
	}
	if err := r.gather(ctx); err != nil {
		return err
	}
	for _, g := range r.guests {
		listening.Go(func() { g.listen(meeting) })
	}
	r.changed(Publishing, len(r.guests))
	if err := r.publish(ctx); err != nil {
		return err
	}
	r.changed(Settling, len(r.guests))
	return r.settle(ctx)
}

// invite makes up organizations and users.
func (r *run) invite() error {
	for i := range r.size.Organizations {
		id, err := orgctx.ParseID(fmt.Sprintf("crowd-%02d", i+1))
		if err != nil {
			return err
		}
		group, err := event.NewGroup(id, groupName)
		if err != nil {
			return err
		}
		r.organizations = append(r.organizations, organization{id, group})
	}
	for i := range (r.size.People + r.size.Organizations - 1) / r.size.Organizations {
		r.users = append(r.users, fmt.Sprintf("person-%d", i+1))
	}
	for i := range r.size.People {
		r.guests = append(r.guests, &guest{
			organization: r.organizations[i%len(r.organizations)].id,
			user:         r.users[i/len(r.organizations)],
			tally:        r.tally,
		})
	}
	return nil
}

// register makes everyone a member.
func (r *run) register(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.SetLimit(atOnce)
	for _, o := range r.organizations {
		tasks.Go(func() error { return r.Members.PutOrganization(ctx, o.id, directory.Active) })
	}
	for _, g := range r.guests {
		tasks.Go(func() error {
			return r.Members.PutMember(ctx, g.organization, g.user, directory.Active, directory.Member{Role: "member"})
		})
	}
	return tasks.Wait()
}

// gather lets everyone sign in, connect and join the group.
func (r *run) gather(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, gatherTimeout, errGather)
	defer cancel()
	transport := &http.Transport{MaxIdleConns: 1}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var mu sync.Mutex
	connected := 0 // guarded by mu
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.SetLimit(atOnce)
	for _, g := range r.guests {
		tasks.Go(func() error {
			if err := g.arrive(ctx, r.Options, client); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			connected++
			r.changed(Gathering, connected)
			return nil
		})
	}
	err := tasks.Wait()
	if err != nil && errors.Is(context.Cause(ctx), errGather) {
		return errors.Join(errGather, err)
	}
	return err
}

// message is an event of the crowd.
type message struct {
	Type         string    `json:"type"`
	Organization orgctx.ID `json:"organization_id"`
	ID           string    `json:"id"`
	Text         string    `json:"text"`
}

// publish publishes to all organizations in turn until the time is over.
func (r *run) publish(ctx context.Context) error {
	over := time.NewTimer(time.Duration(r.size.Seconds) * time.Second)
	defer over.Stop()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for round := 1; ; round++ {
		if r.tally.Outstanding() < mostRounds*len(r.guests) {
			if err := r.publishRound(ctx, round); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return nil
		case <-ticker.C:
		}
	}
}

// publishRound publishes one event to each organization.
func (r *run) publishRound(ctx context.Context, round int) error {
	ids := make([]string, len(r.organizations))
	list := make([]event.Publication, len(r.organizations))
	for i, o := range r.organizations {
		ids[i] = rand.Text()
		payload, err := json.Marshal(message{Type: "crowd", Organization: o.id, ID: ids[i], Text: fmt.Sprintf("Round %d", round)})
		if err != nil {
			return err
		}
		list[i] = event.Publication{Group: o.group, Payload: payload}
	}
	at := time.Now()
	for i, o := range r.organizations {
		r.tally.Publish(o.id.String(), ids[i], at)
	}
	for i, receipt := range r.Publisher.PublishAll(ctx, list) {
		if receipt.Err != nil {
			r.tally.Unconfirmed(ids[i])
		}
	}
	return nil
}

// settle waits until everything has arrived, or until nothing more will.
func (r *run) settle(ctx context.Context) error {
	over := time.NewTimer(r.Settle)
	defer over.Stop()
	ticker := time.NewTicker(every / 4)
	defer ticker.Stop()
	for r.tally.Outstanding() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C:
			return nil
		case <-ticker.C:
		}
	}
	return nil
}

// leave closes what a guest still has open, and removes sessions and memberships. If Redis does not
// answer, the sessions expire by themselves.
func (r *run) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	tasks := new(errgroup.Group)
	tasks.SetLimit(atOnce)
	for _, g := range r.guests {
		tasks.Go(func() error { return g.leave(ctx, r.Options) })
	}
	if err := tasks.Wait(); err != nil {
		r.Log.Warn("crowd did not leave completely", zap.Error(err))
	}
}
