package cli

import (
	"errors"

	"orgcast/internal/app"
	"orgcast/internal/config"
	"orgcast/internal/keyspace"
	"orgcast/internal/redisclient"
)

// declareRedis declares the settings of Redis.
func (s *settings) declareRedis(set *config.Set) {
	declareServer(set, &s.Redis, "redis", "redis://127.0.0.1:6379/0", "Redis URL, redis://USER:PASSWORD@HOST:PORT/DATABASE, with the password percent-encoded; rediss:// for TLS")
	set.String(&s.Prefix, "prefix", keyspace.DefaultPrefix, "first part of every name in Redis", func(text string) error {
		_, err := keyspace.New(text)
		return err
	})
}

// declareState declares the settings of the server of sessions, revocations, directory and quotas,
// for subcommands that use it.
func (s *settings) declareState(set *config.Set) {
	declareServer(set, &s.State, "redis-state", "", "a second Redis server for sessions, revocations, directory and quotas, so that they keep working when events fill --redis; default: --redis")
}

// declareServer declares the settings of one Redis: a server, the master that Sentinels monitor, or
// a Cluster. It is used for both --redis and --redis-state.
func declareServer(set *config.Set, r *redisclient.Options, name, fallback, help string) {
	r.Name = name
	declareURL(set, r, fallback, help)
	declarePassword(set, r, name)
	set.List(&r.Cluster, name+"-cluster", "", "seed nodes of a Redis Cluster, HOST:PORT, comma-separated; the rest are discovered. Credentials and TLS come from --"+name, redisclient.CheckAddresses)
	declareAccess(set, r, name)
}

func declarePassword(set *config.Set, r *redisclient.Options, name string) {
	set.Secret(&r.Password, name+"-password", "Redis password, not percent-encoded; use it instead of a password in --"+name, nil)
}

// declareAccess declares how to reach a server through Sentinels and with TLS.
func declareAccess(set *config.Set, r *redisclient.Options, name string) {
	set.String(&r.SentinelMaster, name+"-sentinel-master", "", "name of the master that the Sentinels watch. They provide its address; everything else comes from --"+name, nil)
	set.List(&r.Sentinels, name+"-sentinels", "", "addresses of the Sentinels, HOST:PORT, comma-separated", redisclient.CheckAddresses)
	set.String(&r.SentinelUser, name+"-sentinel-user", "", "user name for the Sentinels; default: their default user", nil)
	set.Secret(&r.SentinelPassword, name+"-sentinel-password", "password for the Sentinels themselves, if they require one; the Redis password is never sent to them", nil)
	set.Path(&r.CA, name+"-tls-ca", "", "CA certificates (PEM) used to verify Redis; default: the system pool", nil)
	set.Path(&r.Cert, name+"-tls-cert", "", "client certificate file, for a Redis that requires one", nil)
	set.Path(&r.Key, name+"-tls-key", "", "key file of the client certificate", nil)
}

// declareURL declares the setting with the URL of a Redis.
func declareURL(set *config.Set, r *redisclient.Options, fallback, help string) {
	set.URL(&r.URL, r.Name, fallback, help, func(text string) error {
		if text == "" && fallback == "" {
			return nil
		}
		return redisclient.CheckURL(r.Name, text)
	})
}

// redisCommand is a subcommand that reads its arguments and then works on Redis.
type redisCommand struct {
	settings *settings
	set      *config.Set
	// read parses the arguments. The error is [ErrUsage] if there are too many or too few.
	read func(args []string) error
	// do does the work.
	do func(clients *app.Clients, keys keyspace.Keyspace) error
}

// run runs the subcommand.
func (c redisCommand) run(p *Process, args []string) error {
	rest, err := p.Parse(c.set, args, c.settings.CheckRedis)
	if err != nil {
		return err
	}
	if err := c.read(rest); errors.Is(err, ErrUsage) {
		return p.misused(c.set, rest)
	} else if err != nil {
		return misuse(err)
	}
	keys, err := c.settings.Keyspace()
	if err != nil {
		return err
	}
	clients, err := c.settings.Connect(0)
	if err != nil {
		return err
	}
	defer func() { _ = clients.Close() }() // everything has been written by then
	return c.do(clients, keys)
}
