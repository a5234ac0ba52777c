package app

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// certificate is the certificate of a listener, and the keys of its tickets. A reload replaces
// them. Open connections and handshakes in progress keep what they began with.
type certificate struct {
	current atomic.Pointer[tls.Certificate]
	tickets tickets
}

// newCertificate reads the certificate of the public listener.
func newCertificate(o *Options, reloads *reloadSteps, registerer prometheus.Registerer) (*certificate, error) {
	c := new(certificate)
	read := func(o *Options) (apply func(), err error) {
		pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
		}
		return func() {
			c.current.Store(&pair)
			c.tickets.set(o.TLSTicketKey)
		}, nil
	}
	apply, err := read(o)
	if err != nil {
		return nil, err
	}
	apply()
	reloads.addCertificates(read)
	newExpiryMetric(registerer, c.expiry)
	return c, nil
}

// expiry returns when the certificate expires, in Unix seconds.
func (c *certificate) expiry() float64 {
	if leaf := c.current.Load().Leaf; leaf != nil { // LoadX509KeyPair sets it
		return float64(leaf.NotAfter.Unix())
	}
	return 0
}

// config returns a configuration that asks for the certificate at each handshake.
func (c *certificate) config() *tls.Config {
	config := &tls.Config{
		NextProtos:     []string{"http/1.1"},
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
		// What is written at once becomes one record. Small records would let a browser show the
		// beginning of a long answer sooner, but it shows only whole messages.
		DynamicRecordSizingDisabled: true,
	}
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.tickets.configure(config) }
	return config
}
