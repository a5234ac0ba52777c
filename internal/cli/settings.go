package cli

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"time"

	"orgcast/internal/app"
	"orgcast/internal/config"
	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/outgoing"
	"orgcast/internal/presence"
	"orgcast/internal/pubsub"
	"orgcast/internal/quota"
	"orgcast/internal/session"
	"orgcast/internal/task"
	"orgcast/internal/trail"
	"orgcast/internal/usage"
)

// settings are the settings of the whole process. Subcommands declare the parts that they need.
type settings struct {
	app.Options

	allowUnknownEnv bool
}

func checkSecret(text string) error {
	if len(text) < app.MinSecret {
		return fmt.Errorf("must have at least %d characters", app.MinSecret)
	}
	return nil
}

func (s *settings) declareLogging(set *config.Set) {
	set.Choice(&s.LogLevel, "log-level", "info", []string{"debug", "info", "warn", "error"}, "minimum log level")
	set.Choice(&s.LogFormat, "log-format", "json", []string{"json", "console"}, "log format")
}

// declareStores declares the session stores, which also decide the default of --directory.
func (s *settings) declareStores(set *config.Set) {
	set.List(&s.SessionStores, "session-store", app.StoreCookie,
		"where sessions are stored: cookie, in a signed cookie (gorilla CookieStore); redis, in Redis under a random key; http, in the web application, which the gateway asks at --session-url; django-cache, in the Redis cache of a Django site; django-signed, in its signed cookies; jwt, in a signed token that the client sends. Of several, comma-separated, the first one whose cookie or token the client sends decides alone", app.CheckStores)
}

func (s *settings) declareSession(set *config.Set) {
	s.declareStores(set)
	set.List(&s.SessionCookies, "session-cookie", session.DefaultName, "name of the session cookie; with several stores, one name for each except jwt, comma-separated, in the same order", nil)
	s.declareSessionURL(set)
	s.declareDjango(set)
	s.declareJWT(set)
	set.Secret(&s.SessionKeys, "session-keys",
		"keys of signed cookies, comma-separated: the first one signs, the others are previous keys; each is HASHKEY or HASHKEY:BLOCKKEY, with a hash key of at least 32 characters and a block key of 16, 24 or 32; hex-… for bytes in hexadecimal",
		func(text string) error { _, err := app.ParseKeys(text); return err })
	s.declareSessionLife(set)
	set.Bool(&s.SessionInsecure, "session-insecure", false, "mint cookies without the Secure attribute, for plain HTTP in development")
}

func (s *settings) declareSessionURL(set *config.Set) {
	set.String(&s.SessionURL, "session-url", "", "with --session-store=http: URL at which the web application says which user a cookie belongs to (docs/protocol.md)", checkURL)
	set.Secret(&s.SessionURLKey, "session-url-key", "bearer key of calls to --session-url", checkSecret)
	set.Int(&s.SessionURLBatch, "session-url-batch", session.DefaultBatch, 1, "maximum number of cookies in one call to --session-url")
	set.Duration(&s.SessionURLTimeout, "session-url-timeout", outgoing.DefaultTimeout, 100*time.Millisecond, "maximum time for a call to --session-url; after it, handshakes get 503, and open connections are checked again later")
	set.Choice(&s.SessionCookiePick, "session-cookie-pick", string(session.PickFirst), []string{string(session.PickFirst), string(session.PickLast)},
		"with --session-store=http: which cookie counts if a browser sends several of the same name; it must be the one that the web application takes: Django takes the last")
}

// checkURL checks the URL of outgoing calls.
func checkURL(text string) error {
	if text == "" {
		return nil
	}
	return outgoing.CheckURL(text)
}

func (s *settings) declareSessionLife(set *config.Set) {
	set.Duration(&s.SessionMaxAge, "session-max-age", session.DefaultMaxAge, time.Second, "maximum lifetime of a session, and how long a revocation is remembered")
}

func (s *settings) declareDirectory(set *config.Set) {
	set.Choice(&s.Directory, "directory", "", []string{app.DirectoryRedis, app.DirectorySession},
		"source of truth for active organizations, memberships and roles: hashes in Redis, or what the session says; default: redis, or session with --session-store=http or jwt")
}

func (s *settings) declareRoutesFile(set *config.Set) {
	set.Path(&s.RoutesFile, "routes-file", "", "YAML file of routes that need no code (docs/consumers.md); default: none", nil)
}

