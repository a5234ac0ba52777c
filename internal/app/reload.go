package app

import (
	"context"
	"errors"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// reloadStep prepares a part of the process for options whose files were read again, and returns a
// function that applies them. apply must not fail and must not wait: all steps are prepared first,
// and applied only if none of them found a mistake. A nil apply means that there is nothing to do.
// Only what files say can differ: arguments and environment of a process stay as they are.
type reloadStep func(next *Options) (apply func(), err error)

// reloadSteps are those of a process. Parts that keep what a file said (a key, a password, a
// certificate) register one while they are made.
type reloadSteps struct{ steps []reloadStep }

func (r *reloadSteps) add(step reloadStep) { r.steps = append(r.steps, step) }

// prepare runs all steps and returns what applies them, or every mistake that they found.
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
