package app

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"orgcast/internal/journal"
)

// NewLogger returns the log of the process, and redirects the logs of libraries to it. The level
// can be changed later.
func (o *Options) NewLogger(w *journal.Writer) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(o.LogLevel)
	if err != nil {
		return nil, level, fmt.Errorf("log level: %w", err)
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.ISO8601TimeEncoder
	encoding.EncodeDuration = zapcore.SecondsDurationEncoder
	encoder := zapcore.NewJSONEncoder(encoding)
	if o.LogFormat == "console" {
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	log := journal.NewLogger(w, encoder, level)
	logRedis(log, w)
	if _, err := zap.RedirectStdLogAt(log.Named("library").WithOptions(journal.FreeText()), zapcore.WarnLevel); err != nil {
		return nil, level, fmt.Errorf("log: %w", err)
	}
	return log, level, nil
}

// redisLog receives the client library's own log lines, for the whole process.
type redisLog struct{ log *zap.Logger }

// logRedis redirects the Redis library's log to log. While Redis is unreachable, the library
// repeats its lines with each dial, so each line passes once a second.
func logRedis(log *zap.Logger, w *journal.Writer) {
	once := zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Second, 1, 0, zapcore.SamplerHook(func(_ zapcore.Entry, d zapcore.SamplingDecision) {
			if d&zapcore.LogDropped != 0 {
				w.CountSampled()
			}
		}))
	})
	redis.SetLogger(redisLog{log.Named("redis").WithOptions(journal.FreeText(), once)})
}

// Printf implements the library's interface.
func (l redisLog) Printf(_ context.Context, format string, args ...any) {
	l.log.Info(fmt.Sprintf(format, args...))
}
