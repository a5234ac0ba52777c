package redisclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/redis/go-redis/v9"
)

// parse parses the URL.
func (r Options) parse() (*redis.Options, error) {
	o, err := parseURL(r.Name, r.URL)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", r.Name, err)
	}
	return o, nil
}

// parseURL reads the URL in a setting. Errors do not show it: it may hold a password, and where
// that begins and ends is the question if it was not encoded.
func parseURL(name, text string) (*redis.Options, error) {
	u, err := url.Parse(text)
	// With # or / or ? in the password the rest of it, and the host, seem to be of another part.
	stray := err == nil && u.Scheme != "unix" && (u.Fragment != "" || strings.Contains(u.Path+u.RawQuery, "@"))
	if stray || err != nil && strings.Contains(text, "@") {
		return nil, fmt.Errorf("is not a valid Redis URL: percent-encode the password's special characters (# is %%23, / is %%2F, %% is %%25, ^ is %%5E, ? is %%3F), or put it unencoded into a file and set --%s-password-file", name)
	}
	o, err := redis.ParseURL(text)
	switch {
	case err == nil && u.Port() != "" && !validPort(u.Port()):
		return nil, errors.New("is not a valid Redis URL: the port must be a number from 1 to 65535")
	case err != nil && strings.Contains(err.Error(), "invalid database number"):
		return nil, errors.New("is not a valid Redis URL: the database must be a number")
	case err != nil:
		return nil, errors.New("is not a valid Redis URL, such as redis://USER:PASSWORD@HOST:PORT/DATABASE")
	case o.DB < 0:
		return nil, errors.New("is not a valid Redis URL: the database must be at least 0")
	}
	return o, nil
}

// readTLS reads the files of certificates into the configuration, nil without TLS.
func (r Options) readTLS(c *tls.Config) error {
	if r.CA != "" {
		text, err := os.ReadFile(r.CA)
		if err != nil {
			return fmt.Errorf("--%s-tls-ca: %w", r.Name, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("--%s-tls-ca: holds no PEM certificate", r.Name)
		}
	}
	if r.Cert != "" && r.Key != "" {
		own, err := tls.LoadX509KeyPair(r.Cert, r.Key)
		if err != nil {
			return fmt.Errorf("--%s-tls-cert: %w", r.Name, err)
		}
		c.Certificates = []tls.Certificate{own}
	}
	return nil
}

// CheckURL checks the URL in the setting called name. Errors do not show it, since it may hold a
// password.
func CheckURL(name, text string) error {
	_, err := parseURL(name, text)
	return err
}

// Database returns the number of the database in the URL.
func (r Options) Database() (int, error) {
	o, err := r.parse()
	if err != nil {
		return 0, err
	}
	return o.DB, nil
}
