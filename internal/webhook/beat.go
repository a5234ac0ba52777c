package webhook

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

// beat says that this node lives, makes sure that Redis knows its groups, and begins a batch that
// takes the groups of a dead node from it. No batch is pending.
func (r *Recorder) beat(ctx context.Context, now time.Time) error {
	if len(r.opt.Groups) == 0 {
		r.beatAt = now
		return nil
	}
	answer, err := r.run(ctx, r.scripts.beat, r.node, rand.Text(), (r.opt.Dead / 2).Microseconds(), r.opt.Dead.Microseconds(), buryAtOnce).StringSlice()
	if err != nil {
		return fmt.Errorf("beat: %w", err)
	}
	if len(answer) < 2 {
		return fmt.Errorf("beat: %w", errMalformed)
	}
	epoch := answer[0]
	if n, err := strconv.Atoi(answer[1]); err == nil && n != r.groups.reported() {
		if err := r.reconcile(ctx, r.epoch != "" && r.epoch != epoch, now); err != nil {
			return err
		}
	}
	r.epoch, r.beatAt = epoch, now
	if len(answer) < 4 {
		return nil
	}
	dead, batch := answer[2], []written(nil)
	for _, text := range answer[3:] {
		if g, ok := parseMember(text); ok {
			batch = append(batch, r.ofGroup(ctx, g, stepBury, dead))
		}
	}
	r.opt.Log.Info("groups taken from a dead node", zap.String("node", dead), zap.Int("groups", len(batch)))
	r.beatAt = time.Time{} // it may have more
	r.begin(batch)
	return nil
}

// reconcile compares the groups that Redis knows of with those of this node.
func (r *Recorder) reconcile(ctx context.Context, lost bool, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	members, err := r.client.SMembers(ctx, r.keys.WebhookGroups(r.node)).Result()
	if err != nil {
		return fmt.Errorf("read groups: %w", err)
	}
	actual := make(map[event.Group]bool, len(members))
	for _, text := range members {
		if g, ok := parseMember(text); ok {
			actual[g] = true
		}
	}
	r.opt.Log.Warn("groups in Redis differ, reporting them again", zap.Int("groups", len(actual)), zap.Bool("data_lost", lost))
	r.groups.reconcile(actual, lost, now)
	return nil
}

// parseMember is the inverse of member.
func parseMember(text string) (event.Group, bool) {
	id, name, _ := strings.Cut(text, " ")
	org, err := orgctx.ParseID(id)
	if err != nil {
		return event.Group{}, false
	}
	g, err := event.NewGroup(org, name)
	return g, err == nil
}

// leave ends this node in order.
func (r *Recorder) leave(ctx context.Context) {
	if r.epoch == "" { // Redis does not know it
		return
	}
	if err := r.run(ctx, r.scripts.leave, r.node, r.opt.Dead.Microseconds(), r.opt.Linger.Microseconds()).Err(); err != nil {
		r.opt.Log.Warn("leaving failed, the other nodes wait for this one", zap.Error(err))
	}
}