func (s *settings) declareServe(set *config.Set) {
	set.String(&s.Listen, "listen", ":8080", "address of the public listener", CheckAddress)
	set.String(&s.AdminListen, "admin-listen", "127.0.0.1:9090", "address of the private listener: health, metrics, profiles, publishing", CheckAddress)
	set.Bool(&s.allowUnknownEnv, "allow-unknown-env", false, "accept unknown environment variables that begin with ORGCAST_")
	set.String(&s.PublicHealth, "public-health", "", "path on the public listener for load balancers, such as /healthz; answers 200, or 503 while this node drains; default: none", app.CheckPublicHealth)
	set.Path(&s.TLSCert, "tls-cert", "", "certificate file (PEM); default: no TLS, for use behind a proxy", nil)
	set.Path(&s.TLSKey, "tls-key", "", "private key file of the certificate (PEM)", nil)
	set.Secret(&s.TLSTicketKey, "tls-ticket-key", "secret that all nodes share, so that browsers resume TLS sessions at any of them and after restarts; default: a random one for each process", checkSecret)
	s.declareLogging(set)
	s.declareRedis(set)
	s.declareState(set)
	s.declareSession(set)
	s.declareDirectory(set)
	s.declareChannelLayer(set)
	set.List(&s.Origins, "origins", "",
		"origins of the pages that may connect, comma-separated: https://app.example.com, https://*.example.com; add none to admit programs that send no Origin", func(list []string) error {
			_, err := gateway.ParseOrigins(list)
			return err
		})
	set.List(&s.TrustedProxies, "trusted-proxies", "",
		"proxies whose X-Forwarded-For is trusted, comma-separated addresses and networks: 10.0.0.0/8, 2001:db8::1; the log then shows the client's address; default: none", func(list []string) error {
			_, err := gateway.ParseProxies(list)
			return err
		})
	set.List(&s.Consumers, "consumers", app.EveryConsumer, "consumers to enable, comma-separated, or all (docs/consumers.md)", app.CheckConsumers)
	s.declareRoutesFile(set)
	set.Rules(&s.Policy, "events-policy", consumer.DefaultPolicy,
		"who may subscribe to which group at /ws/events: comma-separated rules PATTERN=WHO, the first match decides; WHO is member, self, role:NAME or signed", func(text string) error {
			_, err := consumer.ParsePolicy(text, nil)
			return err
		})
	set.Rules(&s.PresencePolicy, "presence-policy", "",
		"in which groups at /ws/events members see who else is there: comma-separated rules PATTERN=WHAT, the first match decides; WHAT is users, states (users, and a state that each sets) or none; default: nobody is shown", func(text string) error {
			_, err := consumer.ParsePresencePolicy(text)
			return err
		})
	set.Secret(&s.SigningKey, "signing-key", "key of the tokens for groups with the policy signed; default: no token is valid", checkSecret)
	set.Secret(&s.PublishKey, "publish-key", "bearer key of POST /v1/publish, POST /v1/revoke, GET /v1/history, GET /v1/presence, GET /v1/webhooks and POST /v1/webhooks/retry on the private listener; default: these paths do not exist", checkSecret)
	set.Secret(&s.AdminKey, "admin-key", "bearer key of everything below /v1/ on the private listener that reads or changes more than one publication; default: these paths answer only programs on the same machine, while --admin-listen is a loopback address", checkSecret)
	set.String(&s.ConsolePath, "console-path", "", "path on the public listener of the console for organizations' own administrators, such as /console (docs/console.md); default: none", app.CheckConsolePath)
	set.Secret(&s.ConsoleKey, "console-key", "key of the tokens that open the console of an organization; required with --console-path", checkSecret)
	s.declareWebhooks(set)
	s.declareLimits(set)
	set.Int(&s.ExplainBytesPerOrganization, "explain-bytes-per-organization", trail.DefaultBytesPerOrganization, 0,
		"bytes of memory for what \"gateway explain\" can tell about one organization on this node; 0 remembers nothing")
	set.Int(&s.ExplainBytes, "explain-bytes", trail.DefaultBytes, trail.MinBytes, "the same for all organizations; the oldest decisions give way")
	set.Choice(&s.OnViolation, "on-violation", app.ViolationUnready, []string{app.ViolationUnready, app.ViolationCount},
		"after an isolation violation, report not ready until a restart, or only count it")
	set.Duration(&s.LeasePeriod, "lease-period", lease.DefaultPeriod, 100*time.Millisecond, "how often each open connection's session and membership are re-checked")
	set.Duration(&s.LeaseDeadline, "lease-deadline", lease.DefaultDeadline, time.Second, "how long a connection may stay open while its session and membership cannot be verified")
	set.Int(&s.MetricsOrganizations, "metrics-organizations", 100, 0, "how many organizations GET /metrics/organizations shows, at most 1000; 0 turns it off")
	set.Duration(&s.UsageRetention, "usage-retention", usage.DefaultRetention, 0, "how long to keep in Redis what each organization used in each hour; 0 keeps nothing")
	set.Duration(&s.DrainWait, "drain-wait", 2*time.Second, 0, "after SIGTERM, keep serving but report not ready for this long, so that load balancers stop routing here")
	set.Duration(&s.Drain, "drain", 10*time.Second, 0, "after --drain-wait, close connections evenly over this period")
	set.Instead("directory", s.DirectoryKind)
	set.Instead("redis-state", func() string { return "(the same as redis)" })
	set.Instead("max-connections", s.derived(&s.MaxConnections, s.EffectiveConnections))
	set.Instead("handshakes-per-second", s.derived(&s.HandshakesPerSecond, s.EffectiveHandshakes))
	set.Reloads(serveReloads()...)
}

