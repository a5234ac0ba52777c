package app

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"
)

// certificate is the certificate of a listener. A reload replaces it. Open connections and
// handshakes in progress keep the one that they began with.
type certificate struct {
	current atomic.Pointer[tls.Certificate]
}

// newCertificate reads the certificate of the public listener.
func newCertificate(o *Options, reloads *reloadSteps) (*certificate, error) {
	c := new(certificate)
	read := func(o *Options) (apply func(), err error) {
		pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
		}
		return func() { c.current.Store(&pair) }, nil
	}
	apply, err := read(o)
	if err != nil {
		return nil, err
	}
	apply()
	reloads.add(read)
	return c, nil
}

// config returns a configuration that asks for the certificate at each handshake.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}
