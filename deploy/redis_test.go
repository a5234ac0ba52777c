package deploy_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/testkit"
	"orgcast/internal/testkit/redistest"
)

// TestRedisUsers starts Redis as deploy/compose.yaml does and tries what each user may and may
// not do. Above all the gateway, which faces the internet, can neither log anyone in nor make up
// an event.
func TestRedisUsers(t *testing.T) {
	dial := startRedis(t)

	const refused = "NOPERM"
	const refusedInside = "ERR The user executing the script can't run this command"
	const refusedKey = "ERR The user executing the script can't access"
	script, err := os.ReadFile("../clients/lua/record.v1.lua")
	if err != nil {
		t.Fatal(err)
	}
	record := func(history, channel string, once ...any) []any {
		command := append([]any{"eval", string(script), 1 + len(once), history}, once...)
		return append(command, channel, `{"type":"note","organization_id":1}`, 1000, 86400000)
	}
	lua := func(file string, args ...any) []any {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return append([]any{"eval", string(text)}, args...)
	}
	tasks := func(script string, names []string, args ...any) []any {
		command := lua("../clients/lua/"+script+".v1.lua", 1+len(names), "orgcast:tasks:chat")
		for _, name := range names {
			key := "orgcast:" + name + ":{orgcast:tasks:chat}"
			if name == "once" {
				key += ":1:k"
			}
			command = append(command, key)
		}
		return append(command, args...)
	}
	charge := func(keys ...any) []any {
		return append(append(lua("../internal/quota/charge.lua", len(keys)), keys...), 100, 86400000, 1<<20, 1<<20)
	}
	tests := map[string]struct {
		user    string
		command []any
		want    string // the start of the error; "" means that it is allowed
	}{
		"the default user is off":                         {"", []any{"ping"}, "NOAUTH"},
		"health may ping":                                 {"health", []any{"ping"}, ""},
		"health reads nothing":                            {"health", []any{"exists", "orgcast:session:k"}, refused},
		"gateway reads sessions":                          {"gateway", []any{"exists", "orgcast:session:k"}, ""},
		"gateway reads sessions up to a size":             {"gateway", []any{"getrange", "orgcast:session:k", 0, 65536}, ""},
		"gateway reads organizations":                     {"gateway", []any{"hgetall", "orgcast:{1}:org"}, ""},
		"gateway reads members":                           {"gateway", []any{"hgetall", "orgcast:{1}:member:7"}, ""},
		"gateway reads members of any id":                 {"gateway", []any{"hgetall", "orgcast:{1}:member:auth0%7C123"}, ""},
		"gateway reads who was shut out":                  {"gateway", []any{"exists", "orgcast:session-ended:s", "orgcast:user-disabled:7"}, ""},
		"gateway lets nobody in again":                    {"gateway", []any{"del", "orgcast:session-ended:s"}, refused},
		"gateway writes no sessions":                      {"gateway", []any{"set", "orgcast:session:k", "x"}, refused},
		"gateway counts connections":                      {"gateway", []any{"hset", "orgcast:{1}:connections", "n1", "5 0"}, ""},
		"gateway changes no organizations":                {"gateway", []any{"hset", "orgcast:{1}:org", "max_connections", "0"}, refused},
		"gateway writes no members":                       {"gateway", []any{"hset", "orgcast:{1}:member:7", "role", "owner"}, refused},
		"gateway keeps webhooks":                          {"gateway", []any{"smembers", "orgcast:webhook:{orgcast:webhooks}:dead"}, ""},
		"worker reads no webhooks":                        {"worker", []any{"smembers", "orgcast:webhook:{orgcast:webhooks}:dead"}, refused},
		"back end reads no webhooks":                      {"backend", []any{"smembers", "orgcast:webhook:{orgcast:webhooks}:dead"}, refused},
		"gateway reads nothing else":                      {"gateway", []any{"get", "app:secret"}, refused},
		"gateway counts tasks that are held":              {"gateway", []any{"xlen", "orgcast:tasks:chat"}, ""},
		"gateway counts tasks that wait":                  {"gateway", []any{"hmget", "orgcast:lines:{orgcast:tasks:chat}", ":entries", ":bytes"}, ""},
		"gateway lists organizations that wait":           {"gateway", []any{"zrange", "orgcast:ring:{orgcast:tasks:chat}", 0, 9}, ""},
		"gateway sees no list of names":                   {"gateway", []any{"keys", "*"}, refused},
		"gateway runs no scripts on other keys":           {"gateway", []any{"eval", "return redis.call('set', KEYS[1], 'x')", 1, "orgcast:session:k"}, refused},
		"gateway does nothing else by script":             {"gateway", []any{"eval", "return redis.call('set', 'orgcast:session:k', 'x')", 0}, refusedKey},
		"gateway does nothing at all by script":           {"gateway", []any{"eval", "return redis.call('flushall')", 0}, refusedInside},
		"gateway reads histories":                         {"gateway", []any{"xrevrange", "orgcast:{1}:history:g", "+", "-", "count", 10}, ""},
		"gateway asks for the state of histories":         {"gateway", []any{"xinfo", "stream", "orgcast:{1}:history:none"}, "ERR no such key"},
		"gateway writes no histories":                     {"gateway", []any{"xadd", "orgcast:{1}:history:g", "*", "event", "x"}, refused},
		"gateway marks an organization's data":            {"gateway", []any{"setnx", "orgcast:{1}:epoch", "x"}, ""},
		"gateway sees that mark":                          {"gateway", []any{"exists", "orgcast:{1}:epoch"}, ""},
		"gateway does not change it":                      {"gateway", []any{"set", "orgcast:{1}:epoch", "y"}, refused},
		"gateway records no events":                       {"gateway", record("orgcast:{1}:history:g", "orgcast:{1}:group:g"), refused},
		"gateway subscribes to groups":                    {"gateway", []any{"subscribe", "orgcast:{1}:group:g"}, ""},
		"gateway subscribes to groups, sharded":           {"gateway", []any{"ssubscribe", "orgcast:{1}:group:g"}, ""},
		"gateway subscribes to control":                   {"gateway", []any{"subscribe", "orgcast:control"}, ""},
		"gateway subscribes to no patterns":               {"gateway", []any{"psubscribe", "orgcast:*"}, refused},
		"gateway subscribes to nothing else":              {"gateway", []any{"subscribe", "app:events"}, refused},
		"gateway asks for the role of the server":         {"gateway", []any{"hello"}, ""},
		"gateway publishes its canary":                    {"gateway", []any{"publish", "orgcast:canary:n1", "x"}, ""},
		"gateway publishes its canary, sharded":           {"gateway", []any{"spublish", "orgcast:canary:n1", "x"}, ""},
		"gateway asks what kind of Redis this is":         {"gateway", []any{"info", "cluster"}, ""},
		"gateway asks where slots are":                    {"gateway", []any{"cluster", "slots"}, "ERR This instance has cluster support disabled"},
		"gateway moves no slots":                          {"gateway", []any{"cluster", "failover"}, refused},
		"gateway asks other gateways":                     {"gateway", []any{"publish", "orgcast:questions", "x"}, ""},
		"gateway hears the questions of others":           {"gateway", []any{"subscribe", "orgcast:questions"}, ""},
		"gateway writes who is present":                   {"gateway", lua("../internal/presence/write.lua", 1, "orgcast:{1}:presence:g", "orgcast:{1}:presence:g", "{}", 1000, "n1:", 1, 1, "n1:ada", "n1:alan", "{}"), ""},
		"gateway removes who is gone":                     {"gateway", lua("../internal/presence/sweep.lua", 1, "orgcast:{1}:presence:g", "n1:", 1, "n1:alan"), ""},
		"gateway hears who is present":                    {"gateway", []any{"subscribe", "orgcast:{1}:presence:g"}, ""},
		"back end does not say who is present":            {"backend", []any{"publish", "orgcast:{1}:presence:g", "x"}, refused},
		"worker reads nothing of who is present":          {"worker", []any{"hgetall", "orgcast:{1}:presence:g"}, refused},
		"gateway registers":                               {"gateway", []any{"zadd", "orgcast:nodes", 1, "n1"}, ""},
		"gateway registers for a time":                    {"gateway", []any{"set", "orgcast:node:{orgcast:nodes}:n1", "{}", "px", 15000}, ""},
		"gateway lists gateways":                          {"gateway", []any{"mget", "orgcast:node:{orgcast:nodes}:n1", "orgcast:node:{orgcast:nodes}:n2"}, ""},
		"gateway answers other gateways":                  {"gateway", []any{"rpush", "orgcast:answers:q1", "{}"}, ""},
		"gateway reads answers":                           {"gateway", []any{"lrange", "orgcast:answers:q1", 0, 15}, ""},
		"gateway writes usage":                            {"gateway", []any{"hset", "orgcast:usage:2026112904", "acme:n1", "1 2 3 4"}, ""},
		"gateway lets usage expire":                       {"gateway", []any{"expireat", "orgcast:usage:2026112904", 4102444800}, ""},
		"gateway reads usage":                             {"gateway", []any{"hscan", "orgcast:usage:2026112904", 0}, ""},
		"gateway deletes no usage":                        {"gateway", []any{"hdel", "orgcast:usage:2026112904", "acme:n1"}, refused},
		"worker writes no usage":                          {"worker", []any{"hset", "orgcast:usage:2026112904", "acme:n1", "1 2 3 4"}, refused},
		"gateway reads no answers elsewhere":              {"gateway", []any{"lrange", "orgcast:line:{orgcast:tasks:chat}:1", 0, 15}, refused},
		"back end asks no gateways":                       {"backend", []any{"publish", "orgcast:questions", "x"}, refused},
		"back end reads no answers":                       {"backend", []any{"lrange", "orgcast:answers:q1", 0, 15}, refused},
		"web application asks no gateways":                {"webapp", []any{"publish", "orgcast:questions", "x"}, refused},
		"worker asks no gateways":                         {"worker", []any{"publish", "orgcast:questions", "x"}, refused},
		"gateway publishes no events":                     {"gateway", []any{"publish", "orgcast:{1}:group:g", "x"}, refused},
		"gateway publishes no events, sharded":            {"gateway", []any{"spublish", "orgcast:{1}:group:g", "x"}, refused},
		"gateway ends no sessions":                        {"gateway", []any{"publish", "orgcast:control", "x"}, refused},
		"gateway changes no users":                        {"gateway", []any{"acl", "setuser", "gateway", "+@all"}, refused},
		"back end publishes events":                       {"backend", []any{"publish", "orgcast:{1}:group:g", "x"}, ""},
		"back end publishes to a user of any id":          {"backend", []any{"publish", "orgcast:{1}:group:user..QENEXq3u6ypdiFrzwTP2DvV1I6H_h7og7cxbbeOS62w", "x"}, ""},
		"back end publishes events, sharded":              {"backend", []any{"spublish", "orgcast:{1}:group:g", "x"}, ""},
		"back end publishes control messages":             {"backend", []any{"publish", "orgcast:control", "x"}, ""},
		"back end records events":                         {"backend", record("orgcast:{1}:history:g", "orgcast:{1}:group:g"), ""},
		"back end records events once":                    {"backend", record("orgcast:{1}:history:g", "orgcast:{1}:group:g", "orgcast:{1}:once:g:k"), ""},
		"back end reads no histories":                     {"backend", []any{"xrange", "orgcast:{1}:history:g", "-", "+"}, refused},
		"back end records nowhere else":                   {"backend", record("orgcast:session:k", "orgcast:{1}:group:g"), refused},
		"back end overwrites no histories":                {"backend", []any{"set", "orgcast:{1}:history:g", "x"}, refused},
		"back end reads nothing by script":                {"backend", []any{"eval", "return redis.call('xrange', KEYS[1], '-', '+')", 1, "orgcast:{1}:history:g"}, refusedInside},
		"back end hears nothing":                          {"backend", []any{"subscribe", "orgcast:{1}:group:g"}, refused},
		"back end reads no sessions":                      {"backend", []any{"get", "orgcast:session:k"}, refused},
		"web application writes sessions":                 {"webapp", []any{"set", "orgcast:session:k", "x", "ex", "60"}, ""},
		"web application reads sessions":                  {"webapp", []any{"getrange", "orgcast:session:k", "0", "9"}, ""},
		"web application ends sessions":                   {"webapp", []any{"del", "orgcast:session:k"}, ""},
		"web application revokes sessions":                {"webapp", []any{"set", "orgcast:session-ended:s", "1", "ex", "60"}, ""},
		"web application disables users":                  {"webapp", []any{"set", "orgcast:user-disabled:7", "1"}, ""},
		"web application writes members":                  {"webapp", []any{"hset", "orgcast:{1}:member:7", "role", "owner"}, ""},
		"web application writes members of any id":        {"webapp", []any{"hset", "orgcast:{1}:member:auth0%7C123", "role", "org:owner"}, ""},
		"web application publishes control messages":      {"webapp", []any{"publish", "orgcast:control", "x"}, ""},
		"web application publishes no events":             {"webapp", []any{"publish", "orgcast:{1}:group:g", "x"}, refused},
		"web application leaves other programs' keys be":  {"webapp", []any{"del", "app:secret"}, refused},
		"gateway adds tasks":                              {"gateway", tasks("dispatch", []string{"once", "ring", "lines", "idle"}, "t1", 1000, 10, 1000, 1, "workers", "organization_id", "1", "id", "t1"), ""},
		"gateway reads no tasks that wait":                {"gateway", []any{"lpop", "orgcast:line:{orgcast:tasks:chat}:1"}, refused},
		"gateway gives no one a turn":                     {"gateway", tasks("next", []string{"ring", "lines", "idle"}, "workers", "me", 0, 0), refusedInside},
		"gateway drops no tasks":                          {"gateway", []any{"del", "orgcast:line:{orgcast:tasks:chat}:1"}, refused},
		"back end adds no tasks":                          {"backend", tasks("dispatch", []string{"once", "ring", "lines", "idle"}, "t1", 1000, 10, 1000, 1, "workers", "organization_id", "1", "id", "t1"), refused},
		"gateway withdraws tasks":                         {"gateway", lua("../clients/lua/withdraw.v1.lua", 1, "orgcast:once:{orgcast:tasks:chat}:1:w", 1000), ""},
		"gateway remembers requests":                      {"gateway", lua("../clients/lua/request.v1.lua", 1, "orgcast:once:{1}:ada:r1", "f", "w", 1000), ""},
		"gateway notes requests":                          {"gateway", lua("../clients/lua/note.v1.lua", 1, "orgcast:once:{1}:ada:r1", "f w", "f w done"), ""},
		"gateway finds what it recorded in chats":         {"gateway", []any{"get", "orgcast:{1}:once:chat_c:other"}, "redis: nil"},
		"gateway takes no tasks":                          {"gateway", []any{"xreadgroup", "group", "workers", "me", "streams", "orgcast:tasks:chat", ">"}, refused},
		"gateway reads no tasks":                          {"gateway", []any{"xrange", "orgcast:tasks:chat", "-", "+"}, refused},
		"gateway removes no tasks":                        {"gateway", []any{"xdel", "orgcast:tasks:chat", "1-1"}, refused},
		"gateway answers questions":                       {"gateway", lua("../clients/lua/answer.v1.lua", 1, "orgcast:{1}:ask:e:0", "yes"), ""},
		"gateway asks no questions":                       {"gateway", []any{"hset", "orgcast:{1}:ask:e:0", "prompt", "x"}, refused},
		"gateway claims objects":                          {"gateway", []any{"set", "orgcast:{1}:object:chat:c", "{}", "px", 1000, "nx"}, ""},
		"gateway removes no objects":                      {"gateway", []any{"del", "orgcast:{1}:object:chat:c"}, refused},
		"gateway records what people say in chats":        {"gateway", record("orgcast:{1}:history:chat_c", "orgcast:{1}:group:chat_c", "orgcast:{1}:once:chat_c:k"), ""},
		"gateway records in chats of a name alone":        {"gateway", record("orgcast:{1}:history:research_7", "orgcast:{1}:group:chat_c"), refused},
		"gateway ends no tasks":                           {"gateway", []any{"set", "orgcast:{1}:task:chat:t1", "complete"}, refused},
		"gateway keeps no values":                         {"gateway", []any{"set", "orgcast:{1}:store:x", "y"}, refused},
		"gateway charges bytes that members write":        {"gateway", charge("orgcast:{1}:bytes", "orgcast:{1}:bytes:7"), ""},
		"gateway charges nothing else":                    {"gateway", charge("orgcast:{1}:bytes", "orgcast:{1}:org"), refused},
		"gateway does not forget what was charged":        {"gateway", []any{"del", "orgcast:{1}:bytes"}, refused},
		"back end charges no bytes":                       {"backend", charge("orgcast:{1}:bytes", "orgcast:{1}:bytes:7"), refused},
		"web application charges no bytes":                {"webapp", []any{"set", "orgcast:{1}:bytes", "0 0"}, refused},
		"worker charges no bytes":                         {"worker", charge("orgcast:{1}:bytes", "orgcast:{1}:bytes:7"), refused},
		"worker moves tasks from lines":                   {"worker", []any{"xadd", "orgcast:tasks:chat", "*", "id", "t1"}, ""},
		"worker asks what waits":                          {"worker", []any{"lrange", "orgcast:line:{orgcast:tasks:chat}:1", 0, 10}, ""},
		"worker remembers tasks alone":                    {"worker", []any{"set", "orgcast:once:{1}:ada:r1", "x"}, refused},
		"worker buries tasks":                             {"worker", []any{"xadd", "orgcast:tasks:chat:dead", "*", "id", "t1"}, ""},
		"worker reads no histories":                       {"worker", []any{"xrevrange", "orgcast:{1}:history:g", "+", "-"}, refused},
		"worker reads no sessions":                        {"worker", []any{"get", "orgcast:session:k"}, refused},
		"worker reads members":                            {"worker", []any{"hmget", "orgcast:{1}:member:7", "status", "role"}, ""},
		"worker writes no members":                        {"worker", []any{"hset", "orgcast:{1}:member:7", "status", "active"}, refused},
		"worker changes no organizations":                 {"worker", []any{"hset", "orgcast:{1}:org", "status", "active"}, refused},
		"worker claims nothing":                           {"worker", []any{"set", "orgcast:{1}:object:chat:c", "{}"}, refused},
		"worker ends no sessions":                         {"worker", []any{"publish", "orgcast:control", "x"}, refused},
		"worker hears nothing":                            {"worker", []any{"subscribe", "orgcast:{1}:group:g"}, refused},
		"worker keeps values in the store alone":          {"worker", []any{"set", "app:secret", "x"}, refused},
		"worker removes nothing but what it may":          {"worker", []any{"flushall"}, refused},
		"web application cannot be used to empty a Redis": {"webapp", []any{"flushall"}, refused},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := dial(t, tt.user).Do(t.Context(), tt.command...).Err()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%v as %q: got error %v, want none", tt.command, tt.user, err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("%v as %q: got error %v, want %s", tt.command, tt.user, err, tt.want)
			}
		})
	}
}

