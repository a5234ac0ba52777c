package main

import (
	"cmp"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"time"

	"orgcast/internal/config"
	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/lease"
	"orgcast/internal/orgctx"
	"orgcast/internal/pubsub"
	"orgcast/internal/quota"
	"orgcast/internal/session"
)

// Values of --on-violation.
const (
	violationUnready = "unready"
	violationCount   = "count"
)

// settings are those of the whole process; subcommands declare the parts that they need.
type settings struct {
	listen, adminListen string
	publicHealth        string
	allowUnknownEnv     bool
	tlsCert, tlsKey     string
	logLevel, logFormat string

	redis, state redisSettings
	prefix       string

	sessionStore, sessionCookie string
	sessionKeys                 string
	sessionMaxAge               time.Duration
	sessionInsecure             bool
	directory                   string
	origins, trustedProxies     []string

	consumers                      []string
	policy, signingKey, publishKey string

	maxFrame, maxEvent, queueBytes                 int
	eventsPerSecond, eventBytesPerSecond           int
	framesPerSecond                                float64
	frameBurst, groups                             int
	maxConnections, maxPerOrganization, maxPerUser int
	handshakesPerSecond                            int
	memberBytesPerOrganization, memberBytesPerUser int
	queueBytesPerOrganization, compressThreshold   int
	receiveBytesPerOrganization                    int
	compress                                       bool
	whenFull                                       string
	pingInterval, pongTimeout, idleTimeout         time.Duration
	messageTimeout                                 time.Duration
	writeTimeout, closeTimeout, hookTimeout        time.Duration
	leasePeriod, leaseDeadline                     time.Duration
	drainWait, drain                               time.Duration

	onViolation string

	moreRoutes []namedRoute // in addition to ours, whatever --consumers says; for tests
	reloads    []reloadStep // steps of a reload after SIGHUP; see onReload
}

// minSecret is the shortest key: 32 bytes are the strength of SHA-256.
const minSecret = 32

func checkSecret(text string) error {
	if len(text) < minSecret {
		return fmt.Errorf("is shorter than %d characters", minSecret)
	}
	return nil
}

func (s *settings) declareLogging(set *config.Set) {
	set.Choice(&s.logLevel, "log-level", "info", []string{"debug", "info", "warn", "error"}, "minimum log level")
	set.Choice(&s.logFormat, "log-format", "json", []string{"json", "console"}, "log format")
}

func (s *settings) declareSession(set *config.Set) {
	set.Choice(&s.sessionStore, "session-store", "cookie", []string{"cookie", "redis"},
		"where sessions live: all in a signed cookie (gorilla CookieStore), or in Redis under a random key")
	set.String(&s.sessionCookie, "session-cookie", session.DefaultName, "name of the session cookie", nil)
	set.Secret(&s.sessionKeys, "session-keys",
		"keys of signed cookies, parted by commas; the first signs, the others are older ones; each is HASHKEY or HASHKEY:BLOCKKEY, a hash key having 32 characters or more and a block key 16, 24 or 32; hex-… stands for bytes",
		func(text string) error { _, err := parseKeys(text); return err })
	s.declareSessionLife(set)
	set.Bool(&s.sessionInsecure, "session-insecure", false, "mint cookies without the Secure attribute, for plain HTTP in development")
}

func (s *settings) declareSessionLife(set *config.Set) {
	set.Duration(&s.sessionMaxAge, "session-max-age", session.DefaultMaxAge, time.Second, "maximum lifetime of a session, and how long its end is remembered")
}

// parseKeys reads the key pairs of signed cookies.
func parseKeys(text string) ([]session.KeyPair, error) {
	var pairs []session.KeyPair
	for i, part := range strings.Split(text, ",") {
		hashText, blockText, _ := strings.Cut(strings.TrimSpace(part), ":")
		hash, err1 := keyBytes(hashText)
		block, err2 := keyBytes(blockText)
		switch {
		case err1 != nil || err2 != nil:
			return nil, fmt.Errorf("key %d: hex- is not followed by hexadecimal digits", i+1)
		case len(hash) < minSecret:
			return nil, fmt.Errorf("key %d: hash key is shorter than %d bytes", i+1, minSecret)
		case len(block) != 0 && len(block) != 16 && len(block) != 24 && len(block) != 32:
			return nil, fmt.Errorf("key %d: block key has not 16, 24 or 32 bytes", i+1)
		}
		pairs = append(pairs, session.KeyPair{Hash: hash, Block: block})
	}
	return pairs, nil
}