// derived shows the number that a setting of 0 stands for.
func (s *settings) derived(value *int, effective func() int) func() string {
	return func() string {
		if *value != 0 {
			return ""
		}
		return fmt.Sprintf("0 (now %d)", effective())
	}
}

// serveReloads lists the settings of serve that a reload can change.
func serveReloads() []string {
	return append([]string{
		"tls-cert", "tls-key", "tls-ticket-key", "public-health", "session-url-key", "session-keys",
		"django-secret-keys", "django-cache-redis-password", "django-cache-redis-tls-ca", "origins", "trusted-proxies", "events-policy", "presence-policy",
		"signing-key", "publish-key", "admin-key", "webhook-key", "console-path", "console-key", "max-frame", "max-event", "events-per-second", "event-bytes-per-second", "queue-bytes",
		"queue-bytes-per-organization", "receive-bytes-per-organization", "presence-bytes-per-organization", "compress", "compress-threshold",
		"frames-per-second", "frame-burst", "groups-per-connection", "max-connections", "max-per-organization", "max-per-user",
		"handshakes-per-second", "member-bytes-per-organization", "member-bytes-per-user", "tasks-per-organization",
		"task-bytes-per-organization", "ping-interval", "pong-timeout", "message-timeout", "idle-timeout", "write-timeout",
		"close-timeout", "hook-timeout", "on-violation", "lease-period", "lease-deadline", "drain-wait", "drain",
		"channel-layer-keys", "channel-layer-redis-password", "channel-layer-redis-sentinel-user", "channel-layer-redis-sentinel-password",
		"channel-layer-redis-tls-ca", "channel-layer-redis-tls-cert", "channel-layer-redis-tls-key",
	}, workerReloads...)
}

