package app

import (
	"context"
	"errors"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// reloadStep prepares a part of the process for options whose files were read again, and returns a
// function that applies them. apply must not fail and must not block. All steps are prepared first,
// and applied only if none returns an error. A nil apply means that there is nothing to do. Only
// the contents of files can differ, because arguments and environment of a process do not change.
type reloadStep func(next *Options) (apply func(), err error)

// reloadSteps are the steps of a process. Each part that keeps the contents of a file (a key, a
// password, a certificate) adds one when it is created.
type reloadSteps struct{ steps []reloadStep }

func (r *reloadSteps) add(step reloadStep) { r.steps = append(r.steps, step) }

// prepare runs all steps and returns a function that applies them, or the errors of all steps.
func (r *reloadSteps) prepare(next *Options) (apply func(), err error) {
	var applies []func()
	var errs []error
	for _, step := range r.steps {
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
	steps *reloadSteps
	// read reads the options and their files again, and checks them.
	read  func() (*Options, error)
	log   *zap.Logger
	count *prometheus.CounterVec
}

// run reloads at every hangup until ctx ends. It never ends the process: after a mistake in a file,
// all previous values stay in effect.
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
		r.log.Info("reloaded certificates, keys, passwords and routes")
	}
}

func (r *reloader) reload() error {
	next, err := r.read()
	if err != nil {
		return err
	}
	apply, err := r.steps.prepare(next)
	if err != nil {
		return err
	}
	apply()
	return nil
}
