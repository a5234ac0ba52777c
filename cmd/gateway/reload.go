package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/config"
)

// reloadStep prepares a part of the process for settings whose files were read again, and returns a
// function that applies them. apply must not fail and must not wait: all steps are prepared first, and
// applied only if none of them found a mistake. A nil apply means that there is nothing to do.
type reloadStep func(next *settings) (apply func(), err error)

// onReload registers a step. Parts that keep what a file said (a key, a password, a certificate)
// register one while they are made. Only what files say can differ between s and next: arguments and
// environment of a process stay as they are.
func (s *settings) onReload(step reloadStep) { s.reloads = append(s.reloads, step) }

// prepareReload runs all steps and returns what applies them, or every mistake that they found.
func (s *settings) prepareReload(next *settings) (apply func(), err error) {
	var applies []func()
	var errs []error
	for _, step := range s.reloads {
		apply, err := step(next)
		if errs = append(errs, err); apply != nil {
			applies = append(applies, apply)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return func() {
		for _, apply := range applies {
			apply()
		}
	}, nil
}

// reloader handles SIGHUP.
type reloader struct {
	settings *settings
	// read reads the settings and their files again, and checks them.
	read  func() (*settings, error)
	log   *zap.Logger
	count *prometheus.CounterVec
}

// newReloader returns the reloader of a subcommand whose settings declare declares and check holds
// against each other. args are those that the settings were parsed from.
func (p *process) newReloader(s *settings, args []string, log *zap.Logger, reg prometheus.Registerer, declare func(*settings, *config.Set), check func(*settings) error) *reloader {
	r := &reloader{settings: s, log: log, count: newReloadCounter(reg), read: func() (*settings, error) {
		next, set := new(settings), config.New("reload", "")
		declare(next, set)
		_, err := set.Parse(args, p.getenv, func() error { return check(next) })
		return next, err
	}}
	return r
}

// run reloads at every hangup until ctx ends. It never ends the process: after a mistake in a file, all
// previous values stay in effect.
func (r *reloader) run(ctx context.Context, hangups <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		if err := r.reload(); err != nil {
			r.count.WithLabelValues(reloadFailed).Inc()
			r.log.Error("reload failed, previous values stay in effect", zap.Error(err))
			continue
		}
		r.count.WithLabelValues(reloadOK).Inc()
		r.log.Info("reloaded certificates, keys and passwords")
	}
}

func (r *reloader) reload() error {
	next, err := r.read()
	if err != nil {
		return err
	}
	apply, err := r.settings.prepareReload(next)
	if err != nil {
		return err
	}
	apply()
	return nil
}

// certificate is the certificate of a listener. A reload replaces it. Open connections and handshakes in
// progress keep the one that they began with.
type certificate struct {
	current atomic.Pointer[tls.Certificate]
}

// newCertificate reads the certificate of the public listener.
func newCertificate(s *settings) (*certificate, error) {
	c := new(certificate)
	read := func(s *settings) (apply func(), err error) {
		pair, err := tls.LoadX509KeyPair(s.tlsCert, s.tlsKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
		}
		return func() { c.current.Store(&pair) }, nil
	}
	apply, err := read(s)
	if err != nil {
		return nil, err
	}
	apply()
	s.onReload(read)
	return c, nil
}

// config returns a configuration that asks for the certificate at each handshake.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}