func keyBytes(text string) ([]byte, error) {
	if digits, ok := strings.CutPrefix(text, "hex-"); ok {
		return hex.DecodeString(digits)
	}
	return []byte(text), nil
}

func (s *settings) declareDirectory(set *config.Set) {
	set.Choice(&s.directory, "directory", "redis", []string{"redis", "session"},
		"source of truth for active organizations and memberships: hashes in Redis, or the session alone")
}

func (s *settings) declareServe(set *config.Set) {
	set.String(&s.listen, "listen", ":8080", "address of the public listener", checkAddress)
	set.String(&s.adminListen, "admin-listen", "127.0.0.1:9090", "address of the private listener: health, metrics, profiles, publishing", checkAddress)
	set.Bool(&s.allowUnknownEnv, "allow-unknown-env", false, "accept unknown environment variables that begin with ORGCAST_")
	set.String(&s.publicHealth, "public-health", "", "path on the public listener for load balancers, such as /healthz; answers 200, or 503 while this node drains; default: none", checkPublicHealth)
	set.String(&s.tlsCert, "tls-cert", "", "certificate file; without it the public listener is plain, for use behind a proxy", nil)
	set.String(&s.tlsKey, "tls-key", "", "key file of the certificate", nil)
	s.declareLogging(set)
	s.declareRedis(set)
	s.declareState(set)
	s.declareSession(set)
	s.declareDirectory(set)
	set.List(&s.origins, "origins", "",
		"pages that may connect, parted by commas: https://app.example.com, https://*.example.com; none admits programs that send no Origin", func(list []string) error {
			_, err := gateway.ParseOrigins(list)
			return err
		})
	set.List(&s.trustedProxies, "trusted-proxies", "",
		"proxies whose X-Forwarded-For is believed, comma-separated addresses and networks: 10.0.0.0/8, 2001:db8::1; the log then shows the client's address; default: none", func(list []string) error {
			_, err := gateway.ParseProxies(list)
			return err
		})
	set.List(&s.consumers, "consumers", everyConsumer, "consumers to enable, comma-separated, or all (docs/consumers.md)", checkConsumers)
	set.String(&s.policy, "events-policy", consumer.DefaultPolicy,
		"who may subscribe to which group at /ws/events: rules PATTERN=WHO parted by commas, the first that fits decides; WHO is member, self, role:NAME or signed", func(text string) error {
			_, err := consumer.ParsePolicy(text, nil)
			return err
		})
	set.Secret(&s.signingKey, "signing-key", "key of the tokens for groups with the policy signed; without it no token is valid", checkSecret)
	set.Secret(&s.publishKey, "publish-key", "bearer key of POST /v1/publish and POST /v1/revoke on the private listener; without it the paths do not exist", checkSecret)
	s.declareLimits(set)
	set.Choice(&s.onViolation, "on-violation", violationUnready, []string{violationUnready, violationCount},
		"after an isolation violation, report not ready until a restart, or only count it")
	set.Duration(&s.leasePeriod, "lease-period", lease.DefaultPeriod, 100*time.Millisecond, "how often each open connection's session and membership are re-checked")
	set.Duration(&s.leaseDeadline, "lease-deadline", lease.DefaultDeadline, time.Second, "how long a connection may stay open while they cannot be verified")
	set.Duration(&s.drainWait, "drain-wait", 2*time.Second, 0, "after SIGTERM, keep serving but report not ready for this long, so load balancers stop routing here")
	set.Duration(&s.drain, "drain", 10*time.Second, 0, "then close connections evenly over this period")
}