func (s *settings) declareLimits(set *config.Set) {
	set.Int(&s.MaxFrame, "max-frame", gateway.DefaultMaxFrame, 128, "largest message from a browser, in bytes")
	set.Int(&s.MaxEvent, "max-event", event.DefaultMaxSize, 128, "largest event, in bytes")
	set.Int(&s.EventsPerSecond, "events-per-second", pubsub.DefaultEventsPerSecond, 0,
		"events per second that this node accepts from one organization on average; groups that exceed it are paused, with a gap; 0 is no limit")
	set.Int(&s.EventBytesPerSecond, "event-bytes-per-second", pubsub.DefaultBytesPerSecond, 0, "the same in bytes")
	set.Int(&s.QueueBytes, "queue-bytes", gateway.DefaultQueueBytes, 1024, "bytes that may be queued for one browser; a browser that exceeds it is too slow (see --events-when-full)")
	set.Int(&s.QueueBytesPerOrganization, "queue-bytes-per-organization", gateway.DefaultQueueBytesPerOrganization, 1024, "bytes that may wait for all browsers of one organization; an event that waits for several counts once")
	set.Int(&s.ReceiveBytesPerOrganization, "receive-bytes-per-organization", gateway.DefaultReceiveBytesPerOrganization, 128<<10, "bytes of unhandled messages from all browsers of one organization; a connection that exceeds it is closed with 4429")
	set.Int(&s.PresenceBytesPerOrganization, "presence-bytes-per-organization", presence.DefaultBytesPerOrganization, 64<<10, "bytes of memory for the groups of one organization and the users who are present in them; further connections do not count as present, and watchers get an error")
	set.Choice(&s.WhenFull, "events-when-full", consumer.WhenFullNames()[0], consumer.WhenFullNames(), "what to drop at /ws/events when a browser is too slow: the connection, the oldest events (with a gap frame), or all but the latest event of each group and type")
	set.Bool(&s.Compress, "compress", false, "use permessage-deflate with browsers that offer it")
	set.Int(&s.CompressThreshold, "compress-threshold", gateway.DefaultCompressThreshold, 1, "smallest event that is compressed, in bytes")
	set.Float(&s.FramesPerSecond, "frames-per-second", gateway.DefaultFramesPerSecond, "frames per second that a browser may send on average")
	set.Int(&s.FrameBurst, "frame-burst", gateway.DefaultFrameBurst, 1, "frames that a browser may send at once")
	set.Int(&s.Groups, "groups-per-connection", gateway.DefaultGroupsPerConnection, 1, "groups that a connection may join")
	set.Int(&s.MaxConnections, "max-connections", 0, 0, "maximum connections of this node; 0 derives it from the limit of open files: about 256 less than that limit, but at least a quarter of it")
	set.Int(&s.MaxPerOrganization, "max-per-organization", 10000, 0, "maximum connections of one organization on all nodes together, unless the field max_connections of its hash in Redis is a number; 0 is no limit")
	set.Int(&s.MaxPerUser, "max-per-user", 100, 0, "maximum connections of one user on this node; 0 is no limit")
	set.Int(&s.HandshakesPerSecond, "handshakes-per-second", 0, 0, "connections that this node admits per second, a tenth of them at once; further handshakes get 503 with Retry-After; 0 is 1000 for each available processor")
	set.Int(&s.MemberBytesPerOrganization, "member-bytes-per-organization", quota.DefaultBytesPerOrganization, 0, "bytes that messages of one organization's members may write to Redis, over all nodes, unless the field max_member_bytes of its hash in Redis is a number; refills over 24 h; 0 is no limit")
	set.Int(&s.MemberBytesPerUser, "member-bytes-per-user", quota.DefaultBytesPerUser, 0, "the same for one user in one organization")
	set.Int(&s.TasksPerOrganization, "tasks-per-organization", task.DefaultWaiting, 0, "tasks of each kind that may wait for one organization, unless the field max_tasks of its hash in Redis is a number; 0 is no limit")
	set.Int(&s.TaskBytesPerOrganization, "task-bytes-per-organization", task.DefaultWaitingBytes, 0, "the same in bytes; the field is max_task_bytes")
	set.Duration(&s.PingInterval, "ping-interval", gateway.DefaultPingInterval, time.Second, "how long a browser may be silent before the gateway pings it")
	set.Duration(&s.PongTimeout, "pong-timeout", gateway.DefaultPongTimeout, time.Second, "how long to wait for the pong before closing the connection")
	set.Duration(&s.MessageTimeout, "message-timeout", gateway.DefaultMessageTimeout, time.Second, "how long a browser may take to send one message, from its first byte to its last")
	set.Duration(&s.IdleTimeout, "idle-timeout", 0, 0, "close a connection whose page sends no message for this long (pongs do not count); 0 is never")
	set.Duration(&s.WriteTimeout, "write-timeout", gateway.DefaultWriteTimeout, time.Second, "maximum time for a single write to a browser")
	set.Duration(&s.CloseTimeout, "close-timeout", gateway.DefaultCloseTimeout, 100*time.Millisecond, "maximum time between the decision to close a connection and its end")
	set.Duration(&s.HookTimeout, "hook-timeout", gateway.DefaultHookTimeout, 100*time.Millisecond, "maximum time for the Connect hook of a consumer, and for messages that wait when a browser leaves")
}

// CheckAddress checks that a setting is the address of a listener.
func CheckAddress(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err != nil || port == "" {
		return errors.New("must be HOST:PORT or :PORT")
	}
	if n, err := strconv.Atoi(port); err == nil && (n < 0 || n > math.MaxUint16) { // else it is the name of a service
		return fmt.Errorf("has port %q: must be a number from 0 to 65535", port)
	}
	return nil
}

// parseOrganization parses an organization argument.
func parseOrganization(text string) (orgctx.ID, error) {
	org, err := orgctx.ParseID(text)
	if err != nil {
		return orgctx.ID{}, misuse(fmt.Errorf("organization %q: %w", text, err))
	}
	return org, nil
}
