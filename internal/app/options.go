package app

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"orgcast/internal/gateway"
	"orgcast/internal/keyspace"
	"orgcast/internal/redisclient"
	"orgcast/internal/tracing"
)

// Values of Options.OnViolation.
const (
	ViolationUnready = "unready"
	ViolationCount   = "count"
)

// Options are the settings of a process. Package cli declares a setting for each, with its help,
// default and bounds. [Options.Check] checks combinations of settings. Fields that a process does
// not use stay empty.
type Options struct {
	// Version is the version of the program, for people.
	Version string

	// Listen and AdminListen are the addresses of the public and the private listener.
	Listen, AdminListen string
	// PublicHealth is a path of the public listener, or empty.
	PublicHealth string
	// TLSCert and TLSKey are files. Without them, the public listener does not use TLS.
	TLSCert, TLSKey string
	// TLSTicketKey is a secret that all nodes share, so that TLS sessions are resumed at any of
	// them, or empty.
	TLSTicketKey string
	// Tracing says where spans go, if anywhere.
	Tracing tracing.Options
	// LogLevel and LogFormat configure the log.
	LogLevel, LogFormat string

	// Redis is the server of events, State that of sessions, revocations, directory and quotas. If
	// State has no URL, Redis is used for both.
	Redis, State redisclient.Options
	// Prefix is the first part of every name in Redis.
	Prefix string

	// SessionStores are some of [StoreKinds], in the order in which they are asked. SessionCookies
	// are the names of their cookies. SessionKeys are the keys of signed cookies, in the form that
	// [ParseKeys] parses.
	SessionStores, SessionCookies []string
	SessionKeys                   string
	Django                        Django
	JWT                           JWT
	// SessionURL is where the web application says which user a cookie belongs to, to calls with
	// SessionURLKey.
	SessionURL, SessionURLKey string
	SessionURLBatch           int
	SessionURLTimeout         time.Duration
	// SessionCookiePick is first or last: which of several cookies with the same name the web
	// application uses.
	SessionCookiePick string
	// SessionMaxAge is the longest life of a session. If it is shorter than the web application's,
	// the end of a session is forgotten before its cookie expires.
	SessionMaxAge time.Duration
	// SessionInsecure allows cookies over plain HTTP.
	SessionInsecure bool
	// Directory is redis or session, or empty for the default that [Options.DirectoryKind] chooses.
	Directory string
	// ChannelLayer is the kind of channel layer through which a Django site sends events, core or
	// pubsub, or empty for none. LayerURLs are those of its servers, and Layer has what is the same
	// for all of them.
	ChannelLayer string
	LayerURLs    []string
	Layer        redisclient.Options
	// ChannelLayerPrefix, ChannelLayerFormat and ChannelLayerRandomPrefix are what the site's
	// CHANNEL_LAYERS says. ChannelLayerKeys has the form that [ParseLayerKeys] parses.
	ChannelLayerPrefix, ChannelLayerFormat, ChannelLayerKeys string
	ChannelLayerRandomPrefix                                 int
	// ChannelLayerQueues is how many queues this node has in the core layer.
	ChannelLayerQueues int
	// Origins may connect. TrustedProxies are believed about their clients' addresses, which are
	// only logged.
	Origins, TrustedProxies []string

	// Consumers are names of [Route]s, or all.
	Consumers []string
	// Extension is what an embedding program adds.
	Extension Extension
	// RoutesFile declares further routes. Empty means none.
	RoutesFile string
	// Policy says who may subscribe to which group at /ws/events; SigningKey is the key of its
	// tokens.
	Policy, SigningKey string
	// PresencePolicy says in which groups of /ws/events members see who else is there.
	PresencePolicy string
	// PublishKey enables publishing and revoking on the private listener. Without it, these paths
	// do not exist.
	PublishKey string
	// AdminKey opens what reads or changes more than one publication on the private listener.
	// Without it, these paths answer only programs on the same machine, while AdminListen is a
	// loopback address.
	AdminKey string
	// UsageRetention is how long the usage of an hour is kept. 0 keeps nothing.
	UsageRetention time.Duration
	// MetricsOrganizations is how many organizations /metrics/organizations shows. 0 turns it off.
	MetricsOrganizations int

	Webhooks Webhooks

	// ConsolePath is the path of the public listener for the console of organizations, or empty.
	// ConsoleKey is the key of its tokens.
	ConsolePath, ConsoleKey string

	// Limits; see package gateway. Sizes are in bytes.
	MaxFrame, MaxEvent, QueueBytes                 int
	EventsPerSecond, EventBytesPerSecond           int
	FramesPerSecond                                float64
	FrameBurst, Groups                             int
	MaxConnections, MaxPerOrganization, MaxPerUser int
	HandshakesPerSecond                            int
	MemberBytesPerOrganization, MemberBytesPerUser int
	TasksPerOrganization, TaskBytesPerOrganization int
	QueueBytesPerOrganization, CompressThreshold   int
	ReceiveBytesPerOrganization                    int
	PresenceBytesPerOrganization                   int
	Compress                                       bool
	WhenFull                                       string
	PingInterval, PongTimeout, IdleTimeout         time.Duration
	MessageTimeout                                 time.Duration
	WriteTimeout, CloseTimeout, HookTimeout        time.Duration
	LeasePeriod, LeaseDeadline                     time.Duration
	ExplainBytesPerOrganization, ExplainBytes      int
	DrainWait, Drain                               time.Duration

	// OnViolation is the effect of an isolation violation on the node.
	OnViolation string
}

