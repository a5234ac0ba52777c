package redisclient

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Options say how to reach one Redis. Errors call them by their settings, whose names begin with
// Name.
type Options struct {
	// Name is that of the setting with the URL, such as redis or redis-state.
	Name string
	// URL says where the server is, the user, the database, and everything else that go-redis reads
	// there.
	URL string
	// Password is for one that does not stand in the URL.
	Password string
	// Cluster has addresses of some members of a Cluster.
	Cluster []string
	// Sentinels have the address of the master called SentinelMaster. They never see Password.
	Sentinels                                      []string
	SentinelMaster, SentinelUser, SentinelPassword string
	// CA, Cert and Key are files of certificates, for a URL that begins with rediss://.
	CA, Cert, Key string
}

// CheckAddresses checks a list of HOST:PORT.
func CheckAddresses(list []string) error {
	for _, address := range list {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || !validPort(port) {
			return fmt.Errorf("%q is not HOST:PORT", address)
		}
	}
	return nil
}

// validPort reports whether a text is the number of a port.
func validPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// Check holds the options against each other. Without a name they are not used, and nothing is
// wrong.
func (r Options) Check() error {
	if r.Name == "" {
		return nil
	}
	var errs []error
	wrong := func(is bool, format string) {
		if is {
			errs = append(errs, errors.New(strings.ReplaceAll(format, "--redis", "--"+r.Name)))
		}
	}
	if r.URL == "" {
		wrong(r.Password+r.SentinelMaster+r.SentinelUser+r.SentinelPassword+r.CA+r.Cert+r.Key != "" || len(r.Cluster)+len(r.Sentinels) > 0,
			"--redis: must be set if another setting that begins with --redis- is set")
		return errors.Join(errs...)
	}
	o, err := parseURL(r.Name, r.URL)
	plain := err == nil && o.TLSConfig == nil // the URL's own check reports a wrong URL
	wrong(plain && r.CA+r.Cert+r.Key != "", "--redis-tls-ca, --redis-tls-cert and --redis-tls-key: require a rediss:// URL in --redis")
	wrong((r.Cert == "") != (r.Key == ""), "--redis-tls-cert and --redis-tls-key: must be set together")
	wrong((len(r.Sentinels) == 0) != (r.SentinelMaster == ""), "--redis-sentinel-master and --redis-sentinels: must be set together")
	wrong(len(r.Sentinels) == 0 && r.SentinelPassword != "", "--redis-sentinel-password: requires --redis-sentinels")
	wrong(r.SentinelPassword == "" && r.SentinelUser != "", "--redis-sentinel-user: requires --redis-sentinel-password")
	wrong(err == nil && o.Password != "" && r.Password != "", "--redis-password: the URL in --redis also has a password (remove one of them)")
	wrong(len(r.Cluster) > 0 && len(r.Sentinels) > 0, "--redis-cluster and --redis-sentinels: a Cluster has no Sentinels (set only one of them)")
	wrong(len(r.Cluster) > 0 && err == nil && o.DB != 0, "--redis: a Cluster has only database 0 (remove the number from the URL)")
	wrong(r.Name == "redis" && err == nil && o.Protocol == 2, "--redis: protocol=2 is not supported, because subscriptions need RESP3 (remove it)")
	return errors.Join(append(errs, r.readTLS(new(tls.Config)))...)
}