func (s *settings) declareLimits(set *config.Set) {
	set.Int(&s.maxFrame, "max-frame", 64<<10, 128, "largest frame of a browser, in bytes")
	set.Int(&s.maxEvent, "max-event", event.DefaultMaxSize, 128, "largest event, in bytes")
	set.Int(&s.eventsPerSecond, "events-per-second", pubsub.DefaultEventsPerSecond, 0,
		"events per second that this node accepts from one organization in the long run; groups that exceed it are paused, with a gap; 0 is no limit")
	set.Int(&s.eventBytesPerSecond, "event-bytes-per-second", pubsub.DefaultBytesPerSecond, 0, "the same in bytes")
	set.Int(&s.queueBytes, "queue-bytes", 1<<20, 1024, "bytes that may wait for one browser; a connection that exceeds it is closed with 4413")
	set.Int(&s.queueBytesPerOrganization, "queue-bytes-per-organization", 64<<20, 1024, "bytes that may wait for all slow browsers of one organization")
	set.Int(&s.receiveBytesPerOrganization, "receive-bytes-per-organization", 16<<20, 128<<10, "bytes of unhandled messages from all browsers of one organization; a connection that exceeds it is closed with 4429")
	set.Choice(&s.whenFull, "events-when-full", consumer.WhenFullNames()[0], consumer.WhenFullNames(), "what to drop at /ws/events when a browser is too slow: the connection, the oldest events (with a gap frame), or all but the latest event of each group and type")
	set.Bool(&s.compress, "compress", false, "agree on permessage-deflate with browsers that offer it")
	set.Int(&s.compressThreshold, "compress-threshold", 512, 1, "smallest event that is compressed, in bytes")
	set.Float(&s.framesPerSecond, "frames-per-second", 20, "frames per second that a browser may send in the long run")
	set.Int(&s.frameBurst, "frame-burst", 100, 1, "frames that it may send at once")
	set.Int(&s.groups, "groups-per-connection", 100, 1, "groups that a connection may join")
	set.Int(&s.maxConnections, "max-connections", 0, 0, "maximum connections of this node; 0 derives it from the limit of open files: about 256 less than that limit, but at least a quarter of it")
	set.Int(&s.maxPerOrganization, "max-per-organization", 10000, 0, "maximum connections of one organization on all nodes together, unless the field max_connections of its hash in Redis is a number; 0 is no limit")
	set.Int(&s.maxPerUser, "max-per-user", 100, 0, "maximum connections of one user on this node; 0 is no limit")
	set.Int(&s.handshakesPerSecond, "handshakes-per-second", 0, 0, "connections that this node admits per second, a tenth of them at once; further handshakes get 503 with Retry-After; 0 is 1000 for each available processor")
	set.Int(&s.memberBytesPerOrganization, "member-bytes-per-organization", quota.DefaultBytesPerOrganization, 0, "bytes that messages of one organization's members may write to Redis, over all nodes, unless the field max_member_bytes of its hash in Redis is a number; refills over 24 h; 0 is no limit")
	set.Int(&s.memberBytesPerUser, "member-bytes-per-user", quota.DefaultBytesPerUser, 0, "the same for one user in one organization")
	set.Duration(&s.pingInterval, "ping-interval", 25*time.Second, time.Second, "silence after which the gateway pings a browser")
	set.Duration(&s.pongTimeout, "pong-timeout", 10*time.Second, time.Second, "how long to wait for the pong")
	set.Duration(&s.messageTimeout, "message-timeout", 30*time.Second, time.Second, "how long a browser may take to send one message, from its first byte to its last")
	set.Duration(&s.idleTimeout, "idle-timeout", 0, 0, "close a connection whose page sends no message for this long (pongs do not count); 0 is never")
	set.Duration(&s.writeTimeout, "write-timeout", 10*time.Second, time.Second, "maximum time for a single write to a browser")
	set.Duration(&s.closeTimeout, "close-timeout", 5*time.Second, 100*time.Millisecond, "maximum time between the decision to close a connection and its end")
	set.Duration(&s.hookTimeout, "hook-timeout", 10*time.Second, 100*time.Millisecond, "maximum time for the Connect hook of a consumer, and for messages that wait when a browser leaves")
}

