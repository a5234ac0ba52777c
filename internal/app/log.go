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

// NewLogger makes the log of the process. What libraries log by themselves goes there, too.
func (o *Options) NewLogger(w *journal.Writer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(o.LogLevel)
	if err != nil {
		return nil, fmt.Errorf("log level: %w", err)
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
		return nil, fmt.Errorf("log: %w", err)
	}
	return log, nil
}

// redisLog takes what the client library logs by itself, for the whole process.
type redisLog struct{ log *zap.Logger }

// logRedis puts it into the log, in the log's form. While Redis is away the library says the same
// again and again, with each dial, so each line passes once in a second.
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