// TestStateUsers does the same with the server of --redis-state: nobody may do there what belongs
// to the other one, and back ends have no business there.
func TestStateUsers(t *testing.T) {
	_, connect := startScript(t, "redis/start.sh", "ORGCAST_REDIS_USERS=state.acl", "ORGCAST_BACKEND_PASSWORD=")
	const refused = "NOPERM"
	for name, tt := range map[string]struct {
		user    string
		command []any
		want    string // the start of the error; "" means that it is allowed
	}{
		"the default user is off":                    {"", []any{"ping"}, "NOAUTH"},
		"health may ping":                            {"health", []any{"ping"}, ""},
		"back ends are unknown":                      {"backend", []any{"ping"}, "WRONGPASS"},
		"gateway reads sessions":                     {"gateway", []any{"getrange", "orgcast:session:k", 0, 65536}, ""},
		"gateway reads members":                      {"gateway", []any{"hgetall", "orgcast:{1}:member:7"}, ""},
		"gateway reads members of any id":            {"gateway", []any{"hgetall", "orgcast:{1}:member:auth0%7C123"}, ""},
		"gateway reads who was shut out":             {"gateway", []any{"exists", "orgcast:session-ended:s", "orgcast:user-disabled:7"}, ""},
		"gateway counts connections":                 {"gateway", []any{"hset", "orgcast:{1}:connections", "n1", "5 0"}, ""},
		"gateway asks which server this is":          {"gateway", []any{"info", "server"}, ""},
		"gateway writes no sessions":                 {"gateway", []any{"set", "orgcast:session:k", "x"}, refused},
		"gateway writes no members":                  {"gateway", []any{"hset", "orgcast:{1}:member:7", "role", "owner"}, refused},
		"gateway reads no histories":                 {"gateway", []any{"xrevrange", "orgcast:{1}:history:g", "+", "-"}, refused},
		"gateway adds no tasks":                      {"gateway", []any{"xadd", "orgcast:tasks:chat", "*", "id", "t1"}, refused},
		"gateway claims nothing":                     {"gateway", []any{"set", "orgcast:{1}:object:chat:c", "{}", "nx"}, refused},
		"gateway hears nothing":                      {"gateway", []any{"subscribe", "orgcast:control"}, refused},
		"web application writes sessions":            {"webapp", []any{"set", "orgcast:session:k", "x", "ex", "60"}, ""},
		"web application revokes sessions":           {"webapp", []any{"set", "orgcast:session-ended:s", "1", "ex", "60"}, ""},
		"web application writes members":             {"webapp", []any{"hset", "orgcast:{1}:member:7", "role", "owner"}, ""},
		"web application writes members of any id":   {"webapp", []any{"hset", "orgcast:{1}:member:auth0%7C123", "role", "org:owner"}, ""},
		"web application announces at the other one": {"webapp", []any{"publish", "orgcast:control", "x"}, refused},
		"worker asks for organizations":              {"worker", []any{"hmget", "orgcast:{1}:org", "status"}, ""},
		"worker asks for members":                    {"worker", []any{"hmget", "orgcast:{1}:member:7", "status"}, ""},
		"worker writes no members":                   {"worker", []any{"hset", "orgcast:{1}:member:7", "status", "active"}, refused},
		"worker reads no sessions":                   {"worker", []any{"get", "orgcast:session:k"}, refused},
		"worker takes no tasks":                      {"worker", []any{"xdel", "orgcast:tasks:chat", "1-1"}, refused},
	} {
		t.Run(name, func(t *testing.T) {
			err := connect(t, tt.user).Do(t.Context(), tt.command...).Err()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%v as %q: got error %v, want none", tt.command, tt.user, err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("%v as %q: got error %v, want %s", tt.command, tt.user, err, tt.want)
			}
		})
	}
}