// Check checks combinations of a gateway's options. Errors name the settings.
func (o *Options) Check() error {
	errs := []error{o.CheckRedis(), o.checkFiles(o.files()), o.checkRoutes(), o.CheckSessions(), o.checkChannelLayer()}
	if origins, err := gateway.ParseOrigins(o.Origins); err == nil && origins.Empty() {
		missing := errors.New("--origins: required: list the origins of the pages that may connect, or any page could use its visitors' sessions")
		if len(o.Origins) > 0 {
			missing = errors.New("--origins: must list an origin next to none, which admits only programs")
		}
		errs = append(errs, missing)
	}
	if _, port, _ := net.SplitHostPort(o.Listen); o.Listen == o.AdminListen && port != "0" {
		errs = append(errs, errors.New("--listen and --admin-listen: must differ, because the private listener must not be reachable from outside"))
	}
	if o.AdminKey != "" && o.AdminKey == o.PublishKey {
		errs = append(errs, errors.New("--admin-key and --publish-key: must differ, because back ends that publish must not read other organizations"))
	}
	errs = append(errs, o.checkConsole(), o.checkWebhooks())
	if o.LeaseDeadline <= o.LeasePeriod {
		errs = append(errs, errors.New("--lease-deadline: must be longer than --lease-period"))
	}
	if o.ReceiveBytesPerOrganization < 2*o.MaxFrame {
		errs = append(errs, errors.New("--receive-bytes-per-organization: must be at least twice --max-frame"))
	}
	if o.TLSTicketKey != "" && o.TLSCert == "" {
		errs = append(errs, errors.New("--tls-ticket-key: requires --tls-cert"))
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		errs = append(errs, errors.New("--tls-cert and --tls-key: must be set together"))
	} else if o.TLSCert != "" {
		if _, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey); err != nil {
			errs = append(errs, fmt.Errorf("--tls-cert and --tls-key: %w", err))
		}
	}
	return errors.Join(errs...)
}

// CheckRedis checks combinations of the options of each Redis.
func (o *Options) CheckRedis() error {
	return errors.Join(o.Redis.Check(), o.State.Check())
}

// Keyspace returns the names in Redis, with channel names for its database.
func (o *Options) Keyspace() (keyspace.Keyspace, error) {
	keys, err := keyspace.New(o.Prefix)
	if err != nil {
		return keyspace.Keyspace{}, err
	}
	database, err := o.Redis.Database()
	if err != nil {
		return keyspace.Keyspace{}, err
	}
	return keys.InDatabase(database), nil
}
