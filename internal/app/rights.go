package app

import (
	"context"
	_ "embed" // a script
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/event"
	"orgcast/internal/keyspace"
	"orgcast/internal/orgctx"
)

//go:embed rights.lua
var rightsScript string

// errCannotTell is returned by a server that does not say what its users may do.
var errCannotTell = errors.New("not tried: Redis says from version 7 on which rights a user has")

// rights are commands, with their arguments, that the node's Redis user needs for one purpose. They
// are not run: Redis is asked whether the user may run them.
type rights struct {
	purpose  string
	state    bool // of the server of state
	commands [][]string
}

// on adds commands on a key or channel. A command may have a subcommand, after a space.
func (r *rights) on(name string, commands ...string) {
	for _, c := range commands {
		r.commands = append(r.commands, append(strings.Fields(c), name))
	}
}

// scripts adds scripts that get these keys.
func (r *rights) scripts(keys ...string) {
	for _, c := range []string{"eval", "evalsha"} {
		r.commands = append(r.commands, append([]string{c, "script", strconv.Itoa(len(keys))}, keys...))
	}
}

// record adds what it takes to record events of a group, and to publish them with the command.
func (r *rights) record(k keyspace.Keyspace, g event.Group, idempotency, publish string) {
	r.scripts(k.History(g), k.Once(g, idempotency))
	r.on(k.History(g), "xadd", "xtrim", "pexpire")
	r.on(k.Once(g, idempotency), "get", "set")
	r.on(k.GroupChannel(g), publish)
}

// neededRights lists the rights that a node with these options needs, with names of the organization,
// which does not have to exist.
func neededRights(o *Options, k keyspace.Keyspace, org orgctx.ID) (list []rights, err error) {
	name := org.String()
	group, err := event.NewGroup(org, name)
	if err != nil {
		return nil, err
	}
	chat, err := event.NewGroup(org, "chat_"+name)
	if err != nil {
		return nil, err
	}
	publish := "publish"
	if len(o.Redis.Cluster) > 0 {
		publish = "spublish"
	}
	serves := func(names ...string) bool {
		return slices.ContainsFunc(o.Consumers, func(c string) bool { return c == EveryConsumer || slices.Contains(names, c) })
	}
	add := func(when bool, purpose string, fill func(r *rights)) {
		if when {
			r := rights{purpose: purpose}
			fill(&r)
			list = append(list, r)
		}
	}
	add(true, "quotas", func(r *rights) {
		r.state = true
		r.commands = append(r.commands, []string{"evalsha", "script", "2", k.Organization(org), k.Connections(org)})
		r.on(k.Connections(org), "hgetall", "hset", "hdel", "pexpire")
	})
	add(true, "canary", func(r *rights) { r.on(k.Canary(name), publish) })
	add(true, "histories", func(r *rights) {
		r.on(k.History(group), "xrevrange", "xinfo stream")
		r.on(k.Epoch(org), "exists", "setnx")
	})
	add(true, "nodes", func(r *rights) {
		r.on(k.Questions(), "publish", "subscribe")
		r.on(k.Nodes(), "zadd", "zrevrange", "zremrangebyscore", "zrem", "pexpire")
		r.on(k.Node(name), "exists", "set", "mget", "del")
		r.on(k.Answers(name), "rpush", "pexpire", "lrange", "ltrim", "unlink")
	})
	add(o.PresencePolicy != "" || o.RoutesFile != "", "presence", func(r *rights) {
		r.commands = append(r.commands, []string{"eval", "script", "1", k.Presence(group)})
		r.on(k.Presence(group), "hgetall", "hget", "hmget", "hset", "hdel", "pexpire")
		r.on(k.PresenceChannel(group), "publish", "subscribe")
	})
	add(o.UsageRetention > 0, "usage", func(r *rights) { r.on(k.Usage(time.Now()), "hset", "expireat", "hscan") })
	add(o.Webhooks.on(), "webhooks", func(r *rights) {
		r.scripts(k.WebhookRing())
		r.on(k.WebhookRing(), "get", "set", "exists", "del", "pexpire", "hget", "hset", "hmget", "hincrby", "hdel", "zadd", "zscore", "zrem", "zrange", "zrangebyscore",
			"rpush", "lindex", "lpop", "sadd", "srem", "scard", "smembers", "srandmember", "xadd", "xlen", "xrange", "xdel")
	})
	add(serves("chat", "research") || o.RoutesFile != "" || o.Extension.Routes != nil, "tasks", func(r *rights) {
		r.scripts(k.Tasks(name), k.TaskOnce(org, name, name), k.TaskRing(name), k.TaskLines(name), k.TaskIdle(name))
		r.on(k.Tasks(name), "xlen", "xadd", "xinfo groups", "xpending")
		r.on(k.TaskLine(org, name), "llen", "rpush")
		r.on(k.TaskRing(name), "zadd", "zrange")
		r.on(k.TaskLines(name), "hget", "hmget", "hset", "hincrby")
		r.on(k.TaskIdle(name), "zremrangebyscore", "zcard")
		r.on(k.TaskOnce(org, name, name), "get", "set")
	})
	add(serves("chat", "crew_execution", "crew_kanban"), "answers", func(r *rights) {
		r.scripts(k.Ask(org, name, 0))
		r.on(k.Ask(org, name, 0), "exists", "hsetnx", "hmget")
	})
	add(serves("chat"), "chats", func(r *rights) {
		r.scripts(k.MemberBytes(org), k.MemberBytesOf(org, name))
		r.on(k.MemberBytes(org), "get", "set")
		r.on(k.MemberBytesOf(org, name), "get", "set")
		r.on(k.Object(org, "chat", name), "set", "getrange", "expire")
		r.record(k, chat, name, publish)
	})
	add(o.PublishKey != "", "record", func(r *rights) { r.record(k, group, name, publish) })
	ends := o.PublishKey != "" || o.ConsolePath != ""
	add(ends, "control", func(r *rights) { r.on(k.Control(), "publish") })
	add(ends, "revoke", func(r *rights) {
		r.state = true
		r.on(k.SessionEnded(name), "set")
		if o.PublishKey == "" {
			return // an administrator in the console ends sessions only
		}
		r.on(k.UserDisabled(name), "set")
		if o.DirectoryKind() == DirectoryRedis {
			r.on(k.Member(org, name), "del")
			r.on(k.Organization(org), "hset")
		}
	})
	return list, nil
}

