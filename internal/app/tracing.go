package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"orgcast/internal/tracing"
)

// flushSpans is how long the end of a process waits for the collector to take the last spans.
const flushSpans = 3 * time.Second

// startTracing starts what sends spans, if the options say where to. Parts that were acquired later
// end first, so their last spans are sent too.
func startTracing(o *Options, log *zap.Logger, metrics prometheus.Registerer, undo *stack) *tracing.Tracer {
	t := tracing.New(o.Tracing, tracing.Parts{Version: o.Version, Log: log, Registerer: metrics})
	if t == nil {
		return nil
	}
	undo.add("spans", undoTimeout, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, flushSpans)
		defer cancel()
		if err := t.Close(ctx); err != nil {
			log.Warn("last spans not sent", zap.Error(err)) // a collector that is away is no failure of the process
		}
		return nil
	})
	return t
}