// startRedis starts redis-server through start.sh and returns a function that connects as a user,
// "" being nobody.
func startRedis(t *testing.T) (dial func(t *testing.T, user string) *redis.Conn) {
	t.Helper()
	_, connect := startScript(t, "redis/start.sh")
	return func(t *testing.T, user string) *redis.Conn {
		t.Helper()
		conn := connect(t, user).Conn()
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

// startRedisFor is the same with clients instead of connections.
func startRedisFor(t *testing.T) (connect func(t *testing.T, user string) redis.UniversalClient) {
	t.Helper()
	_, single := startScript(t, "redis/start.sh")
	return func(t *testing.T, user string) redis.UniversalClient {
		t.Helper()
		return single(t, user)
	}
}

// startScript is the same with a start.sh of the caller's choice, and tells of the socket.
func startScript(t *testing.T, script string, env ...string) (socket string, connect func(t *testing.T, user string) *redis.Client) {
	t.Helper()

	dir, err := os.MkdirTemp("", "acl") //nolint:usetesting // t.TempDir is too long a path for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket = filepath.Join(dir, "redis")

	var output strings.Builder
	cmd := exec.Command(script, "--port", "0", "--unixsocket", socket, "--dir", dir, "--appendonly", "no")
	cmd.Env = append(os.Environ(), "ORGCAST_ACL_FILE="+filepath.Join(dir, "users.acl"),
		"ORGCAST_GATEWAY_PASSWORD=gateway's", "ORGCAST_BACKEND_PASSWORD=backend's", "ORGCAST_WEBAPP_PASSWORD=webapp's", "ORGCAST_WORKER_PASSWORD=worker's")
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Redis (is redis-server installed?): %v", err)
	}
	exited := make(chan error, 1) // one: the process ends once
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
	})

	connect = func(t *testing.T, user string) *redis.Client {
		t.Helper()
		options := &redis.Options{Network: "unix", Addr: socket, Username: user, MaxRetries: -1, ContextTimeoutEnabled: true}
		if user != "" {
			options.Password = user + "'s"
		}
		client := redis.NewClient(options)
		t.Cleanup(func() { client.Close() })
		return client
	}

	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := connect(t, "health").Ping(ctx).Err()
		if err == nil {
			return socket, connect
		}
		select {
		case <-tick.C:
		case err := <-exited:
			exited <- err
			t.Fatalf("Redis ended (%v):\n%s", err, output.String())
		case <-ctx.Done():
			t.Fatalf("Redis does not answer (%v)", err)
		}
	}
}