// rightTrials lists a trial for each purpose for which the node needs rights. Each server is asked once
// about all of them.
func (n *Node) rightTrials(org orgctx.ID) (list []trial, err error) {
	all, err := neededRights(n.Options, n.Keys, org)
	if err != nil {
		return nil, err
	}
	events, state := &rightsOf{client: n.Redis.Events}, &rightsOf{client: n.Redis.State}
	for _, r := range all {
		of := events
		if r.state {
			of = state
		}
		from := len(of.commands)
		of.commands = append(of.commands, r.commands...)
		list = append(list, trial{name: "rights: " + r.purpose, try: func(ctx context.Context) error {
			return of.missing(ctx, from, from+len(r.commands), org.String())
		}})
	}
	return list, nil
}

// rightsOf are the rights that the node needs at one server.
type rightsOf struct {
	client   redis.UniversalClient
	commands [][]string

	once   sync.Once
	mu     sync.Mutex // several masters of a Cluster answer at the same time
	denied map[int]bool
	err    error
}

// missing returns an error that names the commands from one place to another that the user may not
// run. In names of keys and channels, it shows the stranger as a star.
func (r *rightsOf) missing(ctx context.Context, from, to int, stranger string) error {
	r.once.Do(func() { r.err = r.ask(ctx) })
	if r.err != nil {
		return r.err
	}
	var list []string
	for i := from; i < to; i++ {
		if r.denied[i] {
			list = append(list, describeCommand(r.commands[i], stranger))
		}
	}
	if len(list) > 0 {
		return fmt.Errorf("NOPERM: the Redis user may not run: %s (compare with deploy/README.md)", strings.Join(list, ", "))
	}
	return nil
}

// ask asks the server, or each master of a Cluster, because users do not replicate.
func (r *rightsOf) ask(ctx context.Context) error {
	commands, err := json.Marshal(r.commands)
	if err != nil {
		return err
	}
	r.denied = make(map[int]bool)
	script := redis.NewScript(rightsScript)
	ask := func(ctx context.Context, server redis.Scripter) error {
		if err := script.Load(ctx, server).Err(); err != nil {
			return err
		}
		denied, err := script.EvalSha(ctx, server, nil, commands).Int64Slice()
		if err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, i := range denied {
			if i < 0 {
				return errCannotTell
			}
			r.denied[int(i)-1] = true
		}
		return nil
	}
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, server *redis.Client) error { return ask(ctx, server) })
	}
	return ask(ctx, r.client)
}

// describeCommand returns a command with what it is about.
func describeCommand(command []string, stranger string) string {
	text := strings.Join(command, " ")
	if command[0] == "eval" || command[0] == "evalsha" {
		text = command[0] + " " + strings.Join(command[3:], " ")
	}
	return strings.ReplaceAll(text, stranger, "*")
}
