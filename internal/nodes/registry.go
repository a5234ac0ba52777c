package nodes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"orgcast/internal/loglimit"
	"orgcast/internal/orgctx"
	"orgcast/internal/redisreply"
)

const (
	// renewals is how often a lease is renewed in its time, so that one failure does not end it.
	renewals = 3
	// forgetAfter is when the list drops a node that did not renew. It is far longer than a lease,
	// because it is compared with other machines' clocks.
	forgetAfter = time.Hour
	// maxNodes is how many nodes are listed. It bounds what a list with wrong entries can cost.
	maxNodes = 1000
	// maxNodeBytes bounds the text of one node.
	maxNodeBytes = 1 << 10
)

// stayListed renews the lease of this node until ctx ends, and then gives it up.
func (n *Nodes) stayListed(ctx context.Context) {
	ticker := time.NewTicker(n.opt.Lease / renewals)
	defer ticker.Stop()
	trouble := loglimit.Limiter{}
	for {
		if err := n.renew(ctx); err != nil && ctx.Err() == nil {
			if suppressed, ok := trouble.Allow(time.Now()); ok {
				n.log.Warn("node lease renewal failed", zap.Error(err), zap.Int("suppressed", suppressed))
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			n.leave(context.WithoutCancel(ctx))
			return
		}
	}
}

// OnLapse sets a function that is called when this node has got a lease and had none before: at the
// start, and later if the others may have taken it for stopped, or Redis has lost its data. It is
// called before [Nodes.Run]. The function must not block.
func (n *Nodes) OnLapse(lapsed func()) { n.lapsed = lapsed }

// renew lists this node for another lease.
func (n *Nodes) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	text, err := json.Marshal(n.self)
	if err != nil {
		return err
	}
	now := time.Now()
	pipe := n.client.Pipeline()
	held := pipe.Exists(ctx, n.keys.Node(n.self.ID))
	pipe.Set(ctx, n.keys.Node(n.self.ID), text, n.opt.Lease)
	pipe.ZAdd(ctx, n.keys.Nodes(), redis.Z{Score: float64(now.Unix()), Member: n.self.ID})
	pipe.ZRemRangeByScore(ctx, n.keys.Nodes(), "-inf", "("+strconv.FormatInt(now.Add(-forgetAfter).Unix(), 10))
	pipe.PExpire(ctx, n.keys.Nodes(), 2*forgetAfter)
	err = redisreply.Exec(ctx, pipe)
	if err == nil && held.Val() == 0 && n.lapsed != nil {
		n.lapsed()
	}
	return err
}

// leave takes this node off the list, because it stops in order. If Redis does not answer, the lease
// ends by itself.
func (n *Nodes) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	pipe := n.client.Pipeline()
	pipe.Del(ctx, n.keys.Node(n.self.ID))
	pipe.ZRem(ctx, n.keys.Nodes(), n.self.ID)
	_ = redisreply.Exec(ctx, pipe) // see above
}

// List returns the nodes whose leases have not ended, ordered by ID. This node is always among them.
// With an error, it is the only one.
func (n *Nodes) List(ctx context.Context) ([]Node, error) {
	list := []Node{n.self}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ids, err := n.client.ZRevRange(ctx, n.keys.Nodes(), 0, maxNodes-1).Result()
	if err != nil {
		return list, fmt.Errorf("list nodes: %w", err)
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return !orgctx.ValidID(id) || id == n.self.ID })
	if len(ids) == 0 {
		return list, nil
	}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = n.keys.Node(id)
	}
	values, err := n.client.MGet(ctx, names...).Result()
	if err != nil {
		return list, fmt.Errorf("list nodes: %w", err)
	}
	for i, value := range values {
		text, ok := value.(string)
		if !ok { // the lease has ended
			continue
		}
		if node, err := decodeNode([]byte(text)); err == nil && node.ID == ids[i] {
			list = append(list, node)
		}
	}
	slices.SortFunc(list, func(a, b Node) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

var errMalformed = errors.New("nodes: malformed")

// decodeNode parses the text of a node. A newer version may have further fields.
func decodeNode(text []byte) (Node, error) {
	var node Node
	if len(text) > maxNodeBytes || json.Unmarshal(text, &node) != nil || !orgctx.ValidID(node.ID) {
		return Node{}, errMalformed
	}
	return node, nil
}

// strictly decodes one JSON value without unknown fields: an older node must not answer a question
// whose conditions it does not know.
func strictly(text []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	if d.More() {
		return errMalformed
	}
	return nil
}