// startClusterFor is the same with a Cluster, whose members all have the users.
func startClusterFor(t *testing.T) (connect func(t *testing.T, user string) redis.UniversalClient) {
	t.Helper()
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{})
	rules, err := os.ReadFile("redis/users.acl")
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range cluster.Addrs() {
		admin := redis.NewClient(&redis.Options{Addr: addr})
		defer admin.Close()
		for line := range strings.Lines(string(rules)) {
			_, user, _ := strings.Cut(strings.TrimSpace(line), " ")
			name, rules, _ := strings.Cut(user, " ")
			if name == "default" {
				continue // makes the Cluster
			}
			rules = strings.ReplaceAll(rules, "#@"+strings.ToUpper(name)+"_HASH@", ">"+name+"'s")
			command := []any{"ACL", "SETUSER", name}
			for _, rule := range splitRules(rules) {
				command = append(command, rule)
			}
			if err := admin.Do(t.Context(), command...).Err(); err != nil {
				t.Fatalf("user %s: %v", name, err)
			}
		}
	}
	return func(t *testing.T, user string) redis.UniversalClient {
		t.Helper()
		client := redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: cluster.Addrs(), Username: user, Password: user + "'s", ContextTimeoutEnabled: true, ClientName: "orgcast", DisableRoutingPolicies: true,
		})
		t.Cleanup(func() { client.Close() })
		return client
	}
}

// splitRules parts rules at spaces outside brackets.
func splitRules(rules string) []string {
	return regexp.MustCompile(`\([^)]*\)|\S+`).FindAllString(rules, -1)
}