// checkServe holds the settings against each other.
func (s *settings) checkServe() error {
	errs := []error{s.checkRedis(), s.checkFiles(s.files())}
	if origins, err := gateway.ParseOrigins(s.origins); err == nil && origins.Empty() {
		errs = append(errs, errors.New("--origins: cookie sessions need the list of pages that may connect, or any page could use its visitors' sessions"))
	}
	if _, port, _ := net.SplitHostPort(s.listen); s.listen == s.adminListen && port != "0" {
		errs = append(errs, errors.New("--listen and --admin-listen: must differ, because the private listener must not be reachable from outside"))
	}
	if s.sessionStore == "cookie" && s.sessionKeys == "" {
		errs = append(errs, errors.New("--session-keys: --session-store=cookie needs the keys of the web application"))
	}
	if s.leaseDeadline <= s.leasePeriod {
		errs = append(errs, errors.New("--lease-deadline: is not longer than --lease-period"))
	}
	if s.receiveBytesPerOrganization < 2*s.maxFrame {
		errs = append(errs, errors.New("--receive-bytes-per-organization: must be at least twice --max-frame"))
	}
	if (s.tlsCert == "") != (s.tlsKey == "") {
		errs = append(errs, errors.New("--tls-cert and --tls-key: one is of no use without the other"))
	} else if s.tlsCert != "" {
		if _, err := tls.LoadX509KeyPair(s.tlsCert, s.tlsKey); err != nil {
			errs = append(errs, fmt.Errorf("--tls-cert and --tls-key: %w", err))
		}
	}
	return errors.Join(errs...)
}

func checkAddress(text string) error {
	if _, _, err := net.SplitHostPort(text); err != nil {
		return errors.New("is not HOST:PORT or :PORT")
	}
	return nil
}

// busOptions takes the limits over.
func (s *settings) busOptions() pubsub.Options {
	o := pubsub.Options{MaxEventSize: s.maxEvent, EventsPerSecond: float64(s.eventsPerSecond), BytesPerSecond: int64(s.eventBytesPerSecond)}
	// There zero is the default.
	if s.eventsPerSecond == 0 {
		o.EventsPerSecond = -1
	}
	if s.eventBytesPerSecond == 0 {
		o.BytesPerSecond = -1
	}
	return o
}

// handshakesPerProcessor is less than what one can do, so that open connections are served meanwhile.
const handshakesPerProcessor = 1000

// gatewayOptions takes the limits over.
func (s *settings) gatewayOptions() gateway.Options {
	return gateway.Options{
		MaxFrame: int64(s.maxFrame), FramesPerSecond: s.framesPerSecond, FrameBurst: s.frameBurst,
		QueueBytes: s.queueBytes, QueueBytesPerOrganization: s.queueBytesPerOrganization,
		ReceiveBytesPerOrganization: s.receiveBytesPerOrganization,
		Compress:                    s.compress, CompressThreshold: s.compressThreshold, GroupsPerConnection: s.groups,
		MaxConnections: cmp.Or(s.maxConnections, s.files().connections), MaxPerUser: s.maxPerUser,
		HandshakesPerSecond: float64(cmp.Or(s.handshakesPerSecond, handshakesPerProcessor*runtime.GOMAXPROCS(0))),
		PingInterval:        s.pingInterval, PongTimeout: s.pongTimeout, MessageTimeout: s.messageTimeout, IdleTimeout: s.idleTimeout,
		WriteTimeout: s.writeTimeout, CloseTimeout: s.closeTimeout, HookTimeout: s.hookTimeout,
	}
}

// parseOrganization reads an organisation from an argument.
func parseOrganization(text string) (orgctx.ID, error) {
	org, err := orgctx.ParseID(text)
	if err != nil {
		return orgctx.ID{}, fmt.Errorf("organization %q: %w", text, err)
	}
	return org, nil
}
