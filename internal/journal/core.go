package journal

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"orgcast/internal/event"
	"orgcast/internal/orgctx"
)

const (
	// burst is how many lines one organization may cause at once for one reason. It exceeds the
	// number of connections that most organizations have on a node, because a deploy logs a line
	// for each.
	burst = 500
	// perSecond is how many lines it may cause on average: about 4 kB per second for each reason.
	perSecond = 10
	// maxBuckets bounds the memory for the buckets, about 3 MB. When all are in use, new subjects
	// share one.
	maxBuckets = 16 << 10
	// sweepPause is how often full buckets are dropped. forgetAfter is when a bucket is dropped
	// even if its suppressed lines were not reported.
	sweepPause  = burst / perSecond * time.Second
	forgetAfter = 5 * sweepPause
)

// NewLogger returns a logger that writes its entries to w. Entries that one organization can cause
// are sampled. Of those with the same message, reason and organization, a burst passes at once, and
// after that a number per second. The rest are counted, and the next one that passes reports their
// number in "suppressed". The organization of an entry is the [orgctx.ID] or that of the
// [event.Group] among its fields, and its reason is in the fields "reason" and "code".
func NewLogger(w *Writer, encoder zapcore.Encoder, level zapcore.LevelEnabler) *zap.Logger {
	c := &core{LevelEnabler: level, encoder: encoder, out: w, limiter: &limiter{buckets: make(map[subject]*bucket)}}
	return zap.New(c, zap.ErrorOutput(zapcore.AddSync(w)))
}

// FreeText configures a logger for a library that puts variable text, such as addresses of
// strangers, into its messages. Only the first words then identify an entry.
func FreeText() zap.Option {
	return zap.WrapCore(func(inner zapcore.Core) zapcore.Core {
		c, ok := inner.(*core)
		if !ok {
			return inner
		}
		clone := *c
		clone.freeText = true
		return &clone
	})
}

// core is a [zapcore.Core] that samples.
type core struct {
	zapcore.LevelEnabler

	encoder  zapcore.Encoder
	out      *Writer
	limiter  *limiter // shared by all loggers of a process
	bound    subject  // from fields bound to the logger
	freeText bool
}

var _ zapcore.Core = (*core)(nil)

// With implements [zapcore.Core].
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	clone := *c
	clone.encoder = c.encoder.Clone()
	for i := range fields {
		fields[i].AddTo(clone.encoder)
	}
	clone.bound.look(fields)
	return &clone
}

// Check implements [zapcore.Core].
func (c *core) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write implements [zapcore.Core]. It does not block.
func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	about := c.bound
	about.logger, about.message = e.LoggerName, e.Message
	if c.freeText {
		about.message = firstWords(e.Message)
	}
	own := about.look(fields)
	suppressed, ok := c.limiter.take(about, e.Time)
	if !ok {
		c.out.sampled.Add(1)
		return nil
	}
	if suppressed > 0 && !own {
		fields = append(slices.Clip(fields), zap.Uint64("suppressed", suppressed))
	}
	line, err := c.encoder.EncodeEntry(e, fields)
	if err != nil {
		return fmt.Errorf("encode log entry: %w", err)
	}
	_, _ = c.out.Write(line.Bytes()) // it never fails
	line.Free()
	return nil
}

// Sync implements [zapcore.Core]. It does nothing, because Close of the writer waits for lines.
func (*core) Sync() error { return nil }

// subject is the key by which entries are counted. Its texts are constants of this program. They
// never contain user input.
type subject struct {
	organization            orgctx.ID
	logger, message, reason string
	code                    int64
}

// look reads the subject from fields, and reports whether the fields count suppressed entries
// themselves.
func (s *subject) look(fields []zapcore.Field) (counted bool) {
	for i := range fields {
		f := &fields[i]
		switch v := f.Interface.(type) {
		case orgctx.ID:
			s.organization = v
		case event.Group:
			s.organization = v.Organization()
		}
		switch {
		case f.Key == "suppressed":
			counted = true
		case f.Key == "reason" && f.Type == zapcore.StringType:
			s.reason = f.String
		case f.Key == "code" && f.Type == zapcore.StringType:
			s.reason = f.String
		case f.Key == "code":
			s.code = f.Integer
		}
	}
	return counted
}

// firstWords returns the start of a message: at most three words, and only words before the first
// one that contains part of an address, a number or a quotation.
func firstWords(message string) string {
	const most = 3
	rest, words := message, 0
	for words < most {
		end := strings.IndexByte(rest, ' ')
		if end < 0 {
			end = len(rest)
		}
		if strings.ContainsAny(rest[:end], "0123456789[\"") {
			break
		}
		words++
		if end == len(rest) {
			return message
		}
		rest = rest[end+1:]
	}
	return strings.Clone(message[:len(message)-len(rest)])
}

// limiter decides which entries pass. It is safe for concurrent use.
type limiter struct {
	mu      sync.Mutex
	buckets map[subject]*bucket
	sweep   time.Time // when to look for buckets to drop
}

// bucket is a token bucket.
type bucket struct {
	left       float64
	at         time.Time
	suppressed uint64
}

// take reports whether an entry passes, and if so, how many did not pass since the last one.
func (l *limiter) take(about subject, now time.Time) (suppressed uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket(about, now)
	b.refill(now)
	if b.left < 1 {
		b.suppressed++
		return 0, false
	}
	b.left--
	suppressed, b.suppressed = b.suppressed, 0
	return suppressed, true
}

func (b *bucket) refill(now time.Time) {
	if passed := now.Sub(b.at); passed > 0 { // clocks may be set back
		b.left = min(b.left+passed.Seconds()*perSecond, burst)
	}
	b.at = now
}

// bucket finds the bucket of a subject. mu is held.
func (l *limiter) bucket(about subject, now time.Time) *bucket {
	if now.After(l.sweep) {
		l.forget(now)
	}
	if b := l.buckets[about]; b != nil {
		return b
	}
	if len(l.buckets) >= maxBuckets {
		about = subject{} // shared by all subjects without a bucket
		if b := l.buckets[about]; b != nil {
			return b
		}
	}
	b := &bucket{left: burst, at: now}
	l.buckets[about] = b
	return b
}

// forget drops buckets that are full again, because a new one would be the same. mu is held.
func (l *limiter) forget(now time.Time) {
	l.sweep = now.Add(sweepPause)
	for about, b := range l.buckets {
		idle := now.Sub(b.at)
		if full := b.left+idle.Seconds()*perSecond >= burst; full && b.suppressed == 0 || idle > forgetAfter {
			delete(l.buckets, about)
		}
	}
}
