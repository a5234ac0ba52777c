package app

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"

	"go.uber.org/zap"

	"orgcast/internal/api"
)

// reloadStep prepares a part of the process for options that were read again, and returns a
// function that applies them. apply must not fail and must not block. All steps are prepared first,
// and applied only if none returns an error. A nil apply means that there is nothing to do. Options
// that cannot change while the process runs are the same as before.
type reloadStep func(next *Options) (apply func(), err error)

// reloadSteps are the steps of a process. Each part whose settings may change, or that keeps the
// contents of a file (a key, a password, a certificate), adds one when it is created.
type reloadSteps struct {
	steps []reloadStep
	// certificates are those of the steps that read certificates. They also run when only a
	// certificate has changed.
	certificates []reloadStep
}

func (r *reloadSteps) add(step reloadStep) { r.steps = append(r.steps, step) }

// addCertificates adds a step that reads certificates.
func (r *reloadSteps) addCertificates(step reloadStep) {
	r.add(step)
	r.certificates = append(r.certificates, step)
}

// prepare runs all steps and returns a function that applies them, or the errors of all steps.
func prepare(steps []reloadStep, next *Options) (apply func(), err error) {
	var applies []func()
	var errs []error
	for _, step := range steps {
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

// Reread are the options of a process as they were read again.
type Reread struct {
	Options *Options
	// Changed are the names of the settings whose values differ from those in effect.
	Changed []string
	// Applied is called when the options are in effect. It may be nil.
	Applied func()
}

// RestartError refuses a reload because settings have changed that cannot change while the process
// runs.
type RestartError struct{ Settings []string }

// Error implements error.
func (e *RestartError) Error() string {
	return "needs a restart: --" + strings.Join(e.Settings, ", --")
}

// reloader reads settings and files again, when SIGHUP or the API asks for it, and certificates
// when their files change. It never ends the process: after a mistake, all previous values stay in
// effect.
type reloader struct {
	steps *reloadSteps
	// read reads the options and their files again, and checks them.
	read    func() (Reread, error)
	log     *zap.Logger
	metrics *reloadMetrics

	mu      sync.Mutex // one reload at a time; it reads files meanwhile, and nothing else waits for it
	current *Options
}

// run reloads at every hangup until ctx ends.
func (r *reloader) run(ctx context.Context, hangups <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		_, _ = r.reload() // it has logged the error
	}
}

// reload reads everything again and applies it, or nothing of it. It returns the names of the
// settings that have another value now.
func (r *reloader) reload() (changed []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, err := r.read()
	var apply func()
	if err == nil {
		apply, err = prepare(r.steps.steps, next.Options)
	}
	if err != nil {
		r.metrics.reloads.WithLabelValues(reloadFailed).Inc()
		r.log.Error("reload failed, previous values stay in effect", zap.Error(err))
		return nil, err
	}
	apply()
	if r.current = next.Options; next.Applied != nil {
		next.Applied()
	}
	r.metrics.reloads.WithLabelValues(reloadOK).Inc()
	r.log.Info("settings reloaded", zap.Strings("changed", next.Changed))
	for _, text := range next.Options.Warnings() {
		r.log.Warn("configuration warning", zap.String("warning", text))
	}
	return next.Changed, nil
}

// Reload implements [api.Reloader].
func (r *reloader) Reload() (api.Reloaded, error) {
	changed, err := r.reload()
	if restart := new(RestartError); errors.As(err, &restart) {
		return api.Reloaded{Restart: restart.Settings}, err
	}
	return api.Reloaded{Changed: changed}, err
}

// refresh reads the certificates again, and nothing else.
func (r *reloader) refresh() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	apply, err := prepare(r.steps.certificates, r.current)
	if err != nil {
		return err
	}
	apply()
	r.metrics.certificates.WithLabelValues(reloadOK).Inc()
	r.log.Info("certificates reloaded")
	return nil
}

// options returns the options that are in effect.
func (r *reloader) options() *Options {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}
