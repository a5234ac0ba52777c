package app

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

// ticketPeriod is how long new tickets are sealed with one key. They are accepted for one to two
// periods, after which a browser makes a full handshake again.
const ticketPeriod = 12 * time.Hour

// tickets are the keys of TLS session tickets (RFC 8446, section 4.6.1). They follow from a secret
// and the time, so nodes with the same secret accept each other's tickets, also after a restart,
// and need nothing else for it. Without a secret, crypto/tls makes its own keys.
type tickets struct {
	now func() time.Time // nil is time.Now

	mu     sync.Mutex
	secret string
	period int64
	config *tls.Config // of this period; nil before the first handshake and without a secret
}

// set replaces the secret. An empty one ends the keys. Tickets of another secret are not accepted
// anymore.
func (t *tickets) set(secret string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.secret != secret {
		t.secret, t.config = secret, nil
	}
}

// configure returns base with the keys of now, or nil if there is no secret.
func (t *tickets) configure(base *tls.Config) (*tls.Config, error) {
	now := time.Now
	if t.now != nil {
		now = t.now
	}
	period := now().Unix() / int64(ticketPeriod/time.Second)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.secret == "":
		return nil, nil //nolint:nilnil // as tls.Config.GetConfigForClient
	case t.config != nil && t.period == period:
		return t.config, nil
	}
	var keys [][32]byte // new tickets use the first
	for _, p := range []int64{period, period - 1, period + 1} {
		key, err := hkdf.Key(sha256.New, []byte(t.secret), nil, fmt.Sprintf("orgcast.v1.tls-ticket\n%d", p), 32)
		if err != nil {
			return nil, fmt.Errorf("keys of TLS tickets: %w", err)
		}
		keys = append(keys, [32]byte(key))
	}
	config := base.Clone()
	config.GetConfigForClient = nil
	config.SetSessionTicketKeys(keys)
	t.config, t.period = config, period
	return config, nil
}
