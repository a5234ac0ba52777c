package app

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/redis/go-redis/v9"

	"orgcast/internal/directory"
	"orgcast/internal/keyspace"
	"orgcast/internal/lease"
	"orgcast/internal/session"
)

// SessionStore is what both kinds of session store can do.
type SessionStore interface {
	session.Store
	Mint(ctx context.Context, g session.Grant) (*http.Cookie, error)
}

// NewSessionStore makes the store that the options name.
func NewSessionStore(o *Options, client redis.UniversalClient, keys keyspace.Keyspace) (SessionStore, error) {
	return newSessionStore(o, client, keys, new(reloadSteps))
}

func newSessionStore(o *Options, client redis.UniversalClient, keys keyspace.Keyspace, reloads *reloadSteps) (SessionStore, error) {
	so := session.Options{Name: o.SessionCookie, MaxAge: o.SessionMaxAge, Insecure: o.SessionInsecure}
	if o.SessionStore == "redis" {
		return session.NewRedisStore(client, keys, so)
	}
	pairs, err := ParseKeys(o.SessionKeys)
	if err != nil {
		return nil, err
	}
	store, err := session.NewCookieStore(pairs, so)
	if err != nil {
		return nil, err
	}
	reloads.add(func(next *Options) (func(), error) {
		pairs, err := ParseKeys(next.SessionKeys)
		if err != nil {
			return nil, fmt.Errorf("--session-keys: %w", err)
		}
		return store.PrepareKeys(pairs)
	})
	return store, nil
}

// MinSecret is the shortest key: 32 bytes are the strength of SHA-256.
const MinSecret = 32

// ParseKeys reads the key pairs of signed cookies.
func ParseKeys(text string) ([]session.KeyPair, error) {
	var pairs []session.KeyPair
	for i, part := range strings.Split(text, ",") {
		hashText, blockText, _ := strings.Cut(strings.TrimSpace(part), ":")
		hash, err1 := keyBytes(hashText)
		block, err2 := keyBytes(blockText)
		switch {
		case err1 != nil || err2 != nil:
			return nil, fmt.Errorf("key %d: hex- must be followed by hexadecimal digits", i+1)
		case len(hash) < MinSecret:
			return nil, fmt.Errorf("key %d: the hash key must have at least %d bytes", i+1, MinSecret)
		case len(block) != 0 && len(block) != 16 && len(block) != 24 && len(block) != 32:
			return nil, fmt.Errorf("key %d: the block key must have 16, 24 or 32 bytes", i+1)
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

// newDirectory makes the directory that the options name.
func newDirectory(o *Options, clients *Clients, keys keyspace.Keyspace) (directory.Directory, error) {
	if o.Directory == "redis" {
		return directory.NewRedis(clients.State, keys)
	}
	return directory.TrustSession{}, nil
}

// NewRevoker makes what changes records and announces it.
func NewRevoker(o *Options, clients *Clients, keys keyspace.Keyspace) (*lease.Revoker, error) {
	revocations, err := session.NewRevocations(clients.State, keys)
	if err != nil {
		return nil, err
	}
	r := &lease.Revoker{Announcer: lease.NewAnnouncer(clients.Events, keys), Revocations: revocations, SessionLife: o.SessionMaxAge}
	if o.Directory == "redis" {
		if r.Members, err = directory.NewRedis(clients.State, keys); err != nil {
			return nil, err
		}
	}
	return r, nil
}
